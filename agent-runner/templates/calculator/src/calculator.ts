// The calculator as a machine: its state and a key give its next state. Nothing in this file knows of a page.

import {
  CalculationError,
  DIGITS,
  {% if has.memory %}
  accumulate,
  {% endif %}
  {% for operation in operations %}
  {{ operation.name }},
  {% endfor %}
} from './arithmetic';
{% if binary %}

/** What needs two numbers. */
const binary = { {{ binary | map(attribute="name") | join(", ") }} };
{% endif %}
{% if unary %}

/** What needs one number. */
const unary = { {{ unary | map(attribute="name") | join(", ") }} };
{% endif %}
{% if has.history %}

/** How a calculation is written down. */
const written = {
  {% for operation in binary %}
  {{ operation.name }}: (left: string, right: string) => `${left} {{ operation.symbol }} ${right}`,
  {% endfor %}
  {% for operation in unary %}
  {{ operation.name }}: (value: string) => `{{ operation.before }}${value}{{ operation.after }}`,
  {% endfor %}
};

/** Older calculations are forgotten. */
const HISTORY = 20;
{% endif %}

const digits = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9'] as const;

type Digit = (typeof digits)[number];
{% if binary %}
type BinaryOperation = keyof typeof binary;
{% endif %}
{% if unary %}
type UnaryOperation = keyof typeof unary;
{% endif %}

const keys = [
  ...digits,
  'decimalPoint',
  'clear',
  {% if has.backspace %}
  'backspace',
  {% endif %}
  {% if has.memory %}
  'memoryClear',
  'memoryRecall',
  'memoryPlus',
  {% endif %}
  {% if has.memoryMinus %}
  'memoryMinus',
  {% endif %}
  {% if has.history %}
  'clearHistory',
  {% endif %}
  {% for operation in operations %}
  '{{ operation.name }}',
  {% endfor %}
  {% if binary %}
  'equals',
  {% endif %}
] as const;

/** What can be pressed. */
export type Key = (typeof keys)[number];

/** Everything that the calculator knows. */
export interface Calculator {
  /** A number, or the reason why there is none. */
  readonly shown: string;
  /** What `shown` is: a number that is being typed, one that is complete{% if binary %}, one whose operator waits for another{% endif %}, or a reason. */
  readonly stage: 'typing' | 'complete' | {% if binary %}'operator' | {% endif %}'failed';
  {% if binary %}
  /** What the next number completes. */
  readonly pending: { readonly left: number; readonly operation: BinaryOperation } | undefined;
  {% endif %}
  {% if has.memory %}
  readonly memory: number;
  {% endif %}
  {% if has.history %}
  /** What was calculated, the latest first. */
  readonly history: readonly string[];
  {% endif %}
}

/** The calculator as it is switched on. */
export const initial: Calculator = {
  shown: '0',
  stage: 'typing',
  {% if binary %}
  pending: undefined,
  {% endif %}
  {% if has.memory %}
  memory: 0,
  {% endif %}
  {% if has.history %}
  history: [],
  {% endif %}
};

/** Whether there is a key of this name. */
export function isKey(name: string | undefined): name is Key {
  return keys.some((key) => key === name);
}

function isDigit(key: Key): key is Digit {
  return digits.some((digit) => digit === key);
}
{% if binary and unary %}

function isUnary(key: Key): key is UnaryOperation {
  return key in unary;
}
{% endif %}

/** The calculator after a key was pressed. */
export function press(calculator: Calculator, key: Key): Calculator {
  try {
    return next(calculator, key);
  } catch (error) {
    if (!(error instanceof CalculationError)) throw error;
    return { ...cleared({% if has.memory or has.history %}calculator{% endif %}), shown: error.message, stage: 'failed' };
  }
}

function next(calculator: Calculator, key: Key): Calculator {
  if (isDigit(key)) {
    return withDigit(calculator, key);
  }
  if (key === 'decimalPoint') {
    return withDecimalPoint(calculator);
  }
  if (key === 'clear') {
    return cleared({% if has.memory or has.history %}calculator{% endif %});
  }
  {% if has.history %}
  if (key === 'clearHistory') {
    return { ...calculator, history: [] };
  }
  {% endif %}
  {% if has.memory %}
  if (key === 'memoryClear') {
    return { ...calculator, memory: 0 };
  }
  if (key === 'memoryRecall') {
    return { ...calculator, shown: String(calculator.memory), stage: 'complete' };
  }
  {% endif %}
  // What follows needs a number, and a reason is none.
  if (calculator.stage === 'failed') {
    return calculator;
  }
  {% if has.memory %}
  if (key === 'memoryPlus') {
    return remembering(calculator, Number(calculator.shown));
  }
  {% endif %}
  {% if has.memoryMinus %}
  if (key === 'memoryMinus') {
    return remembering(calculator, -Number(calculator.shown));
  }
  {% endif %}
  {% if has.backspace %}
  if (key === 'backspace') {
    return withoutLastDigit(calculator);
  }
  {% endif %}
  {% if binary %}
  {% if unary %}
  if (isUnary(key)) {
    return applied(calculator, key);
  }
  {% endif %}
  if (key === 'equals') {
    return completed(calculator);
  }
  // Of two operators in a row the second counts.
  const { shown, ...rest } = calculator.stage === 'operator' ? calculator : completed(calculator);
  return { ...rest, shown, stage: 'operator', pending: { left: Number(shown), operation: key } };
  {% else %}
  return applied(calculator, key);
  {% endif %}
}

function withDigit(calculator: Calculator, digit: Digit): Calculator {
  const { shown, stage } = calculator;
  if (stage !== 'typing') {
    return { ...calculator, shown: digit, stage: 'typing' };
  }
  if (shown.replace('.', '').length >= DIGITS) {
    return calculator;
  }
  return { ...calculator, shown: shown === '0' ? digit : shown + digit };
}

function withDecimalPoint(calculator: Calculator): Calculator {
  const { shown, stage } = calculator;
  if (stage !== 'typing') {
    return { ...calculator, shown: '0.', stage: 'typing' };
  }
  return shown.includes('.') ? calculator : { ...calculator, shown: `${shown}.` };
}
{% if has.backspace %}

/** Results are not shortened: they were not typed. */
function withoutLastDigit(calculator: Calculator): Calculator {
  const { shown, stage } = calculator;
  return stage === 'typing' ? { ...calculator, shown: shown.slice(0, -1) || '0' } : calculator;
}
{% endif %}

{% if has.memory and has.history %}
function cleared({ memory, history }: Calculator): Calculator {
  return { ...initial, memory, history };
}
{% elif has.memory %}
function cleared({ memory }: Calculator): Calculator {
  return { ...initial, memory };
}
{% elif has.history %}
function cleared({ history }: Calculator): Calculator {
  return { ...initial, history };
}
{% else %}
function cleared(): Calculator {
  return initial;
}
{% endif %}
{% if has.memory %}

function remembering(calculator: Calculator, value: number): Calculator {
  const { memory, stage } = calculator;
  return { ...calculator, memory: accumulate(memory, value), stage: stage === 'typing' ? 'complete' : stage };
}
{% endif %}
{% if has.history %}

function recorded(calculation: string, result: string, earlier: readonly string[]): readonly string[] {
  return [`${calculation} = ${result}`, ...earlier].slice(0, HISTORY);
}
{% endif %}
{% if unary %}

function applied(calculator: Calculator, operation: UnaryOperation): Calculator {
  const value = Number(calculator.shown);
  const shown = String(unary[operation](value));
  {% if has.history %}
  const history = recorded(written[operation](String(value)), shown, calculator.history);
  return { ...calculator, shown, stage: 'complete', history };
  {% else %}
  return { ...calculator, shown, stage: 'complete' };
  {% endif %}
}
{% endif %}
{% if binary %}

function completed(calculator: Calculator): Calculator {
  if (!calculator.pending) {
    return { ...calculator, stage: 'complete' };
  }
  const { left, operation } = calculator.pending;
  const right = Number(calculator.shown);
  const shown = String(binary[operation](left, right));
  {% if has.history %}
  const history = recorded(written[operation](String(left), String(right)), shown, calculator.history);
  return { ...calculator, shown, stage: 'complete', pending: undefined, history };
  {% else %}
  return { ...calculator, shown, stage: 'complete', pending: undefined };
  {% endif %}
}
{% endif %}
