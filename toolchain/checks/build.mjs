// Builds for production with the image's Vite and the project's configuration, which is a program and so runs in a process of its own.

import { spawn } from 'node:child_process';
import { lstatSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';

import { check, cut, project, tool, toolchain } from './report.mjs';

const DIRECTORY = 'dist';
/** Of the output, so many last characters are kept for the report. */
const TAIL = 4000;

/** Runs Vite; its output goes to people, and its end into the report should it fail. */
function build(target) {
  const vite = path.join(toolchain, 'node_modules', 'vite', 'bin', 'vite.js');
  const child = spawn(process.execPath, [vite, 'build', '--outDir', target, '--emptyOutDir'], {
    cwd: project,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let tail = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8');
    stream.on('data', (text) => {
      process.stderr.write(text);
      tail = (tail + text).slice(-TAIL);
    });
  }
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    // Not `close`: a process that the build left behind may hold the streams open for good.
    child.on('exit', (status, signal) => setImmediate(() => resolve({ status, signal, tail })));
  });
}

/** Regular files only: a link may lead out of the directory, so nobody may serve or pack it. */
function files(target) {
  if (!lstatSync(target, { throwIfNoEntry: false })?.isDirectory()) {
    return [];
  }
  return readdirSync(target, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .map((file) => ({ path: path.relative(target, file).split(path.sep).join('/'), bytes: lstatSync(file).size }))
    .sort((one, other) => (one.path < other.path ? -1 : 1));
}

await check(async () => {
  const target = path.join(project, DIRECTORY);
  rmSync(target, { recursive: true, force: true });
  const { status, signal, tail } = await build(target);
  const report = { check: 'build', tool: tool('vite'), directory: DIRECTORY };
  if (status !== 0) {
    const how = status === null ? `was ended by ${signal}` : `ended with status ${status}`;
    return { ...report, files: [], errors: [cut(`vite build ${how}\n${tail}`)] };
  }
  const built = files(target);
  return built.length > 0 ? { ...report, files: built } : { ...report, files: [], errors: ['vite build wrote no file into dist'] };
});
