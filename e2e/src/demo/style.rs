//! Colours, where somebody looks at them.

use std::io::IsTerminal as _;

/// Whether to use colours.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    coloured: bool,
}

impl Style {
    /// Colours on a terminal that can show them, unless `NO_COLOR` is set (<https://no-color.org>).
    pub fn of_standard_output() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self {
            coloured: std::io::stdout().is_terminal() && !unwanted && !dumb,
        }
    }

    pub fn plain() -> Self {
        Self { coloured: false }
    }

    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn good(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub fn waiting(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub fn name(self, text: &str) -> String {
        self.paint("36", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.coloured {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
