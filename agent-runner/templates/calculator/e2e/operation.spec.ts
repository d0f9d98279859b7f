import { expect, test } from '@playwright/test';

import { display, press } from './page';

test.beforeEach(async ({ page }) => {
  await page.goto('/');
});
{% if operation.right %}

test('{{ operation.name }}: {{ operation.left }} {{ operation.symbol }} {{ operation.right }} = {{ operation.result }}', async ({ page }) => {
  await press(page, '{{ operation.left }}', '{{ operation.label }}', '{{ operation.right }}', 'Equals');
  await expect(display(page)).toHaveText('{{ operation.result }}');
});

test('{{ operation.name }}: goes on with the result', async ({ page }) => {
  await press(page, '{{ operation.left }}', '{{ operation.label }}', '{{ operation.right }}', '{{ operation.label }}');
  await expect(display(page)).toHaveText('{{ operation.result }}');
});
{% else %}

test('{{ operation.name }}: {{ operation.before }}{{ operation.left }}{{ operation.after }} = {{ operation.result }}', async ({ page }) => {
  await press(page, {{ operation.keys }}, '{{ operation.label }}');
  await expect(display(page)).toHaveText('{{ operation.result }}');
});

test('{{ operation.name }}: of nothing typed is 0', async ({ page }) => {
  await press(page, '{{ operation.label }}');
  await expect(display(page)).toHaveText('0');
});
{% endif %}
{% if operation.name == "divide" %}

test('divide: by zero shows a message, and the next number goes on', async ({ page }) => {
  await press(page, '6', 'Divide', '0', 'Equals');
  await expect(display(page)).toHaveText('Cannot divide by zero');
  await press(page, '5');
  await expect(display(page)).toHaveText('5');
});
{% endif %}
{% if operation.name == "modulo" %}

test('modulo: by zero shows a message, and the next number goes on', async ({ page }) => {
  await press(page, '7', 'Remainder', '0', 'Equals');
  await expect(display(page)).toHaveText('There is no remainder by zero');
  await press(page, '5');
  await expect(display(page)).toHaveText('5');
});
{% endif %}
