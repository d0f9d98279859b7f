// How every project's unit tests are run. The project's own Vite and Vitest configurations are programs, so they are not loaded.

import path from 'node:path';

/** Style sheets, unless their text or their address is asked for. */
const STYLE = /\.(?:css|sass|scss|less|styl|stylus|pcss|postcss|sss)(?:\?(?!.*\b(?:raw|url)\b).*)?$/;
const STYLE_ID = '\0stagecraft-style:';

/** Tests need no styles, and compiling them would load PostCSS plugins and preprocessors of the project. */
const styles = {
  name: 'stagecraft:styles',
  enforce: 'pre',
  resolveId(source) {
    return STYLE.test(source) ? `${STYLE_ID}${/\.module\./.test(source) ? 'module' : 'plain'}.js` : undefined;
  },
  load(id) {
    if (!id.startsWith(STYLE_ID)) {
      return undefined;
    }
    return id.includes('module')
      ? 'export default new Proxy({}, { get: (_, name) => (typeof name === "string" ? name : undefined) });'
      : 'export default "";';
  },
};

/** A source file could bring a source map that maps its lines to nowhere, and would then count as having none. */
const sourceMaps = {
  name: 'stagecraft:source-maps',
  enforce: 'pre',
  async load(id) {
    const file = id.replace(/\?.*$/s, '');
    if (!path.isAbsolute(file) || file.includes('/node_modules/') || !/\.[cm]?[jt]sx?$/.test(file) || id.includes('?')) {
      return undefined;
    }
    const text = await this.fs.readFile(file, { encoding: 'utf8' }).catch(() => undefined);
    return text?.includes('sourceMappingURL=')
      ? { code: text.replace(/([#@]\s*source)MappingURL=/g, '$1mappingurl='), map: null }
      : undefined;
  },
};

/** What counts as a test, and so not as a source. */
export const TESTS = '**/*.{test,spec}.{ts,tsx,mts,cts,js,jsx,mjs,cjs}';

export default {
  configFile: false,
  // Given here, so that none is looked for in the project.
  css: { postcss: {} },
  resolve: { tsconfigPaths: true },
  plugins: [styles, sourceMaps],
  test: {
    include: [TESTS],
    // Those of the e2e directory are Playwright's.
    exclude: ['**/node_modules/**', '**/.git/**', 'dist/**', 'e2e/**'],
    environment: 'jsdom',
    globals: true,
    // Processes, never threads: threads would share the memory and the descriptors of the check.
    pool: 'forks',
    isolate: true,
    watch: false,
    retry: 0,
    allowOnly: false,
    passWithNoTests: true,
    update: false,
    cache: false,
    dangerouslyIgnoreUnhandledErrors: false,
    reporters: ['default'],
    coverage: {
      enabled: true,
      provider: 'v8',
      include: ['src/**/*.{ts,tsx,js,jsx}'],
      exclude: [TESTS, '**/*.d.ts'],
      reporter: [],
      reportOnFailure: true,
    },
  },
};
