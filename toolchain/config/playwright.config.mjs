// How every project's end-to-end tests are run. The project's own Playwright configuration is a program, so it is not loaded.

import path from 'node:path';

const toolchain = path.resolve(import.meta.dirname, '..');
const output = process.env.OUTPUT_DIR;

export default {
  testDir: path.join(process.cwd(), 'e2e'),
  // A test that git ignores is a test all the same.
  respectGitIgnore: false,
  outputDir: path.join(output, 'tests'),
  reporter: [['list'], ['html', { outputFolder: path.join(output, 'report'), open: 'never' }]],
  retries: Number(process.env.RETRIES),
  fullyParallel: true,
  forbidOnly: true,
  updateSnapshots: 'none',
  use: {
    baseURL: process.env.BASE_URL,
    browserName: 'chromium',
    headless: true,
    screenshot: 'only-on-failure',
    video: 'retain-on-failure',
    trace: 'retain-on-failure',
    launchOptions: {
      executablePath: path.join(toolchain, 'bin', 'chromium'),
      // Its sandbox needs privileges that a restricted Pod has not; the Pod is the sandbox.
      chromiumSandbox: false,
    },
  },
};
