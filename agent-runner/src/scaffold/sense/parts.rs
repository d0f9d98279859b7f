//! What the words and signs of a text stand for, each seen with its neighbours.

use super::super::lexer::{Lexeme, lexemes};
use super::super::lexicon::{Form, LONGEST, Meaning, look_up};
use super::super::plan::{Operation, Quality};

/// A phrase or a sign with what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub meaning: Meaning,
    pub text: String,
}

/// What a project shows, to the letter. Anything else in quotation marks would not be shown.
const SHOWN: &str = "cannot divide by zero";
/// Share of the lines, in percent, that the tests of a project must cover by its own configuration.
const COVERED: f64 = 90.0;

/// The parts of a text.
pub fn parts(text: &str) -> Vec<Part> {
    let lexemes = lexemes(text);
    let mut parts = Vec::new();
    let mut index = 0;
    while let Some(lexeme) = lexemes.get(index) {
        let (part, length) = match lexeme {
            Lexeme::Word(_) => phrase(&lexemes, index),
            Lexeme::Sign(sign) => (sign_at(&lexemes, index, *sign), 1),
            Lexeme::Quoted(text) => (quoted(text), 1),
            Lexeme::Comma => (separator(Meaning::Comma, ","), 1),
            Lexeme::Colon => (separator(Meaning::Colon, ":"), 1),
            Lexeme::Open => (separator(Meaning::Open, "("), 1),
            Lexeme::Close => (separator(Meaning::Close, ")"), 1),
            Lexeme::Stop => (separator(Meaning::Stop, "."), 1),
        };
        parts.push(part);
        index += length;
    }
    settle(&mut parts);
    parts
}

fn separator(meaning: Meaning, text: &str) -> Part {
    Part {
        meaning,
        text: text.to_owned(),
    }
}

fn word(lexemes: &[Lexeme], index: usize) -> Option<&str> {
    match lexemes.get(index) {
        Some(Lexeme::Word(word)) => Some(word),
        _ => None,
    }
}

/// The longest phrase that begins here, with the number of its lexemes.
fn phrase(lexemes: &[Lexeme], index: usize) -> (Part, usize) {
    if let Some(found) = share(lexemes, index) {
        return found;
    }
    let words: Vec<&str> = (index..index + LONGEST)
        .map_while(|at| word(lexemes, at))
        .collect();
    let found = (1..=words.len()).rev().find_map(|length| {
        let text = words.get(..length)?.join(" ");
        look_up(&text).map(|meaning| (Part { meaning, text }, length))
    });
    found.unwrap_or_else(|| {
        let text = words.first().copied().unwrap_or_default().to_owned();
        let meaning = letter(lexemes, index, &text).unwrap_or(Meaning::Unknown);
        (Part { meaning, text }, 1)
    })
}

/// `90 %`. It is no wish for an operation, and only coverage is measured so.
fn share(lexemes: &[Lexeme], index: usize) -> Option<(Part, usize)> {
    let text = word(lexemes, index)?;
    let number: f64 = text.parse().ok()?;
    let length = match lexemes.get(index + 1)? {
        Lexeme::Sign('%') => 2,
        Lexeme::Word(word) if word == "percent" => 2,
        _ => return None,
    };
    let meaning = if number <= COVERED {
        Meaning::Share
    } else {
        Meaning::Unknown
    };
    let text = format!("{text} %");
    Some((Part { meaning, text }, length))
}

/// A letter beside a sign stands for a number, and an x between signs for one of them.
fn letter(lexemes: &[Lexeme], index: usize, text: &str) -> Option<Meaning> {
    if text.chars().count() != 1 || !text.starts_with(|letter: char| letter.is_ascii_lowercase()) {
        return None;
    }
    if beside_sign(lexemes, index) {
        return Some(Meaning::Filler);
    }
    let multiplies = text == "x" && in_list(lexemes, index);
    multiplies.then_some(Meaning::Operation(Operation::Multiply, Form::Noun))
}

fn beside_sign(lexemes: &[Lexeme], index: usize) -> bool {
    let sign = |at: Option<usize>| {
        at.and_then(|at| lexemes.get(at))
            .is_some_and(|lexeme| matches!(lexeme, Lexeme::Sign(_)))
    };
    sign(index.checked_sub(1)) || sign(Some(index + 1))
}

/// Whether the nearest neighbour, with only a separator between, is a sign.
fn in_list(lexemes: &[Lexeme], index: usize) -> bool {
    let passed = |lexeme: &&Lexeme| match lexeme {
        Lexeme::Comma => true,
        Lexeme::Word(word) => word == "and" || word == "or",
        _ => false,
    };
    let sign = |lexeme: Option<&Lexeme>| match lexeme {
        Some(Lexeme::Sign(_)) => true,
        Some(Lexeme::Word(word)) => word == "x",
        _ => false,
    };
    let before = lexemes.get(..index).unwrap_or_default();
    let after = lexemes.get(index + 1..).unwrap_or_default();
    sign(before.iter().rev().find(|lexeme| !passed(lexeme)))
        || sign(after.iter().find(|lexeme| !passed(lexeme)))
}

/// Some signs are punctuation as well. They mean an operation among other signs, in brackets, between letters, or as keys.
fn sign_at(lexemes: &[Lexeme], index: usize, sign: char) -> Part {
    let before = index.checked_sub(1).and_then(|before| lexemes.get(before));
    let after = lexemes.get(index + 1);
    let single =
        |lexeme: Option<&Lexeme>| matches!(lexeme, Some(Lexeme::Word(word)) if word.chars().count() == 1);
    let control = matches!(word(lexemes, index + 1), Some(word)
        if matches!(word, "key" | "button" | "sign" | "operator" | "operation" | "symbol"));
    let operation = in_list(lexemes, index)
        || (before == Some(&Lexeme::Open) && after == Some(&Lexeme::Close))
        || (single(before) && single(after))
        || control;
    let between_words = matches!((before, after), (Some(Lexeme::Word(_)), Some(Lexeme::Word(_))));
    let noun = |operation| Meaning::Operation(operation, Form::Noun);
    let meaning = match sign {
        '+' if between_words && !operation => Meaning::And,
        '+' => noun(Operation::Add),
        '×' => noun(Operation::Multiply),
        '÷' => noun(Operation::Divide),
        '^' => noun(Operation::Power),
        '√' => noun(Operation::SquareRoot),
        '%' => noun(Operation::Percent),
        '±' => noun(Operation::Negate),
        '-' if operation => noun(Operation::Subtract),
        '*' if operation => noun(Operation::Multiply),
        '/' if operation => noun(Operation::Divide),
        '=' if operation => Meaning::Filler,
        '/' => Meaning::Or,
        '-' if before.is_none() || before == Some(&Lexeme::Stop) => Meaning::Filler,
        '-' => Meaning::Comma,
        '*' => Meaning::Filler,
        _ => Meaning::Unknown,
    };
    Part {
        meaning,
        text: sign.to_string(),
    }
}

fn quoted(text: &str) -> Part {
    let meaning = match look_up(text) {
        _ if text.trim_end_matches(['.', '!']) == SHOWN => Meaning::Quality(Quality::ByZero),
        // The name of a message is no message.
        Some(Meaning::Quality(Quality::Message)) | None => Meaning::Unknown,
        Some(meaning) => meaning,
    };
    Part {
        meaning,
        text: text.to_owned(),
    }
}

/// Words that have several meanings get the one that their neighbours allow.
fn settle(parts: &mut [Part]) {
    let meanings: Vec<Meaning> = parts.iter().map(|part| part.meaning).collect();
    let at = |index: usize| meanings.get(index).copied().unwrap_or(Meaning::Stop);
    let covers = meanings.contains(&Meaning::Coverage);
    let computes = meanings
        .iter()
        .any(|meaning| matches!(meaning, Meaning::Operation(_, Form::Noun)));
    for (index, part) in parts.iter_mut().enumerate() {
        let before = index.checked_sub(1).map_or(Meaning::Stop, at);
        part.meaning = match (part.meaning, part.text.as_str()) {
            (Meaning::Operation(Operation::Add, Form::Verb), "add" | "adds" | "adding" | "added")
                if !is_operation(before, at(index + 1), at(index + 2)) =>
            {
                Meaning::Filler
            }
            (Meaning::Operation(Operation::Add, _), "plus") if joins(before, at(index + 1)) => Meaning::And,
            (Meaning::Share, _) if covers => Meaning::Quality(Quality::Tested),
            (Meaning::Bound, _) if covers && at(index + 1) == Meaning::Share => Meaning::Filler,
            (Meaning::Coverage, _) => Meaning::Quality(Quality::Tested),
            (Meaning::Unknown, "product" | "products") if computes => {
                Meaning::Operation(Operation::Multiply, Form::Noun)
            }
            (meaning, _) => meaning,
        };
    }
}

/// Whether `add` means the operation. It can also mean `include`: `add a history`.
fn is_operation(before: Meaning, next: Meaning, second: Meaning) -> bool {
    match next {
        Meaning::Stop
        | Meaning::Comma
        | Meaning::And
        | Meaning::Or
        | Meaning::Open
        | Meaning::Close
        | Meaning::Colon
        | Meaning::Operand
        | Meaning::Only
        | Meaning::But
        | Meaning::Needed
        | Meaning::Needless
        | Meaning::Not
        | Meaning::Operation(_, Form::Verb) => true,
        Meaning::Article => second == Meaning::Operand,
        Meaning::Control => matches!(
            before,
            Meaning::Article
                | Meaning::Comma
                | Meaning::And
                | Meaning::Or
                | Meaning::Open
                | Meaning::Operation(..)
        ),
        Meaning::Quality(Quality::Decimals) | Meaning::Operation(Operation::Negate, Form::Noun) => {
            before == Meaning::Statement
        }
        Meaning::Filler | Meaning::With | Meaning::Statement => before == Meaning::Statement,
        _ => false,
    }
}

/// Whether `plus` means `and`.
fn joins(before: Meaning, next: Meaning) -> bool {
    match next {
        Meaning::Article | Meaning::Feature(_) | Meaning::Quality(_) => true,
        Meaning::Operation(_, Form::Noun) => matches!(before, Meaning::Operation(_, Form::Noun)),
        _ => false,
    }
}
