// What all checks share: one JSON document on file descriptor 3, written at the very end, and nothing when the check could not run.
//
// Whoever wrote the project may want to cheat. So code of the project never runs in a check's own process: it runs in children, which do not
// inherit descriptor 3 (Node marks what it inherited close-on-exec) and cannot open it by /proc (the image's node may be executed but not
// read, and the kernel hides the processes of such a program from their peers).

import { fstatSync, readFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const DESCRIPTOR = 3;
/** Longest report, in bytes. */
export const REPORT_BYTES = 8 * 1024 * 1024;
/** Longest message, in characters. */
const MESSAGE_CHARACTERS = 2000;
/** More findings than these are counted, not named. */
export const FINDINGS = 1000;

/** Where the image keeps its tools; a directory of its own, so that nothing of the project is ever found first. */
export const toolchain = path.resolve(import.meta.dirname, '..');
/** The project that is checked. */
export const project = process.cwd();

const require = createRequire(import.meta.url);

/** The reason why a check could not run, in words for people. */
export class CouldNotRun extends Error {}

/** Name and version of one of the image's packages. */
export function tool(packageName, name = packageName) {
  return { name, version: versionOf(path.join(toolchain, 'node_modules', packageName)) };
}

/** The version of the package in a directory. */
export function versionOf(directory) {
  return require(path.join(directory, 'package.json')).version;
}

/** A path as reports name it: relative to the project, with forward slashes. */
export function relative(file) {
  return path.relative(project, file).split(path.sep).join('/');
}

/** Whether a file belongs to the project itself, and not to its dependencies. */
export function isOwn(file) {
  const name = relative(file);
  return name !== '' && !path.isAbsolute(name) && !name.split('/').some((part) => part === '..' || part === 'node_modules');
}

/** A message without terminal colours and of bounded length. */
export function cut(message) {
  // eslint-disable-next-line no-control-regex -- that is what colours are made of
  const plain = String(message ?? '').replace(/\u001b\[[0-9;]*[A-Za-z]/g, '').trim();
  return plain.length <= MESSAGE_CHARACTERS ? plain : `${plain.slice(0, MESSAGE_CHARACTERS - 1)}…`;
}

/** Milliseconds as seconds, to the millisecond. */
export function seconds(milliseconds = 0) {
  return Math.round(Math.max(0, milliseconds)) / 1000;
}

/** The text of a file, or undefined when there is none. */
export function textOf(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') {
      return undefined;
    }
    throw error;
  }
}

function write(text) {
  const bytes = Buffer.from(text, 'utf8');
  if (bytes.length > REPORT_BYTES) {
    throw new CouldNotRun(`the report has ${bytes.length} bytes, but at most ${REPORT_BYTES} are taken: check a smaller project`);
  }
  for (let written = 0; written < bytes.length; ) {
    try {
      written += writeSync(DESCRIPTOR, bytes, written);
    } catch (error) {
      // The reader may have made the pipe non-blocking; it is reading, so it will have room again.
      if (error.code !== 'EAGAIN') {
        throw error;
      }
    }
  }
}

function insistOnPipe() {
  let kind;
  try {
    kind = fstatSync(DESCRIPTOR);
  } catch {
    throw new CouldNotRun('file descriptor 3 is closed, but the report goes there: run the check with a pipe as descriptor 3');
  }
  if (!kind.isFIFO() && !kind.isSocket()) {
    throw new CouldNotRun('file descriptor 3 is no pipe, but only a pipe cannot be read or changed afterwards');
  }
}

/** Runs a check, writes the report it returns, and ends the process. */
export async function check(run) {
  // Should the work dry up without a report, then that is no success.
  process.exitCode = 1;
  // By default this signal lets whoever sends it debug the process, which means run anything in it.
  process.on('SIGUSR1', () => {});
  process.on('beforeExit', () => process.stderr.write('could not run: a process that the check waited for is gone without an answer\n'));
  try {
    insistOnPipe();
    write(JSON.stringify(await run()));
  } catch (error) {
    process.stderr.write(`could not run: ${error instanceof CouldNotRun ? error.message : (error?.stack ?? error)}\n`);
    process.exit(1);
  }
  process.exit(0);
}
