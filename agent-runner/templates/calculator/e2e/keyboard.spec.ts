import { expect, test } from '@playwright/test';

import { display{% if binary %}, press{% endif %} } from './page';

test.beforeEach(async ({ page }) => {
  await page.goto('/');
});

test('keyboard: types and clears', async ({ page }) => {
  await page.keyboard.type('12.5');
  await expect(display(page)).toHaveText('12.5');
  await page.keyboard.press('Escape');
  await expect(display(page)).toHaveText('0');
});
{% for operation in binary %}

test('keyboard: {{ operation.name }}', async ({ page }) => {
  await page.keyboard.type('{{ operation.left }}{{ operation.typed }}{{ operation.right }}');
  await page.keyboard.press('Enter');
  await expect(display(page)).toHaveText('{{ operation.result }}');
});
{% endfor %}
{% for operation in unary %}

test('keyboard: {{ operation.name }}', async ({ page }) => {
  await page.keyboard.type('{{ operation.left }}{{ operation.typed }}');
  await expect(display(page)).toHaveText('{{ operation.result }}');
});
{% endfor %}

test('keyboard: every button can be reached', async ({ page }) => {
  await page.getByRole('button', { name: '7', exact: true }).focus();
  await page.keyboard.press('Enter');
  await page.keyboard.press('Space');
  await expect(display(page)).toHaveText('77');
});
{% if binary %}
{% set first = binary | first %}

test('keyboard: Enter completes what was clicked', async ({ page }) => {
  await press(page, '{{ first.left }}', '{{ first.label }}', '{{ first.right }}');
  await page.keyboard.press('Enter');
  await expect(display(page)).toHaveText('{{ first.result }}');
});
{% endif %}
