import { expect, test } from '@playwright/test';

import { press } from './page';

{% set first = operations | first %}
test('history: lists what was calculated until it is cleared', async ({ page }) => {
  await page.goto('/');
  const lines = page.getByRole('list', { name: 'History' }).getByRole('listitem');
  await press(page, {{ first.keys }}, '{{ first.label }}'{% if first.right %}, '{{ first.right }}', 'Equals'{% endif %});
  await expect(lines).toHaveText(['{{ first.before }}{{ first.left }}{{ first.after }}{% if first.right %} {{ first.symbol }} {{ first.right }}{% endif %} = {{ first.result }}']);
  await press(page, 'Clear history');
  await expect(lines).toHaveCount(0);
});
