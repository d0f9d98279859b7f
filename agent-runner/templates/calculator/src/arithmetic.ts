// What the calculator can compute. Nothing in this file knows of keys or of a page.

/** A calculation has no result. The message is for the person who asked. */
export class CalculationError extends Error {
  override readonly name = 'CalculationError';
}

/** Decimal digits of which a number keeps every one. */
export const DIGITS = 15;

/** A result without the noise that binary fractions leave behind the last digit, and never an infinite one. */
function settled(value: number): number {
  if (!Number.isFinite(value)) {
    throw new CalculationError('The result is too large');
  }
  return Number(value.toPrecision(DIGITS));
}
{% if has.add or has.subtract or has.modulo or has.memory %}

/** How many decimal places the more precise one of two numbers has. */
function decimals(left: number, right: number): number {
  const places = [left, right].map((value) => {
    const [digits = '', exponent = '0'] = String(value).split('e');
    return (digits.split('.')[1] ?? '').length - Number(exponent);
  });
  // 100 is as far as numbers can be written out.
  return Math.min(100, Math.max(0, ...places));
}
{% endif %}
{% if has.add or has.subtract or has.memory %}

/** A result with no more decimal places than the numbers that it was made from. */
function aligned(value: number, left: number, right: number): number {
  return settled(Number(value.toFixed(decimals(left, right))));
}
{% endif %}
{% if has.add %}

/** The sum of two numbers. */
export function add(left: number, right: number): number {
  return aligned(left + right, left, right);
}
{% endif %}
{% if has.subtract %}

/** The difference between two numbers. */
export function subtract(left: number, right: number): number {
  return aligned(left - right, left, right);
}
{% endif %}
{% if has.multiply %}

/** The product of two numbers. */
export function multiply(left: number, right: number): number {
  return settled(left * right);
}
{% endif %}
{% if has.divide %}

/** The quotient of two numbers. There is none when the second one is zero. */
export function divide(left: number, right: number): number {
  if (right === 0) {
    throw new CalculationError('Cannot divide by zero');
  }
  return settled(left / right);
}
{% endif %}
{% if has.power %}

/** The first number to the power of the second. */
export function power(left: number, right: number): number {
  if (left === 0 && right < 0) {
    throw new CalculationError('Zero has no negative power');
  }
  if (left < 0 && !Number.isInteger(right)) {
    throw new CalculationError('A negative number has whole powers only');
  }
  return settled(left ** right);
}
{% endif %}
{% if has.modulo %}

/** What remains of the first number once the second one fits in no more. It has the sign of the second one. */
export function modulo(left: number, right: number): number {
  if (right === 0) {
    throw new CalculationError('There is no remainder by zero');
  }
  // Whole numbers leave exact remainders, fractions do not.
  const scale = 10 ** decimals(left, right);
  const [whole, by] = [Math.round(left * scale), Math.round(right * scale)];
  return settled((((whole % by) + by) % by) / scale);
}
{% endif %}
{% if has.squareRoot %}

/** The number whose square is `value`. A negative value has none. */
export function squareRoot(value: number): number {
  if (value < 0) {
    throw new CalculationError('A negative number has no square root');
  }
  return settled(Math.sqrt(value));
}
{% endif %}
{% if has.percent %}

/** As many hundredths as `value` says. */
export function percent(value: number): number {
  return settled(value / 100);
}
{% endif %}
{% if has.negate %}

/** The same number with the other sign. */
export function negate(value: number): number {
  return settled(-value);
}
{% endif %}
{% if has.memory %}

/** What is in the memory once `value` has gone into it. */
export function accumulate(memory: number, value: number): number {
  return aligned(memory + value, memory, value);
}
{% endif %}
