// Runs the unit tests and measures which lines of the sources they cover. What is reported was handed to this process by Vitest;
// files in the project directory have no say.

import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import v8 from '@vitest/coverage-v8';
import { createVitest } from 'vitest/node';

import base from '../config/vitest.config.mjs';
import { check, CouldNotRun, cut, FINDINGS, isOwn, project, relative, seconds, tool } from './report.mjs';
import { tree, watched } from './unchanged.mjs';

/** Comments by which a source file asks not to be counted. */
const HINT = /(istanbul|[cv]8|node:coverage)(\s+)ignore/g;

/** Makes the provider count what asked not to be counted. Texts keep their length, since positions refer to them. */
async function countEverything() {
  const provider = Object.getPrototypeOf(await v8.getProvider());
  const remap = provider.remapCoverage;
  if (typeof remap !== 'function') {
    throw new CouldNotRun('this version of @vitest/coverage-v8 is not the one that the check was made for');
  }
  const heard = (text) => text?.replace(HINT, '$1$2_gnore');
  provider.remapCoverage = function counted(file, wrapper, { code, map, ...rest }, functions) {
    const sources = map && { ...map, sourcesContent: map.sourcesContent?.map(heard) };
    return remap.call(this, file, wrapper, { ...rest, code: heard(code), map: sources }, functions);
  };
}

function messageOf(errors = []) {
  return cut(errors.map((error) => error.stack?.includes(error.message) ? error.stack : error.message ?? error).join('\n'));
}

function tested(test, file) {
  const { state, errors } = test.result();
  const found = { file, name: test.fullName, state, seconds: seconds(test.diagnostic()?.duration) };
  if (state === 'pending') {
    return { ...found, state: 'failed', message: 'the test did not end' };
  }
  if (test.options.fails && state === 'passed') {
    return { ...found, state: 'failed', message: 'the test is declared to fail, so it shows nothing: assert what is right instead' };
  }
  return state === 'failed' ? { ...found, message: messageOf(errors) } : found;
}

/** What went wrong outside of any test: in a file, a suite or a hook. */
function troubles(module, file) {
  const found = [module, ...module.children.allSuites()].flatMap((suite) => suite.errors().map((error) => `${file}: ${messageOf([error])}`));
  if ([...module.children.allTests()].length === 0 && found.length === 0) {
    found.push(`${file}: the file holds no test`);
  }
  return found;
}

const SOURCES = path.join(project, 'src');

function sources() {
  return tree(SOURCES)
    .filter((file) => /\.[jt]sx?$/.test(file) && !/\.d\.ts$|\.(?:test|spec)\.[jt]sx?$/.test(file))
    .filter((file) => isOwn(file) && statSync(file, { throwIfNoEntry: false })?.isFile());
}

function covered(map) {
  const files = {};
  for (const name of map.files()) {
    const hits = Object.values(map.fileCoverageFor(name).getLineCoverage());
    files[relative(name)] = { lines: hits.length, covered: hits.filter((count) => count > 0).length };
  }
  for (const file of sources()) {
    const name = relative(file);
    if (!(name in files)) {
      // It could not even be parsed, so nothing of it was run.
      files[name] = { lines: readFileSync(file, 'utf8').split('\n').filter((line) => line.trim()).length, covered: 0 };
    }
  }
  return Object.fromEntries(Object.entries(files).sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** Tests, errors and coverage, by way of a reporter in this process. */
async function run(scratch) {
  const seen = { ended: false, modules: [], errors: [], coverage: undefined };
  const reporter = {
    onTestRunEnd(modules, errors) {
      seen.ended = true;
      seen.modules = modules;
      seen.errors = errors;
    },
    onCoverage(map) {
      seen.coverage = map;
    },
  };
  const test = {
    ...base.test,
    root: project,
    config: false,
    reporters: [...base.test.reporters, reporter],
    attachmentsDir: path.join(scratch, 'attachments'),
    coverage: { ...base.test.coverage, reportsDirectory: path.join(scratch, 'coverage') },
  };
  const vitest = await createVitest({ root: project, config: false, watch: false }, {
    ...base,
    root: project,
    cacheDir: path.join(scratch, 'cache'),
    test,
  });
  const specifications = await vitest.globTestSpecifications();
  const changed = watched([...tree(SOURCES), ...specifications.map(({ moduleId }) => moduleId)]);
  try {
    await vitest.start();
  } catch (error) {
    // Without any test file Vitest measures the coverage, says that there were none, and throws.
    if (specifications.length > 0 || error?.code !== 'VITEST_FILES_NOT_FOUND') {
      throw error;
    }
  }
  if (!seen.ended || !seen.coverage) {
    throw new CouldNotRun('Vitest ended without results or without coverage');
  }
  const touched = changed();
  const known = new Set(seen.modules.map(({ moduleId }) => moduleId));
  const lost = specifications.map(({ moduleId }) => moduleId).filter((id) => !known.has(id));
  await vitest.close();
  return { ...seen, lost, touched };
}

await check(async () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'stagecraft-tests-'));
  try {
    await countEverything();
    const { modules, errors, coverage, lost, touched } = await run(scratch);
    const found = [
      ...touched,
      ...lost.map((id) => `${relative(id)}: the file was not run`),
      ...errors.map((error) => messageOf([error])),
      ...modules.flatMap((module) => troubles(module, relative(module.moduleId))),
    ];
    return {
      check: 'tests',
      tool: tool('vitest'),
      tests: modules.flatMap((module) => [...module.children.allTests()].map((test) => tested(test, relative(module.moduleId)))),
      errors: found.slice(0, FINDINGS),
      coverage: { files: covered(coverage) },
    };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
});
