// Installs the dependencies from the lock file, without any of their scripts, from the image's cache or from a registry that was named.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

import { check, CouldNotRun, project, textOf, toolchain, versionOf } from './report.mjs';

const NPM = path.join(toolchain, 'npm');
const CACHE = path.join(toolchain, 'npm-cache', '_cacache');
/** More packages than these are not named. */
const NAMED = 10;

function read(name, remedy) {
  const text = textOf(path.join(project, name));
  if (text === undefined) {
    throw new CouldNotRun(`${name} is missing: ${remedy}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new CouldNotRun(`${name} is no JSON (${error.message}): ${remedy}`);
  }
}

/** A cache that npm may write to, since the image's is read-only; what is in there already is used where it lies. */
function cacheIn(directory, copied) {
  const cache = path.join(directory, 'cache');
  const content = path.join(cache, '_cacache');
  mkdirSync(path.join(content, 'tmp'), { recursive: true });
  for (const part of ['content-v2', 'index-v5']) {
    if (copied) {
      cpSync(path.join(CACHE, part), path.join(content, part), { recursive: true });
    } else {
      symlinkSync(path.join(CACHE, part), path.join(content, part));
    }
  }
  return cache;
}

function npm(scratch) {
  const registry = process.env.STAGECRAFT_NPM_REGISTRY;
  // What the project's .npmrc could turn to something else is said again here, where it has the last word.
  const options = [
    '--ignore-scripts', '--no-audit', '--no-fund', '--no-update-notifier', '--no-dry-run', '--no-package-lock-only', '--no-global',
    '--include=dev', '--include=optional', '--include=peer', '--logs-max=0', '--git=/usr/bin/git',
    `--cache=${cacheIn(scratch, Boolean(registry))}`, `--userconfig=${path.join(scratch, 'npmrc')}`,
    ...(registry ? [`--registry=${registry}`, '--prefer-offline', '--no-offline'] : ['--offline']),
  ];
  return spawnSync(process.execPath, [path.join(NPM, 'bin', 'npm-cli.js'), 'ci', ...options], {
    cwd: project,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 16 * 1024 * 1024,
  });
}

/** npm would ask the registry about a package that the lock file does not know, and then complain about the network. */
function insistOnAgreement(wanted, lock) {
  const root = lock.packages?.[''] ?? {};
  for (const kind of ['dependencies', 'devDependencies', 'optionalDependencies', 'peerDependencies']) {
    const [one, other] = [wanted[kind] ?? {}, root[kind] ?? {}];
    const differing = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter((name) => one[name] !== other[name]);
    if (differing.length > 0) {
      throw new CouldNotRun(
        `package-lock.json is out of date: its ${kind} differ from those of package.json in ${differing.slice(0, NAMED).join(', ')}: `
          + 'run `npm install` and commit both',
      );
    }
  }
}

/** Without an address npm asks the registry for one, and the cache holds packages, not what registries say about them. */
function insistOnAddresses(lock) {
  const without = Object.entries(lock.packages ?? {})
    .filter(([place, entry]) => place.includes('node_modules/') && !entry.link && !entry.inBundle && !entry.resolved)
    .map(([place]) => place);
  if (without.length > 0) {
    throw new CouldNotRun(
      `${without.length} packages in package-lock.json (${without.slice(0, NAMED).join(', ')}) have no "resolved" address: `
        + 'run `npm install --omit-lockfile-registry-resolved=false` and commit it, or let the validation use a registry',
    );
  }
}

function reason(output) {
  if (/code ENOTCACHED/.test(output)) {
    const missing = [...output.matchAll(/request to (\S+) failed: cache mode is 'only-if-cached'/g)].map(([, address]) => address);
    return `the image's cache lacks ${[...new Set(missing)].slice(0, NAMED).join(', ') || 'a package'}: `
      + 'use the versions of the toolchain, or let the validation use a registry';
  }
  if (/code EUSAGE/.test(output)) {
    return 'package-lock.json does not fit package.json: run `npm install` and commit both';
  }
  return 'npm ci failed: see its output above';
}

/** What is installed, by npm's own account; a project's .npmrc might have kept npm from installing what the lock file says. */
function installed(lock) {
  const found = textOf(path.join(project, 'node_modules', '.package-lock.json'));
  const present = found === undefined ? {} : (JSON.parse(found).packages ?? {});
  const missing = Object.entries(lock.packages ?? {})
    .filter(([place, entry]) => place.startsWith('node_modules/') && !entry.optional && !entry.devOptional && !entry.extraneous)
    .map(([place]) => place)
    .filter((place) => !(place in present));
  if (missing.length > 0) {
    throw new CouldNotRun(
      `npm left out ${missing.length} packages of package-lock.json (${missing.slice(0, NAMED).join(', ')}): see the project's .npmrc`,
    );
  }
  return Object.keys(present).filter((place) => place.includes('node_modules/')).length;
}

await check(() => {
  const wanted = read('package.json', 'a project needs one');
  const lock = read('package-lock.json', 'run `npm install` and commit it');
  insistOnAgreement(wanted, lock);
  if (!process.env.STAGECRAFT_NPM_REGISTRY) {
    insistOnAddresses(lock);
  }
  const scratch = mkdtempSync(path.join(tmpdir(), 'stagecraft-install-'));
  try {
    const { error, status, stdout, stderr } = npm(scratch);
    process.stderr.write(`${stdout ?? ''}${stderr ?? ''}`);
    if (error) {
      throw error;
    }
    if (status !== 0) {
      throw new CouldNotRun(reason(`${stdout}\n${stderr}`));
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return { check: 'install', tool: { name: 'npm', version: versionOf(NPM) }, packages: installed(lock) };
});
