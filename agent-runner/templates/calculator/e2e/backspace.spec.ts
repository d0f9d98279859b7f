import { expect, test } from '@playwright/test';

import { display, press } from './page';

test('backspace: takes the last digit back', async ({ page }) => {
  await page.goto('/');
  await press(page, '1', '2', 'Backspace');
  await expect(display(page)).toHaveText('1');
  await press(page, 'Backspace');
  await expect(display(page)).toHaveText('0');
});
