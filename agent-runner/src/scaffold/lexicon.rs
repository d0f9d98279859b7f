//! The words that the built-in provider knows. Whatever is not among them is not understood, and is named in the error.

mod words;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::plan::{Feature, Operation, Quality};
use words::{FOUR, WORDS};

/// How an operation was named: `divide` or `division`. A list keeps to one of the two, which tells where a negation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Verb,
    Noun,
}

/// What a word, a phrase or a sign stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Operation(Operation, Form),
    /// The four operations together.
    Four,
    Feature(Feature),
    Quality(Quality),
    /// Says that the project is a calculator.
    Calculator,
    /// Adds nothing.
    Filler,
    Article,
    /// Says that a statement begins or goes on: `it`, `must`, `shows`.
    Statement,
    /// `no`, `without`, `must not`.
    Not,
    /// `needed`, which ends a statement: `division is not needed`.
    Needed,
    /// The same with the negation in it: `unnecessary`.
    Needless,
    /// Ends what a negation covers: `but`, `instead`.
    But,
    Only,
    And,
    With,
    Or,
    Comma,
    Colon,
    Open,
    Close,
    /// End of a sentence.
    Stop,
    /// `at least`: for a percentage that follows.
    Bound,
    /// A share of covered lines that is kept.
    Share,
    /// `test coverage`: what a share is of.
    Coverage,
    /// What numbers are called where they are computed with: `two numbers`.
    Operand,
    /// `key`, `button`: what an operation may have.
    Control,
    Unknown,
}

/// Most words of a phrase.
pub const LONGEST: usize = 8;

static LEXICON: LazyLock<BTreeMap<String, Meaning>> = LazyLock::new(|| {
    let (first, second) = FOUR;
    let four = first
        .iter()
        .flat_map(|one| second.iter().map(move |other| format!("{one} {other}")))
        .chain([
            "arithmetic operations".to_owned(),
            "arithmetic operators".to_owned(),
        ])
        .map(|phrase| (phrase, Meaning::Four));
    WORDS
        .iter()
        .flat_map(|(meaning, phrases)| phrases.split('|').map(|phrase| (phrase.to_owned(), *meaning)))
        .chain(four)
        .collect()
});

/// What a phrase, its words in lower case with one space between, stands for.
pub fn look_up(phrase: &str) -> Option<Meaning> {
    LEXICON.get(phrase).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_phrase_stands_for_one_thing_and_can_be_found() {
        let mut seen = BTreeSet::new();
        for phrase in WORDS.iter().flat_map(|(_, phrases)| phrases.split('|')) {
            assert!(seen.insert(phrase), "{phrase} stands in the lexicon twice");
            assert_eq!(phrase, phrase.trim(), "{phrase:?}");
            assert!(phrase.split(' ').count() <= LONGEST, "{phrase}");
            assert_eq!(phrase, phrase.to_lowercase());
        }
    }

    #[test]
    fn every_operation_and_feature_can_be_asked_for() {
        let meanings: Vec<_> = WORDS.iter().map(|(meaning, _)| *meaning).collect();
        for operation in Operation::ALL {
            assert!(meanings.contains(&Meaning::Operation(operation, Form::Noun)));
        }
        for feature in Feature::ALL {
            assert!(meanings.contains(&Meaning::Feature(feature)));
        }
    }
}
