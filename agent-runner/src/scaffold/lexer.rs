//! Parts of a text: words in lower case, signs, and what separates them.

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lexeme {
    Word(String),
    /// A sign of arithmetic, in one spelling each.
    Sign(char),
    Comma,
    Colon,
    Open,
    Close,
    /// End of a sentence.
    Stop,
    /// What a text has in quotation marks, where that is more than a sign.
    Quoted(String),
}

/// More characters than a bullet or a number with the space behind it has.
const BULLET: usize = 6;

/// Parts of a text, in their order.
pub fn lexemes(text: &str) -> Vec<Lexeme> {
    let characters: Vec<char> = without_bullet(text.trim()).chars().map(one_spelling).collect();
    let mut lexer = Lexer {
        characters: &characters,
        position: 0,
        found: Vec::new(),
    };
    while lexer.step() {}
    lexer.found
}

/// A requirement may come with the bullet or the number of its list.
fn without_bullet(text: &str) -> &str {
    let rest = text.trim_start_matches(|character: char| character.is_ascii_digit());
    let rest = match text.len() - rest.len() {
        0 => text.strip_prefix(['-', '*', '•', '–']),
        _ => rest.strip_prefix(['.', ')']),
    };
    rest.filter(|rest| rest.starts_with(char::is_whitespace))
        .map_or(text, str::trim_start)
}

fn one_spelling(character: char) -> char {
    match character {
        '\u{2019}' | '\u{2018}' | '\u{b4}' => '\'',
        '\u{201c}' | '\u{201d}' | '\u{201e}' | '«' | '»' | '`' => '"',
        '−' | '‐' | '‑' => '-',
        '✕' | '✖' | '⨯' | '·' | '∙' => '×',
        '＋' => '+',
        '\u{a0}' => ' ',
        other => other,
    }
}

struct Lexer<'text> {
    characters: &'text [char],
    position: usize,
    found: Vec<Lexeme>,
}

impl Lexer<'_> {
    fn at(&self, offset: usize) -> Option<char> {
        self.characters.get(self.position + offset).copied()
    }

    fn before(&self) -> Option<char> {
        let index = self.position.checked_sub(1)?;
        self.characters.get(index).copied()
    }

    fn push(&mut self, lexeme: Lexeme, characters: usize) {
        self.found.push(lexeme);
        self.position += characters;
    }

    /// False at the end of the text.
    fn step(&mut self) -> bool {
        let Some(character) = self.at(0) else { return false };
        if let Some(length) = self.item().filter(|_| character == '\n') {
            self.push(Lexeme::Stop, length);
            return true;
        }
        let next = self.at(1);
        match character {
            ';' | '!' | '?' | '•' => self.push(Lexeme::Stop, 1),
            _ if character.is_whitespace() || character == '_' => self.position += 1,
            '.' | '…' => self.push(Lexeme::Stop, 1),
            ',' | '–' | '—' => self.push(Lexeme::Comma, 1),
            ':' => self.push(Lexeme::Colon, 1),
            '(' | '[' => self.push(Lexeme::Open, 1),
            ')' | ']' => self.push(Lexeme::Close, 1),
            '&' => self.push(Lexeme::Word("and".to_owned()), 1),
            '"' => self.quoted('"'),
            '\'' if self.before().is_some_and(char::is_alphanumeric) => self.position += 1,
            '\'' => self.quoted('\''),
            '+' if next == Some('/') && self.at(2) == Some('-') && self.at(3) != Some('/') => {
                self.push(Lexeme::Sign('±'), 3);
            }
            // A hyphen is the space between two words.
            '-' if self.before().is_some_and(char::is_alphanumeric)
                && next.is_some_and(char::is_alphanumeric) =>
            {
                self.position += 1;
            }
            '*' if next == Some('*') => self.push(Lexeme::Sign('^'), 2),
            '+' | '-' | '*' | '/' | '×' | '÷' | '%' | '^' | '√' | '±' | '=' => {
                self.push(Lexeme::Sign(character), 1);
            }
            _ if character.is_alphanumeric() => self.word(),
            other => self.push(Lexeme::Word(other.to_string()), 1),
        }
        true
    }

    /// What a line break takes with it when it begins a paragraph or an item of a list. Others are mere wrapping.
    fn item(&self) -> Option<usize> {
        let rest = self.characters.get(self.position + 1..).unwrap_or_default();
        let indent = rest.iter().take_while(|character| **character == ' ').count();
        let line: String = rest
            .get(indent..)
            .unwrap_or_default()
            .iter()
            .take(BULLET)
            .collect();
        let bullet = line.chars().count() - without_bullet(&line).chars().count();
        (bullet > 0 || line.starts_with('\n')).then_some(1 + indent + bullet)
    }

    fn word(&mut self) {
        let length = (0..self.characters.len())
            .take_while(|offset| {
                self.at(*offset).is_some_and(|character| {
                    let inside = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
                    let digit =
                        |character: Option<char>| character.is_some_and(|digit| digit.is_ascii_digit());
                    character.is_alphanumeric()
                        || (character == '\'' && inside(self.at(offset + 1)))
                        || (character == '.'
                            && digit(self.at(offset + 1))
                            && *offset > 0
                            && digit(self.at(offset - 1)))
                })
            })
            .count();
        let word: String = (0..length).filter_map(|offset| self.at(offset)).collect();
        let word = word.to_lowercase();
        let word = word.strip_suffix("'s").unwrap_or(&word).to_owned();
        let after = |offset: usize| self.at(length + offset);
        match (word.as_str(), after(0)) {
            ("m", Some(sign @ ('+' | '-'))) if !after(1).is_some_and(char::is_alphanumeric) => {
                self.push(Lexeme::Word(format!("m{sign}")), length + 1);
            }
            ("e" | "i", Some('.'))
                if after(1).is_some_and(|letter| matches!(letter, 'g' | 'e')) && after(2) == Some('.') =>
            {
                self.push(
                    Lexeme::Word(if word == "e" { "eg" } else { "ie" }.to_owned()),
                    length + 3,
                );
            }
            _ => self.push(Lexeme::Word(word), length),
        }
    }

    /// What stands in quotation marks is meant to the letter, unless it is the sign or the name of a key.
    fn quoted(&mut self, mark: char) {
        let apostrophe =
            |offset: usize| mark == '\'' && self.at(offset + 1).is_some_and(char::is_alphanumeric);
        let end = (1..)
            .map_while(|offset| Some((offset, self.at(offset)?)))
            .position(|(offset, character)| character == mark && !apostrophe(offset));
        let Some(length) = end.filter(|length| *length > 0) else {
            self.position += 1;
            return;
        };
        let text: String = (1..=length).filter_map(|offset| self.at(offset)).collect();
        let text = text.trim();
        match lexemes(text).as_slice() {
            [sign @ Lexeme::Sign(_)] => {
                let sign = sign.clone();
                self.found.extend([Lexeme::Open, sign, Lexeme::Close]);
            }
            _ => self.found.push(Lexeme::Quoted(text.to_lowercase())),
        }
        self.position += length + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let shown: Vec<String> = lexemes(text)
            .into_iter()
            .map(|lexeme| match lexeme {
                Lexeme::Word(word) => word,
                Lexeme::Sign(sign) => format!("<{sign}>"),
                Lexeme::Comma => ",".to_owned(),
                Lexeme::Colon => ":".to_owned(),
                Lexeme::Open => "(".to_owned(),
                Lexeme::Close => ")".to_owned(),
                Lexeme::Stop => ".".to_owned(),
                Lexeme::Quoted(text) => format!("[{text}]"),
            })
            .collect();
        assert_eq!(shown.join(" "), expected, "{text}");
    }

    #[test]
    fn texts_are_parted_into_words_signs_and_separators() {
        check("Add, subtract & divide.", "add , subtract and divide .");
        check("1. Add two numbers", "add two numbers");
        check("- Add", "add");
        check("2 + 2", "2 <+> 2");
        check("Dark-mode; end-to-end", "dark mode . end to end");
        check("M+, M−, MR", "m+ , m- , mr");
        check("+/- and +/-/*", "<±> and <+> </> <-> </> <*>");
        check("don’t, user's 0.5 %", "don't , user 0.5 <%>");
        check("e.g. x**y", "eg x <^> y");
        check(
            "a \"+\" key, 'Cannot divide by zero'",
            "a ( <+> ) key , [cannot divide by zero]",
        );
        check("operations (+, -)", "operations ( <+> , <-> )");
        check("users' sums don't", "users sums don't");
        check("a\nb\n\nc\n- d\n  2) e", "a b . c . d . e");
    }
}
