//! Why the provider makes nothing.

use stagecraft_api::error::{one_line, truncate};
use stagecraft_api::payload::WorkKind;
use stagecraft_api::{Category, StructuredError, limit};

/// As much of a requirement as is repeated in a message, in bytes.
const TEXT_BYTES: usize = 160;
/// As much of the words that were not understood.
const WORDS_BYTES: usize = 120;
/// Room that a message has for naming requirements, in bytes; the numbers of the others follow.
const NAMED_BYTES: usize = 700;

/// Where a text stands in the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Description,
    /// Number of the requirement, from 1.
    Requirement(usize),
}

impl std::fmt::Display for Place {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Description => formatter.write_str("the description"),
            Self::Requirement(number) => write!(formatter, "requirement {number}"),
        }
    }
}

/// Why a text cannot be met.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("not understood: {}", truncate(&.0.join(", "), WORDS_BYTES))]
    Unknown(Vec<String>),
    #[error("it is not clear what `{0}` refers to")]
    Unclear(String),
    #[error("it asks for nothing that the provider knows")]
    Nothing,
    #[error("every calculator of the provider is so: {0}")]
    Inherent(&'static str),
    #[error("{other} says the opposite about {subject}")]
    Contradicts { other: Place, subject: &'static str },
    #[error("it leaves no operation over")]
    NoOperation,
    #[error("nothing says that the project is a calculator")]
    NoCalculator,
}

/// A text that cannot be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    pub place: Place,
    pub text: String,
    pub reason: Reason,
}

/// The provider cannot make the project. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the built-in provider makes calculators only and cannot meet {}", named(.0))]
pub struct ProviderError(pub Vec<Unmet>);

/// Each text with its reason as long as there is room, then the rest by number.
fn named(unmet: &[Unmet]) -> String {
    let mut message = String::new();
    let mut rest = Vec::new();
    for Unmet { place, text, reason } in unmet {
        let text = truncate(&one_line(text), TEXT_BYTES);
        let entry = format!("{place} `{text}` ({reason})");
        let bytes = limit::stored_bytes(&message) + limit::stored_bytes(&entry);
        if message.is_empty() || bytes <= NAMED_BYTES {
            if !message.is_empty() {
                message.push_str("; ");
            }
            message.push_str(&entry);
        } else {
            rest.push(place.to_string());
        }
    }
    if !rest.is_empty() {
        message.push_str("; nor ");
        message.push_str(&rest.join(", ").replace("requirement ", ""));
    }
    message
}

/// What can be done about work that only a model can do.
const MODELS: &str = "create a ModelProvider of type anthropic or openai in the namespace (see `kubectl explain \
                      modelprovider.spec`), so that a model makes the project";

impl ProviderError {
    /// The error as users see it.
    pub fn structured(&self) -> StructuredError {
        let action = format!(
            "{MODELS}; or put these texts into other words: the provider knows the operations and \
                              features of a calculator, and refuses a text with any word that it does not know"
        );
        StructuredError::new("ProviderCannotMake", Category::Configuration, self.to_string())
            .suggest(action)
            .fatal()
    }
}

/// The provider does no work of this kind. Nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the built-in provider makes calculators as new web applications (type app) and no work of type {}, which takes a model",
    .0.as_str()
)]
pub struct KindError(pub WorkKind);

impl KindError {
    /// The error as users see it.
    pub fn structured(self) -> StructuredError {
        let action = format!(
            "{MODELS}; or name an Agent of your own for the stage, in spec.stages[name=scaffold].agent"
        );
        StructuredError::new("ProviderCannotMake", Category::Configuration, self.to_string())
            .suggest(action)
            .fatal()
    }
}

/// The workspace holds something else than what would be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the workspace already holds a project ({found}), and the scaffold agent overwrites nothing")]
pub struct WorkspaceNotEmpty {
    /// Some of what is there.
    pub found: String,
}

impl WorkspaceNotEmpty {
    /// The error as users see it.
    pub fn structured(&self) -> StructuredError {
        StructuredError::new(
            "WorkspaceNotEmpty",
            Category::Configuration,
            one_line(&self.to_string()),
        )
        .suggest(
            "let the scaffold agent work in the first stage of the template, where the workspace is empty",
        )
        .fatal()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_many_long_requirements_names_every_number_within_the_limit() {
        let unmet = (1..=64)
            .map(|number| Unmet {
                place: Place::Requirement(number),
                text: "Ä <b>\n".repeat(150),
                reason: Reason::Unknown(vec!["ä".repeat(200); 9]),
            })
            .collect();
        let error = ProviderError(unmet).structured();
        assert!(limit::stored_bytes(&error.message) <= limit::MESSAGE_BYTES);
        assert!(error.message.ends_with(", 63, 64"), "{}", error.message);
        assert!(!error.message.contains('\n'));
        assert!(error.suggested_action.unwrap().ends_with("does not know"));
    }
}
