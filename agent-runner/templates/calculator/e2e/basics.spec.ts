import { expect, test } from '@playwright/test';

import { display, press } from './page';

test('shows zero at first, and no error anywhere', async ({ page }) => {
  const errors: string[] = [];
  page.on('pageerror', (error) => errors.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  await page.goto('/');
  await expect(page.getByRole('heading', { level: 1 })).toHaveText('{{ title }}');
  await expect(display(page)).toHaveText('0');
  expect(errors).toEqual([]);
});

test('types numbers with a decimal point and clears them', async ({ page }) => {
  await page.goto('/');
  await press(page, '1', '2', 'Decimal point', '5');
  await expect(display(page)).toHaveText('12.5');
  await press(page, 'Clear');
  await expect(display(page)).toHaveText('0');
});

test('fits the screen of a telephone', async ({ page }) => {
  await page.setViewportSize({ width: 320, height: 640 });
  await page.goto('/');
  await press(page, ...'888888888888888');
  expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(320);
});
