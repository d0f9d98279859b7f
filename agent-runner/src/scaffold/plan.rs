//! What the built-in provider can make: a calculator with some of these operations and features.

use std::collections::BTreeSet;

/// What a calculator computes, in the order of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Modulo,
    SquareRoot,
    Percent,
    Negate,
}

/// A calculation whose result the tests of a project expect. No two operations share theirs, so that none passes for
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Example {
    pub left: &'static str,
    /// None for an operation on one number.
    pub right: Option<&'static str>,
    pub result: &'static str,
}

impl Operation {
    /// Every operation, in the order of the keys.
    pub const ALL: [Self; 9] = [
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Power,
        Self::Modulo,
        Self::SquareRoot,
        Self::Percent,
        Self::Negate,
    ];
    /// The four operations of arithmetic.
    pub const FOUR: [Self; 4] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide];

    /// Name in outputs, and of the function in the project.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Subtract => "subtract",
            Self::Multiply => "multiply",
            Self::Divide => "divide",
            Self::Power => "power",
            Self::Modulo => "modulo",
            Self::SquareRoot => "squareRoot",
            Self::Percent => "percent",
            Self::Negate => "negate",
        }
    }

    /// Name of its button, for people and for those who test by name.
    pub fn label(self) -> &'static str {
        match self {
            Self::Add => "Add",
            Self::Subtract => "Subtract",
            Self::Multiply => "Multiply",
            Self::Divide => "Divide",
            Self::Power => "Power",
            Self::Modulo => "Remainder",
            Self::SquareRoot => "Square root",
            Self::Percent => "Percent",
            Self::Negate => "Change sign",
        }
    }

    /// What stands on its button.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "−",
            Self::Multiply => "×",
            Self::Divide => "÷",
            Self::Power => "^",
            Self::Modulo => "mod",
            Self::SquareRoot => "√",
            Self::Percent => "%",
            Self::Negate => "±",
        }
    }

    /// The key of a keyboard that stands for it.
    pub fn typed(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Power => "^",
            Self::Modulo => "m",
            Self::SquareRoot => "r",
            Self::Percent => "%",
            Self::Negate => "n",
        }
    }

    /// What is written before and after the number of an operation on one number.
    pub fn around(self) -> (&'static str, &'static str) {
        match self {
            Self::SquareRoot => ("√", ""),
            Self::Percent => ("", "%"),
            Self::Negate => ("−(", ")"),
            _ => ("", ""),
        }
    }

    pub fn example(self) -> Example {
        let two = |left, right, result| Example {
            left,
            right: Some(right),
            result,
        };
        let one = |left, result| Example {
            left,
            right: None,
            result,
        };
        match self {
            Self::Add => two("6", "3", "9"),
            Self::Subtract => two("6", "3", "3"),
            Self::Multiply => two("6", "3", "18"),
            Self::Divide => two("6", "3", "2"),
            Self::Power => two("6", "3", "216"),
            Self::Modulo => two("7", "3", "1"),
            Self::SquareRoot => one("16", "4"),
            Self::Percent => one("50", "0.5"),
            Self::Negate => one("5", "-5"),
        }
    }

    /// How it was chosen that it works, where there was something to choose.
    pub fn decision(self) -> Option<&'static str> {
        match self {
            Self::Percent => Some("percent divides the shown number by 100"),
            Self::Modulo => Some("modulo: the remainder has the sign of the second number"),
            Self::Negate => Some("negate changes the sign of the shown number"),
            _ => None,
        }
    }
}

/// What a calculator has besides operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Feature {
    Backspace,
    Memory,
    /// Only with [`Feature::Memory`].
    MemoryMinus,
    History,
    Keyboard,
    DarkMode,
}

impl Feature {
    /// Every feature.
    pub const ALL: [Self; 6] = [
        Self::Backspace,
        Self::Memory,
        Self::MemoryMinus,
        Self::History,
        Self::Keyboard,
        Self::DarkMode,
    ];

    /// Name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backspace => "backspace",
            Self::Memory => "memory",
            Self::MemoryMinus => "memoryMinus",
            Self::History => "history",
            Self::Keyboard => "keyboard",
            Self::DarkMode => "darkMode",
        }
    }

    /// What it is, for a reader of the project.
    pub fn described(self) -> &'static str {
        match self {
            Self::Backspace => "a key that takes the last typed digit back",
            Self::Memory => "a memory: M+ puts the shown number in, MR recalls what is in it, MC clears it",
            Self::MemoryMinus => "M−, which takes the shown number out of the memory",
            Self::History => "a history of the last 20 calculations, which can be cleared",
            Self::Keyboard => "keyboard input for all of it",
            Self::DarkMode => "a dark mode, which begins as the system has it",
        }
    }

    /// How it was chosen that it works, where there was something to choose.
    pub fn decision(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("the memory lasts as long as the page is open"),
            Self::History => {
                Some("the history has the last 20 calculations and lasts as long as the page is open")
            }
            Self::DarkMode => Some("dark mode begins as the system has it and is switched by a button"),
            Self::Backspace | Self::MemoryMinus | Self::Keyboard => None,
        }
    }
}

/// What every calculator of the provider has anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quality {
    Browser,
    Responsive,
    Accessible,
    Tested,
    Clean,
    TypeScript,
    Look,
    Speed,
    Documented,
    Message,
    ByZero,
    Robust,
    Clear,
    Decimals,
    Chaining,
    Pointer,
    /// There is none of what is not wanted.
    Absent,
}

impl Quality {
    /// How it is met.
    pub fn met(self) -> &'static str {
        match self {
            Self::Browser => "runs in the browser",
            Self::Responsive => "the page fits small and large screens",
            Self::Accessible => "buttons, groups and display have names and roles",
            Self::Tested => "has unit tests and end-to-end tests; at least 90 % of the lines must be covered",
            Self::Clean => "linted by strict rules, in three small modules",
            Self::TypeScript => "strict TypeScript, built by Vite",
            Self::Look => "a plain page with large buttons",
            Self::Speed => "one small static page without libraries",
            Self::Documented => "README.md says what it is and how to work on it",
            Self::Message => "what has no result shows a message",
            Self::ByZero => "division by zero shows a message",
            Self::Robust => "failures show a message, and the next number goes on",
            Self::Clear => "the key C clears",
            Self::Decimals => "numbers may have a decimal point",
            Self::Chaining => "calculations go on from left to right with the result",
            Self::Pointer => "buttons for mouse and touch",
            Self::Absent => "there is none",
        }
    }

    /// Whether a negation in front asks for the same: `no errors`, `never crashes`, `no login`.
    pub fn may_be_negated(self) -> bool {
        matches!(self, Self::ByZero | Self::Robust | Self::Absent)
    }
}

/// What one requirement was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Number of the requirement, from 1.
    pub number: usize,
    pub how: String,
}

/// What is to be rendered, and why it is that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the project.
    pub name: String,
    /// Never empty.
    pub operations: BTreeSet<Operation>,
    pub features: BTreeSet<Feature>,
    pub decisions: Vec<String>,
    /// One entry for each requirement, in their order.
    pub requirements: Vec<Met>,
}
