// Holds the image and the checks that run no tests to their contract. Runs inside the toolchain image, see ../test.sh.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { describe, test } from 'node:test';

import { addDependency, fixtures, home, prepare, project, refused, remove, replace, report, run, scratch, toolchain } from './harness.test.mjs';

prepare();

describe('every check', () => {
  test('insists on a pipe', async () => {
    for (const descriptor of ['ignore', undefined]) {
      const ran = await run('typescript', project(), {}, descriptor ?? 'inherit');
      assert.equal(ran.status, 1);
      assert.match(ran.output, /file descriptor 3 is/);
    }
  });
  test('runs on a node that its user cannot read', { skip: toolchain !== '/opt/stagecraft' }, () => {
    assert.throws(() => readFileSync(process.execPath), { code: 'EACCES' });
  });
});

describe('the image', () => {
  const versions = Object.entries(JSON.parse(readFileSync(path.resolve(import.meta.dirname, '..', 'versions.json'), 'utf8')));

  test('has the versions that projects are told to use', () => {
    // Types are for projects alone.
    for (const [name, version] of versions.filter(([name]) => !name.startsWith('@types/'))) {
      assert.equal(JSON.parse(readFileSync(path.join(toolchain, 'node_modules', name, 'package.json'), 'utf8')).version, version, name);
    }
  });
  test('can install those versions', () => {
    const lock = JSON.parse(readFileSync(path.join(toolchain, 'project', 'package-lock.json'), 'utf8'));
    for (const [name, version] of versions) {
      assert.equal(lock.packages[`node_modules/${name}`]?.version, version, name);
    }
  });
});

describe('install', () => {
  test('says that the lock file is missing', () => refused('install', remove('package-lock.json'), /package-lock\.json is missing/));
  test('says that the lock file is out of date', () =>
    refused('install', replace('package.json', addDependency), /package-lock\.json is out of date: .*left-pad/));
  test('names the package that the cache lacks', () =>
    refused('install', (directory) => {
      replace('package.json', addDependency)(directory);
      replace('package-lock.json', (text) => {
        const lock = JSON.parse(text);
        lock.packages[''].dependencies = { ...lock.packages[''].dependencies, 'left-pad': '1.3.0' };
        lock.packages['node_modules/left-pad'] = {
          version: '1.3.0', resolved: 'https://registry.npmjs.org/left-pad/-/left-pad-1.3.0.tgz',
          integrity: `sha512-${Buffer.alloc(64).toString('base64')}`,
        };
        return JSON.stringify(lock);
      })(directory);
    }, /cache lacks .*left-pad/));
  test('names packages without an address', () =>
    refused('install', replace('package-lock.json', (text) => text.replaceAll(/"resolved": "[^"]*",/g, '')), /have no "resolved" address/));
  test('uses a registry that is named', async () => {
    const source = mkdtempSync(path.join(scratch, 'package-'));
    writeFileSync(path.join(source, 'package.json'), JSON.stringify({ name: 'tiny', version: '1.0.0' }));
    execFileSync('npm', ['pack', '--silent', '--offline'], { cwd: source, env: { ...process.env, HOME: home } });
    const bytes = readFileSync(path.join(source, 'tiny-1.0.0.tgz'));
    const asked = [];
    const registry = http.createServer((request, response) => {
      asked.push(request.url);
      response.end(bytes);
    });
    await new Promise((resolve) => registry.listen(0, '127.0.0.1', resolve));
    const address = `http://127.0.0.1:${registry.address().port}/`;
    try {
      const { packages } = await report('install', (directory) => {
        remove('node_modules', 'package.json', 'package-lock.json')(directory);
        const root = { name: 'project', version: '1.0.0', dependencies: { tiny: '1.0.0' } };
        const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
        const tiny = { version: '1.0.0', resolved: 'https://registry.npmjs.org/tiny/-/tiny-1.0.0.tgz', integrity };
        writeFileSync(path.join(directory, 'package.json'), JSON.stringify(root));
        writeFileSync(path.join(directory, 'package-lock.json'), JSON.stringify({
          name: 'project', version: '1.0.0', lockfileVersion: 3, requires: true, packages: { '': root, 'node_modules/tiny': tiny },
        }));
      }, { STAGECRAFT_NPM_REGISTRY: address });
      assert.equal(packages, 1);
      assert.deepEqual(asked, ['/tiny/-/tiny-1.0.0.tgz']);
    } finally {
      registry.close();
    }
  });
  test('installs everything whatever .npmrc says', async () => {
    const { packages } = await report('install', (directory) => {
      remove('node_modules')(directory);
      cpSync(path.join(fixtures, 'install', 'dry-run'), directory, { recursive: true });
    });
    assert.ok(packages > 100);
  });
});

describe('typescript', () => {
  test('finds nothing in the good project', async () => {
    const { files, diagnostics, total } = await report('typescript');
    assert.deepEqual(diagnostics, []);
    assert.equal(total, 0);
    for (const file of ['src/main.ts', 'src/sum.ts', 'src/types.ts', 'tests/sum.test.ts', 'e2e/sum.spec.ts']) {
      assert.ok(files.includes(file), `${file} was not checked`);
    }
  });
  for (const [fixture, code] of [['wrong', 'TS2322'], ['nocheck', 'TS2322'], ['references', 'TS2322'], ['lax', 'TS7006'], ['lax', 'TS18047']]) {
    test(`finds ${code} in ${fixture}`, async () => {
      const { files, diagnostics, total } = await report('typescript', `types/${fixture}`);
      const found = diagnostics.find((diagnostic) => diagnostic.code === code);
      assert.equal(found?.file, 'src/broken.ts', JSON.stringify(diagnostics));
      assert.ok(found.line > 0 && found.column > 0);
      assert.ok(total >= 1 && files.includes('src/broken.ts'));
    });
  }
  test('does not count what tsconfig.json leaves out as checked', async () => {
    const { files } = await report('typescript', 'types/excluded');
    assert.deepEqual(files, ['vite.config.ts']);
  });
  test('finds that nothing is included', async () => {
    const { files, diagnostics } = await report('typescript', 'types/nothing-included');
    assert.deepEqual(files, []);
    assert.deepEqual(diagnostics.map(({ code }) => code), ['TS18003']);
  });
  test('finds that tsconfig.json is missing', async () => {
    const { diagnostics } = await report('typescript', remove('tsconfig.json'));
    assert.equal(diagnostics.length, 1);
    assert.equal(diagnostics[0].file, null);
  });
});

describe('eslint', () => {
  test('finds nothing in the good project', async () => {
    const { files, messages, errors, warnings, weakened } = await report('eslint');
    assert.deepEqual({ messages, errors, warnings, weakened }, { messages: [], errors: 0, warnings: 0, weakened: [] });
    for (const file of ['src/main.ts', 'src/sum.ts', 'tests/sum.test.ts', 'e2e/sum.spec.ts', 'vite.config.ts', 'eslint.config.mjs']) {
      assert.ok(files.includes(file), `${file} was not linted`);
    }
  });
  for (const [fixture, file, rule] of [
    ['lint/comment', 'src/loose.ts', 'eqeqeq'], ['lint/ignored', 'src/loose.ts', 'eqeqeq'],
    ['types/nocheck', 'src/broken.ts', '@typescript-eslint/ban-ts-comment'],
  ]) {
    test(`finds ${rule} in ${fixture}`, async () => {
      const { messages, errors } = await report('eslint', fixture);
      assert.ok(messages.some((message) => message.file === file && message.rule === rule && message.severity === 'error'));
      assert.ok(errors >= 1);
    });
  }
  test('names each rule that the project switches off', async () => {
    const { weakened } = await report('eslint', 'lint/weakened');
    assert.deepEqual(weakened.map(({ rule }) => rule).sort(), ['eqeqeq', 'no-var']);
    assert.match(weakened[0].file, /^src\//);
  });
  for (const fixture of ['lint/emptied', 'lint/weakened-by-exit', 'lint/weakened-by-forgery', 'lint/ignored']) {
    test(`takes every rule for weakened in ${fixture}`, async () => {
      assert.equal((await report('eslint', fixture)).weakened.length, 20);
    });
  }
  test('takes every rule for weakened without a configuration', async () => {
    assert.equal((await report('eslint', remove('eslint.config.mjs'))).weakened.length, 20);
  });
});

describe('build', () => {
  test('lists what it built', async () => {
    const { directory, files, errors } = await report('build');
    assert.equal(directory, 'dist');
    assert.equal(errors, undefined);
    assert.ok(files.some(({ path: name, bytes }) => name === 'index.html' && bytes > 100));
  });
  for (const [fixture, words] of [['broken', /missing/], ['exit', /wrote no file/]]) {
    test(`reports an error for ${fixture}`, async () => {
      const { files, errors } = await report('build', `build/${fixture}`);
      assert.deepEqual(files, []);
      assert.match(errors.join('\n'), words);
    });
  }
  test('lists no link that leads out', async () => {
    assert.deepEqual((await report('build', 'build/link')).files.filter(({ path: name }) => name.includes('passwd')), []);
  });
  test('does not wait for what the build leaves behind', async () => {
    assert.ok((await report('build', 'build/lingering')).files.length > 0);
  });
  test('empties the directory before', async () => {
    const { files } = await report('build', (directory) => cpSync(path.join(fixtures, 'good', 'src'), path.join(directory, 'dist', 'old'), { recursive: true }));
    assert.deepEqual(files.filter(({ path: name }) => name.startsWith('old')), []);
  });
});
