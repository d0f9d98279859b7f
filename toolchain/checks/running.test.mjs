// Holds the checks that run a project's tests to their contract: whoever writes the tests may cheat. Runs inside the toolchain image, see
// ../test.sh.

import assert from 'node:assert/strict';
import { cpSync, createReadStream, existsSync, mkdtempSync, readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';

import { fixtures, installed, nobodyWins, nothingWon, prepare, project, refused, remove, report, run, scratch, toolchain } from './harness.test.mjs';

prepare();

describe('tests', () => {
  test('passes the good project', async () => {
    const { tests, errors, coverage } = await report('tests');
    assert.deepEqual(tests.map(({ file, name, state }) => `${state} ${file} ${name}`).sort(),
      ['passed tests/main.test.ts shows the sum', 'passed tests/sum.test.ts adds']);
    assert.deepEqual(errors, []);
    assert.deepEqual(coverage.files['src/main.ts'], { lines: 4, covered: 4 });
    assert.deepEqual(coverage.files['src/sum.ts'], { lines: 1, covered: 1 });
  });
  for (const fixture of [
    'exit-at-import', 'exit-in-test', 'exit-in-hook', 'really-exit', 'debugger', 'only', 'declared-to-fail', 'empty', 'no-suite',
  ]) {
    test(`lets nobody win by ${fixture}`, async () => nothingWon(await report('tests', `tests/${fixture}`)));
  }
  test('lets nobody win by replacing globals', () => nobodyWins('tests', 'tests/globals'));
  for (const [fixture, file] of [['changes-source', 'src/sum.ts'], ['changes-test', 'tests/z.test.ts']]) {
    test(`tells that ${file} was changed meanwhile`, async () => {
      assert.ok((await report('tests', `tests/${fixture}`)).errors.includes(`${file}: it was changed while the tests ran`));
    });
  }
  test('keeps its descriptors and its memory from tests', { skip: toolchain !== '/opt/stagecraft' }, async () => {
    for (const fixture of ['tests/forged-report', 'tests/memory']) {
      nothingWon(await report('tests', fixture));
    }
  });
  test('makes no report when it is killed', async () => {
    const ran = await run('tests', project('tests/kill-parent'));
    assert.equal(ran.signal, 'SIGKILL');
    assert.equal(ran.document, '');
  });
  test('tells of a failing hook and of a rejection that nobody handled', async () => {
    for (const [fixture, words] of [['failing-hook', /the hook is wrong/], ['unhandled', /nobody looks/]]) {
      assert.match((await report('tests', `tests/${fixture}`)).errors.join('\n'), words);
    }
  });
  test('counts skipped tests as skipped', async () => {
    const { tests } = await report('tests', 'tests/skip');
    assert.deepEqual(tests.filter(({ file }) => file.includes('cheat')).map(({ state }) => state), ['skipped', 'skipped']);
  });
  test('reports no test where there is none, and nothing covered', async () => {
    const { tests, errors, coverage } = await report('tests', remove('tests'));
    assert.deepEqual({ tests, errors }, { tests: [], errors: [] });
    assert.deepEqual(coverage.files['src/main.ts'], { lines: 4, covered: 0 });
  });
  test('does not believe coverage that a test wrote', async () => {
    const { coverage } = await report('tests', 'tests/forged-coverage');
    assert.deepEqual(coverage.files['src/untested.ts'], { lines: 2, covered: 0 });
  });
  for (const file of ['whole', 'region', 'next', 'mapped']) {
    test(`counts a file that asks not to be counted: ${file}`, async () => {
      assert.deepEqual((await report('tests', 'tests/coverage-hints')).coverage.files[`src/${file}.ts`], { lines: 2, covered: 0 });
    });
  }
  test('counts a file that cannot be parsed', async () => {
    assert.deepEqual((await report('tests', 'tests/unparsable')).coverage.files['src/broken.ts'], { lines: 1, covered: 0 });
  });
  test('loads no configuration of the project', async () => {
    const { tests } = await report('tests', 'tests/project-configuration');
    assert.deepEqual(tests.map(({ state }) => state), ['passed', 'passed']);
  });
  test('leaves nothing behind', async () => {
    const directory = project();
    await run('tests', directory);
    for (const name of ['coverage', '.vitest-attachments', 'node_modules/.vite', 'node_modules/.vitest']) {
      assert.ok(!existsSync(path.join(directory, name)), `${name} is there`);
    }
  });
});

describe('e2e', () => {
  const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };
  let server;
  let address;

  before(async () => {
    await run('build', installed);
    server = http.createServer((request, response) => {
      const file = path.join(installed, 'dist', path.normalize(request.url === '/' ? '/index.html' : request.url));
      response.setHeader('content-type', types[path.extname(file)] ?? 'application/octet-stream');
      createReadStream(file).on('error', () => response.writeHead(404).end()).pipe(response);
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    address = `http://127.0.0.1:${server.address().port}/`;
  });
  after(() => server.close());

  const variables = (output = mkdtempSync(path.join(scratch, 'output-'))) => ({ BASE_URL: address, OUTPUT_DIR: output, RETRIES: '1' });
  const e2e = (fixture, output) => report('e2e', fixture, variables(output));
  /** What came of the tests that the good project does not have. */
  const added = ({ tests }) => tests.filter(({ file }) => file !== 'e2e/sum.spec.ts');

  test('passes the good project', async () => {
    const output = mkdtempSync(path.join(scratch, 'output-'));
    const { tests, errors } = await e2e(undefined, output);
    assert.deepEqual(errors, []);
    assert.deepEqual(tests.map(({ file, name, state }) => ({ file, name, state })),
      [{ file: 'e2e/sum.spec.ts', name: 'shows the sum', state: 'passed' }]);
    assert.ok(existsSync(path.join(output, 'report', 'index.html')));
  });
  test('keeps picture, video and trace of a failed test', async () => {
    const output = mkdtempSync(path.join(scratch, 'output-'));
    const [failed] = added(await e2e('browser/failing', output));
    assert.equal(failed.state, 'failed');
    assert.match(failed.message, /toHaveText/);
    for (const [name, type] of [['screenshot', 'image/png'], ['video', 'video/webm'], ['trace', 'application/zip']]) {
      const found = failed.attachments.find((attachment) => attachment.name === name);
      assert.equal(found?.contentType, type, `there is no ${name}: ${JSON.stringify(failed.attachments)}`);
      assert.ok(found.path.startsWith(`${output}/`) && readFileSync(found.path).length > 500);
    }
  });
  for (const [fixture, states] of [['flaky', ['flaky']], ['skipped', ['skipped', 'skipped']], ['serial', ['failed', 'failed']]]) {
    test(`tells ${fixture} tests from passed ones`, async () => {
      assert.deepEqual(added(await e2e(`browser/${fixture}`)).map(({ state }) => state), states);
    });
  }
  for (const fixture of ['declared-to-fail', 'only', 'exit-in-test', 'forged-at-import']) {
    test(`lets nobody win by ${fixture}`, async () => nothingWon(await e2e(`browser/${fixture}`)));
  }
  test('says that a declared failure shows nothing', async () => {
    for (const { message } of added(await e2e('browser/declared-to-fail'))) {
      assert.match(message, /declared to fail/);
    }
  });
  for (const fixture of ['exit-at-import', 'forged-message']) {
    test(`lets nobody win by ${fixture}`, () => nobodyWins('e2e', `browser/${fixture}`, variables()));
  }
  test('makes no report when it is killed', async () => {
    const ran = await run('e2e', project('browser/kill-parent'), variables());
    assert.equal(ran.signal, 'SIGKILL');
    assert.equal(ran.document, '');
  });
  test('tells that a spec was changed meanwhile', async () => {
    assert.ok((await e2e('browser/changes-test')).errors.includes('e2e/change.spec.ts: it was changed while the tests ran'));
  });
  test('hands on no attachment from elsewhere', async () => {
    const [attached] = added(await e2e('browser/attached'));
    assert.equal(attached.attachments, undefined);
  });
  test('loads no configuration of the project', async () => {
    assert.deepEqual((await e2e('browser/own-configuration')).tests.map(({ state }) => state), ['passed']);
  });
  test('reports no test where there is no spec', async () => {
    const { tests, errors } = await e2e(remove('e2e'));
    assert.deepEqual({ tests, errors }, { tests: [], errors: [] });
  });
  test('finds that the specs hold no test', async () => {
    const { tests, errors } = await e2e((directory) => {
      remove('e2e')(directory);
      cpSync(path.join(fixtures, 'browser', 'no-test'), directory, { recursive: true });
    });
    assert.deepEqual(tests, []);
    assert.equal(errors.length, 1);
  });
  test('says which variable is wrong', async () => {
    for (const [name, value] of [['BASE_URL', 'nowhere'], ['OUTPUT_DIR', 'relative'], ['RETRIES', '6']]) {
      await refused('e2e', undefined, new RegExp(`${name} is "${value}"`), { ...variables(), [name]: value });
    }
  });
});
