import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import typescript from 'typescript-eslint';

export default defineConfig(
  globalIgnores(['coverage/', 'dist/', 'playwright-report/', 'test-results/']),
  js.configs.recommended,
  typescript.configs.strict,
  typescript.configs.stylistic,
  { rules: { eqeqeq: 'error' } },
);
