// Tells whether files were touched while code of the project ran: a test could empty the sources before they are counted, or the tests that
// come after it. The time of the last change of an inode is kept by the kernel and cannot be set back.

import { lstatSync, readdirSync } from 'node:fs';
import path from 'node:path';

import { relative } from './report.mjs';

function stamp(file) {
  const { ctimeNs, ino } = lstatSync(file, { bigint: true, throwIfNoEntry: false }) ?? {};
  return `${ino} ${ctimeNs}`;
}

/** A directory with all that is in it, or nothing when there is none. */
export function tree(directory) {
  try {
    return [directory, ...readdirSync(directory, { recursive: true }).map((name) => path.join(directory, name))];
  } catch {
    return [];
  }
}

/** Remembers files and directories now, and returns a function that describes the ones touched since. */
export function watched(files) {
  const before = new Map(files.map((file) => [file, stamp(file)]));
  return () =>
    [...before].filter(([file, then]) => stamp(file) !== then).map(([file]) => `${relative(file)}: it was changed while the tests ran`);
}
