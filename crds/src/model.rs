//! What agents and providers of models speak, and how errors of Stagecraft's own look in it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Header of the gateway's answers with the code of a problem of its own, by which the runner tells it from one of the provider.
pub const PROBLEM_HEADER: &str = "x-stagecraft-problem";
/// Code of a call that was not made because a budget is used up.
pub const BUDGET_EXHAUSTED: &str = "budget_exhausted";

/// Value of that header in the trailer of an answer in which the model refused to go on. What a model said is known only at its end.
pub const REFUSED: &str = "model_refused";
/// The same of an answer that broke off, or ended in an error of the provider.
pub const BROKEN: &str = "model_stream_broken";

/// What an agent speaks, and a provider understands.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    Anthropic,
    Openai,
}

impl Protocol {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Openai => "openai",
        }
    }

    /// The body of an error that the gateway itself makes.
    pub fn error(self, problem: &Problem) -> Value {
        let Problem { kind, code, message } = problem;
        match self {
            Self::Anthropic => {
                json!({"type": "error", "error": {"type": kind.anthropic(), "message": message}})
            }
            Self::Openai => json!({"error": {
                "message": message, "type": kind.openai(), "param": null, "code": code,
            }}),
        }
    }
}

/// What is asked for. Everything else that the providers offer is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST v1/messages`.
    Messages,
    /// `POST v1/messages/count_tokens`: free of charge.
    CountTokens,
    /// `POST v1/chat/completions`.
    ChatCompletions,
    /// `POST v1/responses`.
    Responses,
    /// `GET v1/models`: free of charge.
    Models,
}

impl Operation {
    /// The operation of a method and a path below the protocol's base.
    pub fn of(protocol: Protocol, method: &str, path: &str) -> Option<Self> {
        match (protocol, method, path.trim_matches('/')) {
            (Protocol::Anthropic, "POST", "v1/messages") => Some(Self::Messages),
            (Protocol::Anthropic, "POST", "v1/messages/count_tokens") => Some(Self::CountTokens),
            (Protocol::Openai, "POST", "v1/chat/completions") => Some(Self::ChatCompletions),
            (Protocol::Openai, "POST", "v1/responses") => Some(Self::Responses),
            (_, "GET", "v1/models") => Some(Self::Models),
            _ => None,
        }
    }

    /// Path below the provider's base URL.
    pub fn path(self) -> &'static str {
        match self {
            Self::Messages => "v1/messages",
            Self::CountTokens => "v1/messages/count_tokens",
            Self::ChatCompletions => "v1/chat/completions",
            Self::Responses => "v1/responses",
            Self::Models => "v1/models",
        }
    }

    /// Whether tokens are used, and paid.
    pub fn is_charged(self) -> bool {
        matches!(self, Self::Messages | Self::ChatCompletions | Self::Responses)
    }
}

/// The models that a run may call.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunModel {
    /// Name of the ModelProvider.
    pub provider: String,
    /// The model of whoever asks for none; the provider's where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the provider spoke when the Workflow was accepted.
    pub protocol: Protocol,
}

/// What is wrong, for an SDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: ProblemKind,
    /// Stable identifier.
    pub code: &'static str,
    pub message: String,
}

/// By these the SDKs choose the class of the exception, beside the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// 400
    Request,
    /// 403
    Permission,
    /// 404
    NotFound,
    /// 402
    Budget,
    /// 429
    Limit,
    /// 500, 502, 503
    Server,
}

impl ProblemKind {
    fn anthropic(self) -> &'static str {
        match self {
            Self::Request => "invalid_request_error",
            Self::Permission => "permission_error",
            Self::NotFound => "not_found_error",
            Self::Budget => "billing_error",
            Self::Limit => "rate_limit_error",
            Self::Server => "api_error",
        }
    }

    fn openai(self) -> &'static str {
        match self {
            Self::Request | Self::NotFound => "invalid_request_error",
            Self::Permission => "permission_error",
            Self::Budget => "insufficient_quota",
            Self::Limit => "rate_limit_error",
            Self::Server => "server_error",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{BUDGET_EXHAUSTED, Operation, Problem, ProblemKind, Protocol};

    #[test]
    fn only_what_is_known_is_passed_on() {
        let operation = |protocol: Protocol, text: &str| {
            let (method, path) = text.split_once(' ').unwrap();
            Operation::of(protocol, method, path)
        };
        for (protocol, text, expected) in [
            (Protocol::Anthropic, "POST v1/messages", Some(Operation::Messages)),
            (
                Protocol::Anthropic,
                "POST /v1/messages/",
                Some(Operation::Messages),
            ),
            (
                Protocol::Anthropic,
                "POST v1/messages/count_tokens",
                Some(Operation::CountTokens),
            ),
            (
                Protocol::Openai,
                "POST v1/chat/completions",
                Some(Operation::ChatCompletions),
            ),
            (Protocol::Openai, "POST v1/responses", Some(Operation::Responses)),
            (Protocol::Openai, "GET v1/models", Some(Operation::Models)),
            (Protocol::Openai, "POST v1/messages", None),
            (Protocol::Anthropic, "GET v1/messages", None),
            (Protocol::Anthropic, "POST v1/files", None),
            (Protocol::Anthropic, "POST v1/messages/../files", None),
            (Protocol::Anthropic, "POST ../../../v1/result", None),
            (Protocol::Openai, "POST v1/responses?x=/../../result", None),
            (Protocol::Anthropic, "POST v1/messages/batches", None),
        ] {
            let found = operation(protocol, text);
            assert_eq!(found, expected, "{text}");
            if let Some(found) = found {
                assert_eq!(
                    Operation::of(protocol, text.split(' ').next().unwrap(), found.path()),
                    expected
                );
            }
        }
    }

    #[test]
    fn errors_look_like_those_of_the_provider() {
        let problem = Problem {
            kind: ProblemKind::Budget,
            code: BUDGET_EXHAUSTED,
            message: "it is used up".to_owned(),
        };
        assert_eq!(
            Protocol::Anthropic.error(&problem),
            json!({"type": "error", "error": {"type": "billing_error", "message": "it is used up"}})
        );
        assert_eq!(
            Protocol::Openai.error(&problem)["error"]["code"],
            json!("budget_exhausted")
        );
    }
}
