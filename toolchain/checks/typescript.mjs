// Type-checks with the image's compiler. The project's tsconfig.json is read as data; whatever it says, the check is strict.

import path from 'node:path';

import ts from 'typescript';

import { check, cut, FINDINGS, isOwn, project, relative, tool } from './report.mjs';

/** Options of the strict family are taken out, so that each has what `strict` says. */
const FAMILY = [
  'alwaysStrict', 'noImplicitAny', 'noImplicitThis', 'strictBindCallApply', 'strictBuiltinIteratorReturn', 'strictFunctionTypes',
  'strictNullChecks', 'strictPropertyInitialization', 'useUnknownInCatchVariables',
];
/** Everything that writes files, or that needs written files. */
const EMITTING = [
  'composite', 'declaration', 'declarationDir', 'declarationMap', 'emitDeclarationOnly', 'incremental', 'inlineSourceMap',
  'inlineSources', 'outDir', 'outFile', 'sourceMap', 'tsBuildInfoFile',
];

function judged(options) {
  const strict = { ...options, strict: true, noEmit: true, noCheck: false, noResolve: false };
  for (const name of [...FAMILY, ...EMITTING]) {
    delete strict[name];
  }
  return strict;
}

/** The configurations to check: that of the project and all it refers to. Configurations that cannot be read are diagnostics. */
function configurations(file, seen = new Map()) {
  if (seen.has(file)) {
    return seen;
  }
  const { config, error } = ts.readConfigFile(file, ts.sys.readFile);
  if (error) {
    seen.set(file, { errors: [error], fileNames: [], options: {} });
    return seen;
  }
  const parsed = ts.parseJsonConfigFileContent(config, ts.sys, path.dirname(file), undefined, file);
  seen.set(file, parsed);
  for (const reference of parsed.projectReferences ?? []) {
    configurations(ts.resolveProjectReferencePath(reference), seen);
  }
  return seen;
}

/** A host whose files of the project cannot ask not to be checked. */
function host(options) {
  const plain = ts.createCompilerHost(options);
  return {
    ...plain,
    getSourceFile(name, ...rest) {
      const file = plain.getSourceFile(name, ...rest);
      if (file && isOwn(file.fileName)) {
        // Set by `// @ts-nocheck`.
        file.checkJsDirective = undefined;
      }
      return file;
    },
  };
}

function programDiagnostics(program) {
  return [
    ...program.getOptionsDiagnostics(),
    ...program.getSyntacticDiagnostics(),
    ...program.getGlobalDiagnostics(),
    ...program.getSemanticDiagnostics(),
  ];
}

function described({ file, start, code, messageText }) {
  const message = ts.flattenDiagnosticMessageText(messageText, '\n');
  if (!file) {
    return { file: null, line: null, column: null, code: `TS${code}`, message: cut(message) };
  }
  const name = relative(file.fileName);
  const { line, character } = ts.getLineAndCharacterOfPosition(file, start ?? 0);
  // Libraries of the compiler itself lie outside of the project.
  return name.startsWith('..')
    ? { file: null, line: null, column: null, code: `TS${code}`, message: cut(`${path.basename(name)}(${line + 1}): ${message}`) }
    : { file: name, line: line + 1, column: character + 1, code: `TS${code}`, message: cut(message) };
}

await check(() => {
  const files = new Set();
  const diagnostics = new Map();
  const add = (diagnostic) => {
    if (diagnostic.category === ts.DiagnosticCategory.Error) {
      const found = described(diagnostic);
      diagnostics.set(JSON.stringify(found), found);
    }
  };
  for (const { errors, fileNames, options } of configurations(path.join(project, 'tsconfig.json')).values()) {
    errors.forEach(add);
    if (fileNames.length === 0) {
      continue;
    }
    const strict = judged(options);
    const program = ts.createProgram({ rootNames: fileNames, options: strict, host: host(strict) });
    programDiagnostics(program).forEach(add);
    for (const { fileName, isDeclarationFile } of program.getSourceFiles()) {
      if (!isDeclarationFile && isOwn(fileName) && /\.[cm]?[jt]sx?$/.test(fileName)) {
        files.add(relative(fileName));
      }
    }
  }
  const all = [...diagnostics.values()];
  for (const { file, line, column, code, message } of all.slice(0, FINDINGS)) {
    process.stderr.write(`${file ? `${file}(${line},${column}): ` : ''}${code}: ${message}\n`);
  }
  return {
    check: 'typescript',
    tool: tool('typescript'),
    files: [...files].sort(),
    diagnostics: all.slice(0, FINDINGS),
    total: all.length,
  };
});
