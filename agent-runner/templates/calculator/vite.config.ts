import { defineConfig } from 'vite';

// Relative addresses, so that the built page works below any path.
export default defineConfig({ base: './' });
