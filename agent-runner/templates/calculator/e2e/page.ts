import type { Locator, Page } from '@playwright/test';

/** Where the calculator shows its number. */
export function display(page: Page): Locator {
  return page.getByRole('status', { name: 'Display' });
}

/** Clicks buttons by their names. */
export async function press(page: Page, ...names: string[]): Promise<void> {
  for (const name of names) {
    await page.getByRole('button', { name, exact: true }).click();
  }
}
