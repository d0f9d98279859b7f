// Runs the end-to-end tests in Chromium. Specs are loaded and run in children of this process: Playwright's command line would load them
// into the process that reports, so its runner is used as its own editor integration uses it.

import { mkdirSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

import { check, CouldNotRun, cut, FINDINGS, project, relative, seconds, tool, toolchain } from './report.mjs';
import { tree, watched } from './unchanged.mjs';

const require = createRequire(import.meta.url);
const CONFIGURATION = path.join(toolchain, 'config', 'playwright.config.mjs');
const SPECS = path.join(project, 'e2e');

function environment() {
  const { BASE_URL: address, OUTPUT_DIR: output, RETRIES: retries = '0' } = process.env;
  if (!URL.canParse(address ?? '')) {
    throw new CouldNotRun(`BASE_URL is ${JSON.stringify(address)}, but it must be the address where the application is served`);
  }
  if (!path.isAbsolute(output ?? '')) {
    throw new CouldNotRun(`OUTPUT_DIR is ${JSON.stringify(output)}, but it must be an absolute path`);
  }
  if (!/^[0-5]$/.test(retries)) {
    throw new CouldNotRun(`RETRIES is ${JSON.stringify(retries)}, but it must be a number from 0 to 5`);
  }
  mkdirSync(output, { recursive: true });
  process.env.RETRIES = retries;
  process.env.PLAYWRIGHT_BROWSERS_PATH = path.join(toolchain, 'browsers');
  // For the processes that load and run specs; this one is running already.
  process.env.NODE_OPTIONS = `--import=${pathToFileURL(path.join(toolchain, 'config', 'playwright-modules.mjs'))}`;
  return { output: realpathSync(output), retries: Number(retries) };
}

function specs() {
  return tree(SPECS).filter((name) => /\.(?:spec|test)\.[cm]?[jt]sx?$/.test(name));
}

/** What the runner hands over; it takes other retries from outside than from the configuration, so they are given once more. */
function runnerOf(TestRunner, retries) {
  return class extends TestRunner {
    _loadConfigOrReportError(reporter, overrides) {
      return super._loadConfigOrReportError(reporter, { ...overrides, retries });
    }
  };
}

async function run(retries) {
  const seen = { suite: undefined, errors: [], status: undefined };
  const reporter = {
    version: () => 'v2',
    printsToStdio: () => false,
    onBegin(suite) {
      seen.suite = suite;
    },
    onError(error) {
      seen.errors.push(error);
    },
    onEnd({ status }) {
      seen.status = status;
    },
  };
  const { TestRunner } = require('playwright/lib/runner').testRunner ?? {};
  if (typeof TestRunner?.prototype._loadConfigOrReportError !== 'function') {
    throw new CouldNotRun('this version of Playwright is not the one that the check was made for');
  }
  const Runner = runnerOf(TestRunner, retries);
  const runner = new Runner({ resolvedConfigFile: CONFIGURATION, configDir: path.dirname(CONFIGURATION) }, {});
  await runner.initialize({});
  await runner.runTests(reporter, { failOnLoadErrors: true });
  await runner.stop();
  if (seen.status === undefined || (!seen.suite && seen.errors.length === 0)) {
    throw new CouldNotRun('Playwright ended without results');
  }
  return seen;
}

function stateOf(test) {
  const last = test.results.at(-1);
  if (!last || (last.status === 'skipped' && test.expectedStatus !== 'skipped')) {
    return { state: 'failed', message: 'the test did not run: something before it failed' };
  }
  if (last.status === 'skipped') {
    return { state: 'skipped' };
  }
  if (test.expectedStatus !== 'passed') {
    return { state: 'failed', message: 'the test is declared to fail, so it shows nothing: assert what is right instead' };
  }
  const message = cut(test.results.flatMap(({ errors }) => errors.map((error) => error.stack ?? error.message ?? error.value)).join('\n'));
  if (last.status !== 'passed') {
    return { state: 'failed', message: message || `the test ended as ${last.status}` };
  }
  return test.results.length > 1 ? { state: 'flaky', message } : { state: 'passed' };
}

/** Attachments are named by the test: only what lies in the output directory is handed on. */
function attachments(test, output) {
  const found = [];
  for (const { name, path: file, contentType } of test.results.flatMap((result) => result.attachments)) {
    try {
      if (file && realpathSync(file).startsWith(`${output}${path.sep}`) && statSync(file).isFile()) {
        found.push({ name: cut(name), path: realpathSync(file), contentType });
      }
    } catch {
      // It is gone, so there is nothing to hand on.
    }
  }
  return found;
}

function tested(test, output) {
  const found = attachments(test, output);
  return {
    file: relative(test.location.file),
    // Without the names of the root, of the browser's project and of the file.
    name: test.titlePath().slice(3).join(' > '),
    ...stateOf(test),
    seconds: seconds(test.results.reduce((sum, { duration }) => sum + duration, 0)),
    ...(found.length > 0 ? { attachments: found } : {}),
  };
}

await check(async () => {
  const { output, retries } = environment();
  const report = { check: 'e2e', tool: tool('@playwright/test', 'playwright') };
  if (specs().length === 0) {
    return { ...report, tests: [], errors: [] };
  }
  const changed = watched(specs());
  const { suite, errors, status } = await run(retries);
  const tests = (suite?.allTests() ?? []).map((test) => tested(test, output));
  const found = errors.map((error) => cut(`${error.location ? `${relative(error.location.file)}: ` : ''}${error.stack ?? error.message ?? error.value}`));
  found.push(...changed());
  if (tests.length === 0 && found.length === 0) {
    found.push('the spec files hold no test');
  }
  if (status !== 'passed' && found.length === 0 && tests.every(({ state }) => state !== 'failed')) {
    found.push(`Playwright ended as ${status}`);
  }
  return { ...report, tests, errors: found.slice(0, FINDINGS) };
});
