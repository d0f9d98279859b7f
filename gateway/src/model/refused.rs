//! Whether a model refused to go on, as the provider reports it.

use serde::Deserialize;
use stagecraft_api::model::Protocol;

/// Whether an event of a stream, or an answer that is none, says that the model refused, or that the provider withheld what it said.
pub fn is_refusal(protocol: Protocol, data: &[u8]) -> bool {
    match protocol {
        Protocol::Anthropic => serde_json::from_slice::<Message>(data).is_ok_and(Message::refused),
        Protocol::Openai => serde_json::from_slice::<Completion>(data).is_ok_and(Completion::refused),
    }
}

/// A whole message, or the event with its last word.
#[derive(Deserialize)]
struct Message {
    stop_reason: Option<String>,
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    stop_reason: Option<String>,
}

impl Message {
    fn refused(self) -> bool {
        let reasons = [self.stop_reason, self.delta.and_then(|delta| delta.stop_reason)];
        reasons.into_iter().flatten().any(|reason| reason == "refusal")
    }
}

/// Of Chat Completions its choices, of Responses the rest.
#[derive(Deserialize)]
struct Completion {
    #[serde(default, rename = "type")]
    kind: String,
    choices: Option<Vec<Choice>>,
    response: Option<Answer>,
    #[serde(flatten)]
    answer: Answer,
}

#[derive(Deserialize)]
struct Choice {
    finish_reason: Option<String>,
    message: Option<Said>,
    delta: Option<Said>,
}

#[derive(Deserialize)]
struct Said {
    refusal: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    incomplete_details: Option<Incomplete>,
    output: Option<Vec<Item>>,
}

#[derive(Deserialize)]
struct Incomplete {
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Item {
    content: Option<Vec<Part>>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default, rename = "type")]
    kind: String,
}

impl Completion {
    fn refused(self) -> bool {
        let choices = self.choices.into_iter().flatten();
        self.kind == "response.refusal.done"
            || self.answer.refused()
            || self.response.is_some_and(Answer::refused)
            || choices.into_iter().any(Choice::refused)
    }
}

impl Choice {
    fn refused(self) -> bool {
        let said = [self.message, self.delta].into_iter().flatten();
        let mut refusals = said.filter_map(|said| said.refusal);
        self.finish_reason
            .is_some_and(|reason| reason == "content_filter")
            || refusals.any(|refusal| !refusal.is_empty())
    }
}

impl Answer {
    fn refused(self) -> bool {
        let mut parts = self
            .output
            .into_iter()
            .flatten()
            .filter_map(|item| item.content)
            .flatten();
        parts.any(|part| part.kind == "refusal")
            || self
                .incomplete_details
                .is_some_and(|details| details.reason.is_some_and(|reason| reason == "content_filter"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Protocol, is_refusal};

    fn check(protocol: Protocol, expected: bool, answers: &[Value]) {
        for answer in answers {
            assert_eq!(
                is_refusal(protocol, answer.to_string().as_bytes()),
                expected,
                "{answer}"
            );
        }
    }

    #[test]
    fn a_refusal_is_known_in_every_protocol_whole_or_in_a_stream() {
        check(
            Protocol::Anthropic,
            true,
            &[
                json!({"type": "message", "stop_reason": "refusal", "content": []}),
                json!({"type": "message_delta", "delta": {"stop_reason": "refusal"}, "usage": {"output_tokens": 3}}),
            ],
        );
        check(
            Protocol::Openai,
            true,
            &[
                json!({"choices": [{"finish_reason": "stop", "message": {"refusal": "I cannot"}}]}),
                json!({"choices": [{"delta": {"refusal": "I"}}]}),
                json!({"choices": [{"finish_reason": "content_filter", "delta": {}}]}),
                json!({"type": "response.refusal.done", "refusal": "I cannot"}),
                json!({"object": "response", "output": [{"type": "reasoning"}, {"content": [{"type": "refusal"}]}]}),
                json!({"type": "response.incomplete", "response": {"incomplete_details": {"reason": "content_filter"}}}),
            ],
        );
    }

    #[test]
    fn what_is_no_refusal_is_none() {
        check(
            Protocol::Anthropic,
            false,
            &[
                json!({"type": "message", "stop_reason": "end_turn", "content": [{"type": "text", "text": "refusal"}]}),
                json!({"type": "message_delta", "delta": {"stop_reason": null}}),
                json!({"type": "content_block_delta", "delta": {"text": "refusal"}}),
                json!([]),
            ],
        );
        check(
            Protocol::Openai,
            false,
            &[
                json!({"choices": [{"finish_reason": "length", "message": {"refusal": null, "content": "refusal"}}]}),
                json!({"choices": [{"delta": {"refusal": ""}}]}),
                json!({"choices": [], "usage": {"prompt_tokens": 1}}),
                json!({"object": "response", "incomplete_details": {"reason": "max_output_tokens"}, "output": [{"content": [{"type": "output_text"}]}]}),
                json!({"type": "response.created", "response": {"incomplete_details": null, "output": []}}),
            ],
        );
        for protocol in [Protocol::Anthropic, Protocol::Openai] {
            for data in [&b"[DONE]"[..], b"", b"{", b"\xff", b"{\"choices\": 3}"] {
                assert!(!is_refusal(protocol, data));
            }
        }
    }
}
