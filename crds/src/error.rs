use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limit;

/// What kind of thing went wrong. Policy depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Category {
    /// An input or a result is malformed or breaks a rule.
    Validation,
    /// The agent ended with a failure of its own.
    Execution,
    /// A deadline passed.
    Timeout,
    /// Memory, disk, quota or budget is used up.
    Resource,
    /// Something that the work needs is missing or broken.
    Dependency,
    /// The installation or an Agent is set up wrongly.
    Configuration,
    /// The cluster or the network took the work away: eviction, preemption, lost node, deleted Pod or Job.
    Network,
    /// Nothing tells.
    Unknown,
}

impl Category {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Execution => "execution",
            Self::Timeout => "timeout",
            Self::Resource => "resource",
            Self::Dependency => "dependency",
            Self::Configuration => "configuration",
            Self::Network => "network",
            Self::Unknown => "unknown",
        }
    }
}

/// How much an error matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing can go on without a change by a person.
    Fatal,
    /// The attempt failed; a later one may succeed.
    Error,
    /// Worth a look; the work goes on.
    Warning,
    /// For the record.
    Info,
}

/// An error as it stands in status, results and replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StructuredError {
    /// Stable identifier of the error, in UpperCamelCase. At most 63 characters.
    #[schemars(length(max = 63))]
    pub code: String,
    /// What happened, for a person. At most 1024 bytes.
    #[schemars(length(max = 1024))]
    pub message: String,
    /// What kind of thing went wrong.
    pub category: Category,
    /// How much it matters.
    pub severity: Severity,
    /// Whether another attempt can help.
    pub retryable: bool,
    /// Seconds to wait before the next attempt. Absent when nothing asks for a wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 86400))]
    pub retry_after: Option<u32>,
    /// What to do about it. At most 1024 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub suggested_action: Option<String>,
}

impl StructuredError {
    /// A retryable error of severity `error`.
    pub fn new(code: &str, category: Category, message: impl Into<String>) -> Self {
        Self {
            code: truncate(code, 63),
            message: truncate(&message.into(), limit::MESSAGE_BYTES),
            category,
            severity: Severity::Error,
            retryable: true,
            retry_after: None,
            suggested_action: None,
        }
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn suggest(mut self, action: impl Into<String>) -> Self {
        self.suggested_action = Some(truncate(&action.into(), limit::MESSAGE_BYTES));
        self
    }

    /// The same, but no attempt can help: a person has to change something.
    #[must_use]
    pub fn fatal(mut self) -> Self {
        self.severity = Severity::Fatal;
        self.retryable = false;
        self
    }

    /// The same with every text within its bound: for errors that came from outside.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.code = truncate(&self.code, 63);
        self.message = truncate(&self.message, limit::MESSAGE_BYTES);
        self.suggested_action = self
            .suggested_action
            .map(|text| truncate(&text, limit::MESSAGE_BYTES));
        self.retry_after = self.retry_after.map(|seconds| seconds.min(86_400));
        self
    }
}

/// As much of `text` as takes `bytes` bytes in stored JSON, escapes included; an ellipsis stands where something was cut.
/// The bound holds for the plain text as well, which is never longer.
pub fn truncate(text: &str, bytes: usize) -> String {
    let ellipsis = '…';
    let room = bytes.saturating_sub(ellipsis.len_utf8());
    let mut width = 0;
    let mut end = 0;
    for (index, character) in text.char_indices() {
        width += limit::escaped_width(character);
        if width > bytes {
            let mut cut = text.get(..end).unwrap_or_default().to_owned();
            cut.push(ellipsis);
            return cut;
        }
        if width <= room {
            end = index + character.len_utf8();
        }
    }
    text.to_owned()
}

/// An error with all its sources on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// The text on one line: line breaks would tear the table of `kubectl get` apart.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::truncate;

    #[test]
    fn truncation_keeps_characters_whole_and_the_bound() {
        assert_eq!(truncate("short", 10), "short");
        let cut = truncate("ääääää", 8);
        assert_eq!(cut, "ää…");
        assert!(cut.len() <= 8);
    }

    #[test]
    fn truncation_counts_what_the_api_server_stores() {
        assert_eq!(truncate("\"\"\"\"", 8), "\"\"\"\"");
        assert_eq!(truncate("\"\"\"\"\"", 8), "\"\"…");
        assert_eq!(truncate("<<<<", 16), "<<…");
        for text in ["\u{1}\u{1}\u{1}", "a\"b<c&d\ne\u{2028}f", "€€€€€€"] {
            for bytes in 3..32 {
                let json = serde_json::to_string(&truncate(text, bytes)).unwrap();
                assert!(
                    crate::limit::stored_bytes(&json) - 2 <= bytes,
                    "{json} in {bytes}"
                );
            }
        }
    }
}
