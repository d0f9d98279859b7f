import { describe, expect, it } from 'vitest';

import {
  CalculationError,
  {% if has.memory %}
  accumulate,
  {% endif %}
  {% for operation in operations %}
  {{ operation.name }},
  {% endfor %}
} from '../src/arithmetic';
{% if has.add %}

describe('add', () => {
  it.each([
    [6, 3, 9],
    [-6, 3, -3],
    [0.1, 0.2, 0.3],
    [1e-7, 2e-7, 3e-7],
    [999_999_999_999_999, 0, 999_999_999_999_999],
  ])('of %d and %d is %d', (left, right, sum) => {
    expect(add(left, right)).toBe(sum);
  });
});
{% endif %}
{% if has.subtract %}

describe('subtract', () => {
  it.each([
    [6, 3, 3],
    [3, 6, -3],
    [0.3, 0.1, 0.2],
    [100.1, 100, 0.1],
    [5, 5, 0],
  ])('from %d takes %d and leaves %d', (left, right, difference) => {
    expect(subtract(left, right)).toBe(difference);
  });
});
{% endif %}
{% if has.multiply %}

describe('multiply', () => {
  it.each([
    [6, 3, 18],
    [-6, 3, -18],
    [0.1, 0.2, 0.02],
    [6, 0, 0],
  ])('makes of %d and %d %d', (left, right, product) => {
    expect(multiply(left, right)).toBe(product);
  });
});
{% endif %}
{% if has.divide %}

describe('divide', () => {
  it.each([
    [6, 3, 2],
    [3, 6, 0.5],
    [0.3, 0.1, 3],
    [0, 6, 0],
  ])('parts %d by %d into %d', (left, right, quotient) => {
    expect(divide(left, right)).toBe(quotient);
  });

  it('says that there is nothing by zero', () => {
    expect(() => divide(6, 0)).toThrow(new CalculationError('Cannot divide by zero'));
    expect(() => divide(0, 0)).toThrow('Cannot divide by zero');
  });
});
{% endif %}
{% if has.power %}

describe('power', () => {
  it.each([
    [6, 3, 216],
    [2, -1, 0.5],
    [9, 0.5, 3],
    [-2, 3, -8],
    [0, 0, 1],
  ])('raises %d to %d, which is %d', (left, right, raised) => {
    expect(power(left, right)).toBe(raised);
  });

  it('says which powers there are not', () => {
    expect(() => power(0, -1)).toThrow('Zero has no negative power');
    expect(() => power(-8, 0.5)).toThrow('A negative number has whole powers only');
  });
});
{% endif %}
{% if has.modulo %}

describe('modulo', () => {
  it.each([
    [7, 3, 1],
    [-7, 3, 2],
    [7, -3, -2],
    [6, 3, 0],
    [0.3, 0.1, 0],
    [5.5, 2, 1.5],
  ])('of %d and %d leaves %d', (left, right, remainder) => {
    expect(modulo(left, right)).toBe(remainder);
  });

  it('says that there is no remainder by zero', () => {
    expect(() => modulo(7, 0)).toThrow('There is no remainder by zero');
  });
});
{% endif %}
{% if has.squareRoot %}

describe('squareRoot', () => {
  it.each([
    [9, 3],
    [0, 0],
    [0.25, 0.5],
    [2, 1.4142135623731],
  ])('of %d is %d', (value, root) => {
    expect(squareRoot(value)).toBe(root);
  });

  it('says that a negative number has none', () => {
    expect(() => squareRoot(-9)).toThrow('A negative number has no square root');
  });
});
{% endif %}
{% if has.percent %}

describe('percent', () => {
  it.each([
    [50, 0.5],
    [7, 0.07],
    [0, 0],
    [-5, -0.05],
  ])('makes %d hundredths %d', (value, fraction) => {
    expect(percent(value)).toBe(fraction);
  });
});
{% endif %}
{% if has.negate %}

describe('negate', () => {
  it.each([
    [5, -5],
    [-5, 5],
    [0, 0],
  ])('makes of %d %d', (value, other) => {
    expect(negate(value)).toBe(other);
  });
});
{% endif %}
{% if has.memory %}

describe('accumulate', () => {
  it.each([
    [0, 5, 5],
    [0.1, 0.2, 0.3],
    [5, -5, 0],
  ])('keeps in %d also %d, which makes %d', (memory, value, sum) => {
    expect(accumulate(memory, value)).toBe(sum);
  });
});
{% endif %}

describe('a result that is too large', () => {
  it.each([
    {% for operation in binary %}
    ['{{ operation.name }}', () => {{ operation.name }}(Infinity, 1)],
    {% endfor %}
    {% for operation in unary %}
    ['{{ operation.name }}', () => {{ operation.name }}(Infinity)],
    {% endfor %}
    {% if has.memory %}
    ['accumulate', () => accumulate(Infinity, 1)],
    {% endif %}
  ])('of %s is said to be so', (_, calculate) => {
    expect(calculate).toThrow(new CalculationError('The result is too large'));
  });
});
