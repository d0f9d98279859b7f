import { defineConfig } from '@playwright/test';

const address = process.env.BASE_URL;
const browser = process.env.CHROMIUM;

export default defineConfig({
  testDir: 'e2e',
  fullyParallel: true,
  forbidOnly: Boolean(process.env.CI),
  reporter: 'list',
  use: {
    browserName: 'chromium',
    baseURL: address ?? 'http://localhost:4173',
    screenshot: 'only-on-failure',
    trace: 'retain-on-failure',
    ...(browser ? { launchOptions: { executablePath: browser } } : {}),
  },
  // Where nobody serves the page already, the built one is served.
  ...(address ? {} : { webServer: { command: 'npm run build && npm run preview', url: 'http://localhost:4173' } }),
});
