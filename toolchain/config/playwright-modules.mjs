// Loaded into the processes that run specs: `@playwright/test` and `playwright` mean the image's, whatever the project has installed. The
// project's copy would be another instance, which knows nothing of the run.

import { registerHooks } from 'node:module';

registerHooks({
  resolve(specifier, context, next) {
    return /^(?:@playwright\/test|playwright|playwright-core)(?:\/|$)/.test(specifier) && !context.parentURL?.startsWith(`${new URL('../node_modules/', import.meta.url)}`)
      ? next(specifier, { ...context, parentURL: import.meta.url })
      : next(specifier, context);
  },
});
