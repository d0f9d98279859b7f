//! How answers say that they are over, or that nothing comes of them: after HTTP has said that all is well.

use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use stagecraft_api::model::Protocol;

/// What an event of a stream means for its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// The stream goes on.
    Other,
    /// The answer is whole; more may be said about it.
    Whole,
    /// Nothing comes after it.
    Last,
    Error(Complaint),
}

/// An error that a provider reports in its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Complaint {
    /// With which it would have been answered before the answer began.
    pub status: StatusCode,
    /// The body that it would have had.
    pub body: Value,
}

impl Complaint {
    /// Whether it speaks against the provider's health.
    pub fn is_failure(&self) -> bool {
        is_failure(self.status)
    }
}

/// Whether an answer of this status speaks against the provider's health: what the agent did wrong does not, nor does a limit.
pub fn is_failure(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT
}

/// Reads the data of an event, or the body of an answer that is no stream.
pub fn word(protocol: Protocol, data: &[u8]) -> Word {
    if data == b"[DONE]" {
        return Word::Last;
    }
    let Ok(event) = serde_json::from_slice::<Event>(data) else {
        return Word::Other;
    };
    let Event {
        kind,
        error,
        code,
        message,
        response,
        choices,
    } = event;
    let error = error.filter(|error| !error.is_null());
    match (protocol, kind.as_str()) {
        (Protocol::Anthropic, "error") => {
            let error = error.unwrap_or_default();
            Word::Error(Complaint {
                status: status(&error),
                body: json!({"type": "error", "error": error}),
            })
        }
        (Protocol::Anthropic, "message_stop")
        | (Protocol::Openai, "response.completed" | "response.incomplete") => Word::Last,
        (Protocol::Anthropic, _) => Word::Other,
        (Protocol::Openai, "error") => {
            complaint(&error.unwrap_or_else(|| json!({"code": code, "message": message})))
        }
        (Protocol::Openai, "response.failed") => {
            complaint(&response.and_then(|response| response.error).unwrap_or_default())
        }
        (Protocol::Openai, _) => match error {
            Some(error) => complaint(&error),
            None if choices
                .into_iter()
                .flatten()
                .any(|choice| choice.finish_reason.is_some()) =>
            {
                Word::Whole
            }
            None => Word::Other,
        },
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    kind: String,
    error: Option<Value>,
    code: Option<Value>,
    message: Option<Value>,
    response: Option<Answer>,
    choices: Option<Vec<Choice>>,
}

#[derive(Deserialize)]
struct Answer {
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<IgnoredAny>,
}

fn complaint(error: &Value) -> Word {
    Word::Error(Complaint {
        status: status(error),
        body: json!({"error": error}),
    })
}

/// The status that the provider's documentation gives to such an error. One that nobody knows is the provider's own.
fn status(error: &Value) -> StatusCode {
    let code = error.get("code").unwrap_or(&Value::Null);
    let number = code.as_u64().or_else(|| code.as_str()?.parse().ok());
    let told = number
        .and_then(|number| StatusCode::from_u16(u16::try_from(number).ok()?).ok())
        .filter(|status| status.is_client_error() || status.is_server_error());
    let names = [code, error.get("type").unwrap_or(&Value::Null)];
    told.or_else(|| names.into_iter().filter_map(Value::as_str).find_map(named))
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn named(name: &str) -> Option<StatusCode> {
    let number = match name {
        "invalid_request_error" | "invalid_prompt" | "context_length_exceeded" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    };
    StatusCode::from_u16(number).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Protocol, Word, word};

    fn told(protocol: Protocol, event: &Value) -> (Word, u16) {
        let word = word(protocol, event.to_string().as_bytes());
        let status = match &word {
            Word::Error(complaint) => complaint.status.as_u16(),
            _ => 0,
        };
        (word, status)
    }

    #[test]
    fn errors_are_known_in_every_protocol_with_what_they_would_have_been_before() {
        let (anthropic, openai) = (Protocol::Anthropic, Protocol::Openai);
        for (protocol, event, expected) in [
            (
                anthropic,
                json!({"type": "error", "error": {"type": "overloaded_error"}}),
                529,
            ),
            (
                anthropic,
                json!({"type": "error", "error": {"type": "api_error"}}),
                500,
            ),
            (
                anthropic,
                json!({"type": "error", "error": {"type": "rate_limit_error"}}),
                429,
            ),
            (anthropic, json!({"type": "error"}), 500),
            (
                openai,
                json!({"error": {"type": "server_error", "code": null}}),
                500,
            ),
            (
                openai,
                json!({"error": {"type": "BadRequestError", "code": 400}}),
                400,
            ),
            (openai, json!({"error": {"type": "x", "code": "502"}}), 502),
            (
                openai,
                json!({"error": {"type": "insufficient_quota", "code": 7}}),
                429,
            ),
            (
                openai,
                json!({"type": "error", "code": "rate_limit_exceeded", "message": "m"}),
                429,
            ),
            (
                openai,
                json!({"type": "error", "error": {"code": "server_error"}}),
                500,
            ),
            (
                openai,
                json!({"type": "response.failed", "response": {"error": {"code": "server_error"}}}),
                500,
            ),
        ] {
            assert_eq!(told(protocol, &event).1, expected, "{event}");
        }
    }

    #[test]
    fn a_last_word_is_known_in_every_protocol() {
        let (anthropic, openai) = (Protocol::Anthropic, Protocol::Openai);
        for (protocol, event, expected) in [
            (anthropic, json!({"type": "message_stop"}), Word::Last),
            (
                anthropic,
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
                Word::Other,
            ),
            (anthropic, json!({"type": "ping"}), Word::Other),
            (
                openai,
                json!({"choices": [{"finish_reason": "stop"}]}),
                Word::Whole,
            ),
            (
                openai,
                json!({"choices": [{"finish_reason": null}], "error": null}),
                Word::Other,
            ),
            (
                openai,
                json!({"type": "response.completed", "response": {"error": null}}),
                Word::Last,
            ),
            (openai, json!({"type": "response.incomplete"}), Word::Last),
            (
                openai,
                json!({"type": "response.created", "response": {"error": null}}),
                Word::Other,
            ),
        ] {
            assert_eq!(told(protocol, &event).0, expected, "{event}");
        }
        assert_eq!(word(openai, b"[DONE]"), Word::Last);
        for data in [&b""[..], b"{", b"\xff", b"[]", b"{\"choices\":3}"] {
            assert_eq!(word(openai, data), Word::Other);
        }
    }
}
