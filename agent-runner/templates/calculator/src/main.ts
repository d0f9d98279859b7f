// Connects the calculator with the page.

import { initial, isKey, press{% if has.keyboard %}, type Key{% endif %} } from './calculator';

let calculator = initial;

function part<Kind extends Element>(selector: string): Kind {
  const found = document.querySelector<Kind>(selector);
  if (!found) throw new Error(`the page has no ${selector}`);
  return found;
}

const display = part('#display');
{% if has.memory %}
const stored = part<HTMLElement>('#stored');
{% endif %}
{% if has.history %}
const past = part('#past');
{% endif %}

function show(): void {
  display.textContent = calculator.shown;
  display.classList.toggle('failed', calculator.stage === 'failed');
  {% if has.memory %}
  stored.hidden = calculator.memory === 0;
  {% endif %}
  {% if has.history %}
  past.replaceChildren(
    ...calculator.history.map((calculation) => {
      const item = document.createElement('li');
      item.textContent = calculation;
      return item;
    }),
  );
  {% endif %}
}

function pressed(key: string | undefined): void {
  if (isKey(key)) {
    calculator = press(calculator, key);
    show();
  }
}

for (const button of document.querySelectorAll<HTMLButtonElement>('button[data-key]')) {
  button.addEventListener('click', () => {
    pressed(button.dataset.key);
  });
  {% if has.keyboard %}
  // A click leaves the focus where it is: Enter afterwards is a key of the calculator, not the same button once more.
  button.addEventListener('mousedown', (event) => {
    event.preventDefault();
  });
  {% endif %}
}
{% if has.keyboard %}

/** Keys of a keyboard that are not called as those of the calculator. */
const typed = new Map<string, Key>([
  ['.', 'decimalPoint'],
  [',', 'decimalPoint'],
  ['Escape', 'clear'],
  {% if has.backspace %}
  ['Backspace', 'backspace'],
  {% endif %}
  {% if binary %}
  ['Enter', 'equals'],
  ['=', 'equals'],
  {% endif %}
  {% for operation in operations %}
  ['{{ operation.typed }}', '{{ operation.name }}'],
  {% endfor %}
]);

document.addEventListener('keydown', (event) => {
  const key = /^\d$/.test(event.key) ? event.key : typed.get(event.key);
  // Both together are AltGr, with which some keyboards type signs; one alone is a command to the browser.
  const command = event.metaKey || event.ctrlKey !== event.altKey;
  // A button that has the focus takes Enter for itself.
  const taken = event.key === 'Enter' && document.activeElement instanceof HTMLButtonElement;
  if (key !== undefined && !command && !taken) {
    event.preventDefault();
    pressed(key);
  }
});
{% endif %}
{% if has.darkMode %}

const theme = part('#theme');

function darken(dark: boolean): void {
  document.documentElement.dataset.theme = dark ? 'dark' : 'light';
  theme.setAttribute('aria-pressed', String(dark));
}

theme.addEventListener('click', () => {
  darken(theme.getAttribute('aria-pressed') === 'false');
});
darken(matchMedia('(prefers-color-scheme: dark)').matches);
{% endif %}
