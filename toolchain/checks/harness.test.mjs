// What the tests of the checks share: how a check is run, and projects to run it on. Each directory of fixtures holds the files by which a
// cheating project differs from the good one.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before } from 'node:test';

export const toolchain = process.env.STAGECRAFT_TOOLCHAIN ?? '/opt/stagecraft';
export const fixtures = path.resolve(import.meta.dirname, '..', 'fixtures');
export const scratch = mkdtempSync(path.join(tmpdir(), 'stagecraft-checks-'));
export const installed = path.join(scratch, 'installed');
export const home = path.join(scratch, 'home');

/** Runs a check as the agent's program does: status, what came by the pipe, and the report if that was exactly one document. */
export function run(name, project, variables = {}, descriptor = 'pipe') {
  const child = spawn(process.execPath, [path.join(toolchain, 'checks', `${name}.mjs`)], {
    cwd: project,
    env: { PATH: process.env.PATH, HOME: home, TMPDIR: scratch, LANG: 'C.UTF-8', CI: '1', NO_COLOR: '1', ...variables },
    stdio: ['ignore', 'pipe', 'pipe', descriptor],
  });
  let document = '';
  let output = '';
  child.stdio[3]?.on('data', (part) => (document += part));
  child.stdout.on('data', (part) => (output += part));
  child.stderr.on('data', (part) => (output += part));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (status, signal) => setImmediate(() => {
      for (const stream of child.stdio) {
        stream?.destroy();
      }
      let report;
      try {
        report = status === 0 ? JSON.parse(document) : undefined;
      } catch {
        report = undefined;
      }
      resolve({ status, signal, document, output, report });
    }));
  });
}

/** The good project, changed by a fixture or by a function. */
export function project(change) {
  const directory = mkdtempSync(path.join(scratch, 'project-'));
  execFileSync('cp', ['--archive', '--link', `${installed}/.`, directory]);
  if (typeof change === 'function') {
    change(directory);
  } else if (change) {
    const overlay = path.join(fixtures, change);
    assert.ok(existsSync(overlay), `there is no fixture ${change}`);
    // The files are shared with the good project: replace them, never write into them.
    cpSync(overlay, directory, { recursive: true, filter: (source, target) => {
      if (existsSync(target) && !source.endsWith(change) && !execFileSync('stat', ['--format=%F', source]).includes('directory')) {
        rmSync(target);
      }
      return true;
    } });
  }
  return directory;
}

export async function report(name, change, variables) {
  const ran = await run(name, project(change), variables);
  assert.ok(ran.report, `${name} could not run (status ${ran.status}): ${ran.output.slice(-2000)}`);
  assert.equal(ran.report.check, name);
  assert.match(ran.report.tool.version, /^\d+\.\d+\.\d+/);
  return ran.report;
}

export async function refused(name, change, reason, variables) {
  const ran = await run(name, project(change), variables);
  assert.equal(ran.report, undefined, `a report although ${reason}: ${ran.document.slice(0, 500)}`);
  assert.match(ran.output, reason);
}

export const remove = (...names) => (directory) => names.forEach((name) => rmSync(path.join(directory, name), { recursive: true, force: true }));
export const addDependency = (text) => {
  const manifest = JSON.parse(text);
  manifest.dependencies = { ...manifest.dependencies, 'left-pad': '1.3.0' };
  return JSON.stringify(manifest);
};
export const replace = (name, change) => (directory) => {
  const file = path.join(directory, name);
  const text = readFileSync(file, 'utf8');
  rmSync(file);
  writeFileSync(file, change(text));
};

/** The check reports that nothing was won, or it could not run. */
export async function nobodyWins(name, change, variables) {
  const ran = await run(name, project(change), variables);
  if (ran.report) {
    nothingWon(ran.report);
  } else {
    assert.notEqual(ran.status, 0);
    assert.notEqual(ran.output.trim(), '', 'nothing says why the check could not run');
  }
}

/** No test passed but those of the good project. */
export function nothingWon({ tests, errors }) {
  const won = tests.filter(({ file, state }) => state === 'passed' && !/tests\/(?:sum|main)\.test\.ts|e2e\/sum\.spec\.ts/.test(file));
  assert.deepEqual(won, []);
  assert.deepEqual(tests.filter(({ state }) => !['passed', 'failed', 'skipped', 'flaky'].includes(state)), []);
  assert.ok(errors.length > 0 || tests.some(({ state }) => state === 'failed'), `nothing is wrong: ${JSON.stringify(tests)}`);
}

/** Makes the good project before the tests of a file, and takes everything away after them. */
export function prepare() {
  after(() => rmSync(scratch, { recursive: true, force: true }));
  before(async () => {
    cpSync(path.join(fixtures, 'good'), installed, { recursive: true });
    for (const name of ['package.json', 'package-lock.json']) {
      cpSync(path.join(toolchain, 'project', name), path.join(installed, name));
    }
    const ran = await run('install', installed);
    assert.ok(ran.report?.packages > 100, `the good project cannot be installed: ${ran.output.slice(-3000)}`);
  });
}
