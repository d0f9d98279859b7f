// The lint rules that every project is judged by. A project's own configuration may add rules, never take one away.

import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import globals from 'globals';
import typescript from 'typescript-eslint';

export default defineConfig(
  { linterOptions: { noInlineConfig: true, reportUnusedDisableDirectives: 'off' } },
  js.configs.recommended,
  typescript.configs.recommended,
  {
    // Browser code and tools of the build lie side by side; the compiler knows better which of them may use what.
    languageOptions: { globals: { ...globals.browser, ...globals.node } },
    rules: { eqeqeq: ['error', 'always', { null: 'ignore' }], 'no-console': 'off' },
  },
  {
    files: ['src/**/*.{ts,tsx,mts,cts}'],
    // Tests may show that a wrong call does not compile. Code that is delivered compiles.
    rules: { '@typescript-eslint/ban-ts-comment': ['error', { 'ts-expect-error': true }] },
  },
);
