import { describe, expect, it } from 'vitest';

import { type Calculator, initial, isKey, type Key, press } from '../src/calculator';

function after(...keys: Key[]): Calculator {
  return keys.reduce(press, initial);
}

describe('typing', () => {
  it.each<[string, Key[]]>([
    ['0', []],
    ['7', ['7']],
    ['70', ['0', '0', '7', '0']],
    ['1.5', ['1', 'decimalPoint', '5']],
    ['0.5', ['decimalPoint', '5']],
    ['1.25', ['1', 'decimalPoint', '2', 'decimalPoint', '5']],
    ['0', ['7', 'clear']],
  ])('shows %s after %j', (shown, keys) => {
    expect(after(...keys).shown).toBe(shown);
  });

  it('ends at fifteen digits', () => {
    expect(after(...Array<Key>(20).fill('8')).shown).toBe('8'.repeat(15));
  });
});

describe('operations', () => {
  it.each<[Key[], string]>([
    {% for operation in binary %}
    [['{{ operation.left }}', '{{ operation.name }}', '{{ operation.right }}', 'equals'], '{{ operation.result }}'],
    {% endfor %}
    {% for operation in unary %}
    [[{{ operation.keys }}, '{{ operation.name }}'], '{{ operation.result }}'],
    {% endfor %}
  ])('make of %j %s', (keys, shown) => {
    expect(after(...keys)).toMatchObject({ shown, stage: 'complete' });
  });
  {% if binary %}
  {% set first = binary | first %}

  it('are done from left to right', () => {
    const step = after('{{ first.left }}', '{{ first.name }}', '{{ first.right }}', '{{ first.name }}');
    expect(step).toMatchObject({ shown: '{{ first.result }}', stage: 'operator' });
    expect(press(press(step, '1'), 'decimalPoint').shown).toBe('1.');
  });

  it('change their minds while they wait', () => {
    {% for operation in binary %}
    expect(after('{{ operation.left }}', '{{ first.name }}', '{{ operation.name }}', '{{ operation.right }}', 'equals').shown).toBe('{{ operation.result }}');
    {% endfor %}
  });

  it('go on with a result, or begin anew after it', () => {
    const result = after('{{ first.left }}', '{{ first.name }}', '{{ first.right }}', 'equals');
    expect(press(result, '{{ first.name }}').pending).toEqual({ left: {{ first.result }}, operation: '{{ first.name }}' });
    expect(press(result, '4')).toMatchObject({ shown: '4', pending: undefined });
    expect(press(result, 'decimalPoint').shown).toBe('0.');
  });

  it('need an operator', () => {
    expect(after('4', 'equals')).toMatchObject({ shown: '4', stage: 'complete' });
  });
  {% endif %}
});

describe('a failure', () => {
  const large: Calculator = { ...initial, shown: '9e999' };
  {% if binary %}
  {% set first = binary | first %}
  const failed = (['{{ first.name }}', '1', 'equals'] as const).reduce(press, large);
  {% else %}
  {% set first = unary | first %}
  const failed = press(large, '{{ first.name }}');
  {% endif %}

  it('shows its reason', () => {
    expect(failed).toMatchObject({ shown: 'The result is too large', stage: 'failed' });
  });

  it('has no number to go on with', () => {
    expect(press(failed, '{{ first.name }}')).toBe(failed);
  });

  it('is over with the next number', () => {
    expect(press(failed, '5')).toMatchObject({ shown: '5', stage: 'typing' });
    expect(press(failed, 'decimalPoint')).toMatchObject({ shown: '0.', stage: 'typing' });
    expect(press(failed, 'clear')).toEqual(initial);
  });
  {% if has.divide %}

  it('is what a division by zero ends with', () => {
    expect(after('6', 'divide', '0', 'equals')).toMatchObject({ shown: 'Cannot divide by zero', stage: 'failed' });
  });
  {% endif %}
  {% if has.modulo %}

  it('is what a remainder by zero ends with', () => {
    expect(after('7', 'modulo', '0', 'equals')).toMatchObject({ shown: 'There is no remainder by zero', stage: 'failed' });
  });
  {% endif %}
  {% if has.squareRoot %}

  it('is what the square root of a negative number ends with', () => {
    const negative: Calculator = { ...initial, shown: '-9', stage: 'complete' };
    expect(press(negative, 'squareRoot').shown).toBe('A negative number has no square root');
  });
  {% endif %}

  it('of the program itself is not hidden', () => {
    const broken = { ...initial, get shown(): string { throw new TypeError('broken'); } };
    expect(() => press(broken, '5')).toThrow('broken');
  });
});
{% if has.backspace %}

describe('backspace', () => {
  it.each<[string, Key[]]>([
    ['1', ['1', '2', 'backspace']],
    ['0', ['1', 'backspace']],
    ['1', ['1', 'decimalPoint', 'backspace']],
  ])('leaves %s of %j', (shown, keys) => {
    expect(after(...keys).shown).toBe(shown);
  });

  it('leaves results as they are', () => {
    const result: Calculator = { ...initial, shown: '42', stage: 'complete' };
    expect(press(result, 'backspace')).toBe(result);
  });
});
{% endif %}
{% if has.memory %}

describe('memory', () => {
  it('is recalled as often as wanted', () => {
    const calculator = after('5', 'memoryPlus', 'clear', 'memoryRecall', 'memoryPlus', 'memoryRecall');
    expect(calculator).toMatchObject({ shown: '10', stage: 'complete', memory: 10 });
  });

  it('is empty once it was cleared', () => {
    expect(after('5', 'memoryPlus', 'memoryClear', 'memoryRecall')).toMatchObject({ shown: '0', memory: 0 });
  });
  {% if has.memoryMinus %}

  it('gives away what is taken from it', () => {
    expect(after('5', 'memoryPlus', '2', 'memoryMinus', 'memoryRecall').shown).toBe('3');
  });
  {% endif %}
  {% if binary %}
  {% set first = binary | first %}

  it('gives the second number too', () => {
    const calculator = after('{{ first.right }}', 'memoryPlus', '{{ first.left }}', '{{ first.name }}', 'memoryRecall', 'equals');
    expect(calculator.shown).toBe('{{ first.result }}');
  });

  it('does not take the place of a number that is waited for', () => {
    expect(after('5', '{{ first.name }}', 'memoryPlus').stage).toBe('operator');
  });
  {% endif %}
});
{% endif %}
{% if has.history %}

describe('history', () => {
  it.each<[Key[], string]>([
    {% for operation in binary %}
    [['{{ operation.left }}', '{{ operation.name }}', '{{ operation.right }}', 'equals'], '{{ operation.left }} {{ operation.symbol }} {{ operation.right }} = {{ operation.result }}'],
    {% endfor %}
    {% for operation in unary %}
    [[{{ operation.keys }}, '{{ operation.name }}'], '{{ operation.before }}{{ operation.left }}{{ operation.after }} = {{ operation.result }}'],
    {% endfor %}
  ])('of %j says %s', (keys, calculation) => {
    expect(after(...keys).history).toEqual([calculation]);
  });

  it('has the latest first, keeps twenty, and outlives a clearing', () => {
    {% set first = operations | first %}
    const again: Key[] = [{{ first.keys }}, '{{ first.name }}'{% if first.right %}, '{{ first.right }}', 'equals'{% endif %}];
    const calculator = Array.from({ length: 25 }, () => again).flat().reduce(press, after('clear'));
    expect(press(calculator, 'clear').history).toHaveLength(20);
  });

  it('is empty once it was cleared', () => {
    expect(press({ ...initial, history: ['1'] }, 'clearHistory').history).toEqual([]);
  });
});
{% endif %}

describe('keys', () => {
  it('are known by their names', () => {
    expect(isKey('clear')).toBe(true);
    expect(isKey('toString')).toBe(false);
    expect(isKey(undefined)).toBe(false);
  });
});
