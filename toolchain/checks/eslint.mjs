// Lints by the image's own configuration, and asks which of its rules the project's configuration leaves out.

import { spawn } from 'node:child_process';
import path from 'node:path';

import { ESLint } from 'eslint';

import { check, cut, FINDINGS, project, relative, REPORT_BYTES, tool, toolchain } from './report.mjs';

const EXTENSIONS = '{ts,tsx,mts,cts,js,jsx,mjs,cjs}';
const PATTERNS = [`{src,tests,e2e}/**/*.${EXTENSIONS}`, `*.${EXTENSIONS}`];
const CONFIGURATION = path.join(toolchain, 'config', 'eslint.config.mjs');
/** More weakened rules than these are not named. */
const WEAKENED = 20;
/** For so many files at most the project's configuration is asked. */
const ASKED = 200;
/** Longest time for the project's configuration to answer, in milliseconds. */
const PATIENCE = 30_000;

/** The project's rules by file: a program of the project's answers, so it does that in a process of its own. */
function projectRules(files) {
  const child = spawn(process.execPath, [path.join(toolchain, 'checks', 'project-rules.mjs')], {
    cwd: project,
    stdio: ['pipe', 2, 2, 'pipe'],
    timeout: PATIENCE,
    killSignal: 'SIGKILL',
  });
  child.stdin.on('error', () => {}); // It need not listen: no answer is an answer.
  child.stdin.end(JSON.stringify(files));
  const parts = [];
  let bytes = 0;
  child.stdio[3].on('data', (part) => {
    bytes += part.length;
    if (bytes <= REPORT_BYTES) {
      parts.push(part);
    }
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    // Not `close`: a process that the configuration left behind may hold the pipe open for good.
    child.on('exit', (status) => {
      setImmediate(() => {
        child.stdio[3].destroy();
        try {
          resolve(status === 0 && bytes <= REPORT_BYTES ? JSON.parse(Buffer.concat(parts).toString('utf8')) : {});
        } catch {
          resolve({});
        }
      });
    });
  });
}

function isError(setting) {
  const severity = Array.isArray(setting) ? setting[0] : setting;
  return severity === 2 || severity === 'error';
}

async function weakened(eslint, files) {
  const sources = files.filter((file) => file.startsWith('src/'));
  const asked = (sources.length > 0 ? sources : files).slice(0, ASKED);
  const own = await projectRules(asked);
  const found = new Map();
  for (const file of asked) {
    const base = await eslint.calculateConfigForFile(path.join(project, file));
    for (const [rule, setting] of Object.entries(base?.rules ?? {})) {
      if (isError(setting) && !isError(own?.[file]?.[rule]) && !found.has(rule)) {
        found.set(rule, { rule, file });
      }
    }
  }
  return [...found.values()].slice(0, WEAKENED);
}

await check(async () => {
  const eslint = new ESLint({
    cwd: project,
    overrideConfigFile: CONFIGURATION,
    allowInlineConfig: false,
    errorOnUnmatchedPattern: false,
    cache: false,
  });
  const results = await eslint.lintFiles(PATTERNS);
  const files = results.map(({ filePath }) => relative(filePath)).sort();
  const messages = results.flatMap(({ filePath, messages: found }) =>
    found.map(({ line, column, ruleId, severity, message }) => ({
      file: relative(filePath),
      line: line ?? null,
      column: column ?? null,
      rule: ruleId ?? null,
      severity: severity === 2 ? 'error' : 'warning',
      message: cut(message),
    })),
  );
  // Errors first, so that a limit never hides one behind warnings.
  messages.sort((one, other) => Number(one.severity === 'warning') - Number(other.severity === 'warning'));
  for (const { file, line, column, rule, severity, message } of messages.slice(0, FINDINGS)) {
    process.stderr.write(`${file}(${line},${column}): ${severity}: ${message}${rule ? ` (${rule})` : ''}\n`);
  }
  const errors = messages.filter(({ severity }) => severity === 'error').length;
  return {
    check: 'eslint',
    tool: tool('eslint'),
    files,
    messages: messages.slice(0, FINDINGS),
    errors,
    warnings: messages.length - errors,
    weakened: await weakened(eslint, files),
  };
});
