import { expect, test } from '@playwright/test';

import { display, press } from './page';

test('memory: keeps a number until it is cleared', async ({ page }) => {
  await page.goto('/');
  const mark = page.getByTitle('A number is in the memory');
  await expect(mark).toBeHidden();
  await press(page, '5', 'Memory plus', '3', 'Memory plus', 'Clear', 'Memory recall');
  await expect(display(page)).toHaveText('8');
  await expect(mark).toBeVisible();
  await press(page, 'Memory clear', 'Memory recall');
  await expect(display(page)).toHaveText('0');
  await expect(mark).toBeHidden();
});
{% if has.memoryMinus %}

test('memory: gives away what is taken from it', async ({ page }) => {
  await page.goto('/');
  await press(page, '5', 'Memory plus', '2', 'Memory minus', 'Memory recall');
  await expect(display(page)).toHaveText('3');
});
{% endif %}
