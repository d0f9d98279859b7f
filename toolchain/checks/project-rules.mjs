// Loads the project's ESLint configuration, which is a program, and writes the rules that it has for the files named on standard input
// to descriptor 3. A child of the lint check, never run by itself.

import { readFileSync, writeSync } from 'node:fs';
import path from 'node:path';

import { ESLint } from 'eslint';

import { isOwn, project } from './report.mjs';

const files = JSON.parse(readFileSync(0, 'utf8'));
// Node strips the types of a configuration in TypeScript itself.
const eslint = new ESLint({ cwd: project, flags: ['unstable_native_nodejs_ts_config'] });
const rules = {};
for (const file of files) {
  const absolute = path.join(project, file);
  // A configuration of some directory above is none of the project's.
  const configuration = await eslint.findConfigFile(absolute);
  if (configuration && isOwn(configuration)) {
    const { rules: own = {} } = (await eslint.calculateConfigForFile(absolute)) ?? {};
    rules[file] = Object.fromEntries(Object.entries(own).map(([name, setting]) => [name, Array.isArray(setting) ? setting[0] : setting]));
  }
}
writeSync(3, JSON.stringify(rules));
process.exit(0);
