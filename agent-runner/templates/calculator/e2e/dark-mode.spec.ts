import { expect, test } from '@playwright/test';

test('dark mode: is switched on and off', async ({ page }) => {
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto('/');
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await background();
  const button = page.getByRole('button', { name: 'Dark mode' });
  await button.click();
  await expect(button).toHaveAttribute('aria-pressed', 'true');
  expect(await background()).not.toBe(light);
  await button.click();
  await expect(button).toHaveAttribute('aria-pressed', 'false');
  expect(await background()).toBe(light);
});

test('dark mode: begins as the system has it', async ({ page }) => {
  await page.emulateMedia({ colorScheme: 'dark' });
  await page.goto('/');
  await expect(page.getByRole('button', { name: 'Dark mode' })).toHaveAttribute('aria-pressed', 'true');
});
