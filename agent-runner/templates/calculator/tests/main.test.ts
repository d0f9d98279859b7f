import { beforeEach, describe, expect, it, vi } from 'vitest';

import html from '../index.html?raw';

function named(name: string): HTMLButtonElement {
  const buttons = [...document.querySelectorAll('button')];
  const found = buttons.find((button) => (button.getAttribute('aria-label') ?? button.textContent) === name);
  if (!found) throw new Error(`there is no button ${name}`);
  return found;
}

function click(...names: string[]): void {
  for (const name of names) {
    named(name).click();
  }
}

function display(): HTMLElement {
  const found = document.querySelector<HTMLElement>('output');
  if (!found) throw new Error('there is no display');
  return found;
}
{% if has.darkMode %}

function systemIsDark(matches: boolean): void {
  vi.stubGlobal('matchMedia', (query: string) => ({ matches: matches && query === '(prefers-color-scheme: dark)' }));
}
{% endif %}

async function open(): Promise<void> {
  document.body.innerHTML = new DOMParser().parseFromString(html, 'text/html').body.innerHTML;
  vi.resetModules();
  await import('../src/main');
}

beforeEach(async () => {
  {% if has.darkMode %}
  systemIsDark(false);
  {% endif %}
  await open();
});

describe('the page', () => {
  it.each<[string[], string]>([
    [['7', '8'], '78'],
    [['1', 'Decimal point', '5'], '1.5'],
    [['7', 'Clear'], '0'],
    {% for operation in binary %}
    [['{{ operation.left }}', '{{ operation.label }}', '{{ operation.right }}', 'Equals'], '{{ operation.result }}'],
    {% endfor %}
    {% for operation in unary %}
    [[{{ operation.keys }}, '{{ operation.label }}'], '{{ operation.result }}'],
    {% endfor %}
  ])('shows after %j %s', (names, shown) => {
    click(...names);
    expect(display().textContent).toBe(shown);
    expect(display().classList.contains('failed')).toBe(false);
  });
  {% if has.divide %}

  it('shows a message for a division by zero', () => {
    click('6', 'Divide', '0', 'Equals');
    expect(display().textContent).toBe('Cannot divide by zero');
    expect(display().classList.contains('failed')).toBe(true);
  });
  {% endif %}

  it('has a name for every button', () => {
    for (const button of document.querySelectorAll('button')) {
      expect(button.getAttribute('aria-label') ?? button.textContent).toMatch(/\w/);
    }
  });

  it('says which part it misses', async () => {
    document.body.innerHTML = '';
    vi.resetModules();
    await expect(import('../src/main')).rejects.toThrow('the page has no #display');
  });

  it('does not mind a button of which nothing is known', async () => {
    document.body.innerHTML = document.body.innerHTML.replace('data-key="7"', 'data-key="unknown"');
    vi.resetModules();
    await import('../src/main');
    click('7');
    expect(display().textContent).toBe('0');
  });
  {% if has.backspace %}

  it('takes the last digit back', () => {
    click('1', '2', 'Backspace');
    expect(display().textContent).toBe('1');
  });
  {% endif %}
});
{% if has.memory %}

describe('the memory', () => {
  it('says whether something is in it', () => {
    const mark = document.querySelector<HTMLElement>('#stored');
    expect(mark?.hidden).toBe(true);
    click('5', 'Memory plus');
    expect(mark?.hidden).toBe(false);
    click('Clear', 'Memory recall');
    expect(display().textContent).toBe('5');
    click('Memory clear');
    expect(mark?.hidden).toBe(true);
  });
});
{% endif %}
{% if has.history %}

describe('the history', () => {
  {% set first = operations | first %}
  it('lists what was calculated until it is cleared', () => {
    const lines = () => [...document.querySelectorAll('li')].map((item) => item.textContent);
    expect(lines()).toEqual([]);
    click({{ first.keys }}, '{{ first.label }}'{% if first.right %}, '{{ first.right }}', 'Equals'{% endif %});
    expect(lines()).toEqual(['{{ first.before }}{{ first.left }}{{ first.after }}{% if first.right %} {{ first.symbol }} {{ first.right }}{% endif %} = {{ first.result }}']);
    click('Clear history');
    expect(lines()).toEqual([]);
  });
});
{% endif %}
{% if has.keyboard %}

describe('the keyboard', () => {
  function type(key: string, options: KeyboardEventInit = {}): KeyboardEvent {
    const event = new KeyboardEvent('keydown', { key, cancelable: true, bubbles: true, ...options });
    document.body.dispatchEvent(event);
    return event;
  }

  it.each<[string[], string]>([
    [['1', '.', '5'], '1.5'],
    [['1', ',', '5'], '1.5'],
    [['7', 'Escape'], '0'],
    {% if has.backspace %}
    [['1', '2', 'Backspace'], '1'],
    {% endif %}
    {% for operation in binary %}
    [['{{ operation.left }}', '{{ operation.typed }}', '{{ operation.right }}', 'Enter'], '{{ operation.result }}'],
    {% endfor %}
    {% for operation in unary %}
    [[{{ operation.keys }}, '{{ operation.typed }}'], '{{ operation.result }}'],
    {% endfor %}
  ])('types %j, which shows %s', (keys, shown) => {
    for (const key of keys) {
      expect(type(key).defaultPrevented).toBe(true);
    }
    expect(display().textContent).toBe(shown);
  });

  it('leaves every other key and every command to the browser', () => {
    for (const event of [type('F5'), type('1', { ctrlKey: true }), type('1', { altKey: true }), type('1', { metaKey: true })]) {
      expect(event.defaultPrevented).toBe(false);
    }
    expect(display().textContent).toBe('0');
    type('1', { ctrlKey: true, altKey: true });
    expect(display().textContent).toBe('1');
  });

  it('leaves Enter to the button that has the focus', () => {
    named('7').focus();
    expect(type('Enter').defaultPrevented).toBe(false);
  });

  it('keeps the focus where it is when a button is clicked', () => {
    const event = new MouseEvent('mousedown', { cancelable: true, bubbles: true });
    named('7').dispatchEvent(event);
    expect(event.defaultPrevented).toBe(true);
  });
});
{% endif %}
{% if has.darkMode %}

describe('the dark mode', () => {
  const theme = () => document.documentElement.dataset.theme;

  it('is switched on and off', () => {
    expect(theme()).toBe('light');
    click('Dark mode');
    expect(theme()).toBe('dark');
    expect(named('Dark mode').getAttribute('aria-pressed')).toBe('true');
    click('Dark mode');
    expect(theme()).toBe('light');
  });

  it('begins as the system has it', async () => {
    systemIsDark(true);
    await open();
    expect(theme()).toBe('dark');
  });
});
{% endif %}
