//! What a call used, as the provider reports it.

use serde::Deserialize;
use stagecraft_api::budget::Tokens;
use stagecraft_api::model::Protocol;
use stagecraft_api::provider::Prices;

use super::request::Operation;

/// What tokens cost, in micro-units of the account's currency, rounded up.
pub fn cost(tokens: Tokens, prices: &Prices) -> u64 {
    let classes = [
        (tokens.input, prices.input),
        (tokens.output, prices.output),
        (tokens.cache_write, prices.cache_write),
        (tokens.cache_read, prices.cache_read),
    ];
    let sum = classes.iter().fold(0_u128, |sum, (tokens, price)| {
        let price = u128::try_from(*price).unwrap_or(0);
        sum.saturating_add(u128::from(*tokens) * price)
    });
    u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// Reads the usage off an answer.
#[derive(Debug)]
pub struct Meter {
    protocol: Protocol,
    tokens: Tokens,
    is_final: bool,
}

impl Meter {
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            tokens: Tokens::default(),
            is_final: false,
        }
    }

    /// Takes the data of an event, or the body of an answer that is no stream. What is not JSON, or of a kind that nobody knows, says
    /// nothing.
    pub fn take(&mut self, data: &[u8]) {
        match self.protocol {
            Protocol::Anthropic => self.anthropic(data),
            Protocol::Openai => self.openai(data),
        }
    }

    /// What is known of the usage by now.
    pub fn tokens(&self) -> Tokens {
        self.tokens
    }

    /// Whether the provider has said how much it was in all; a stream that breaks before is settled by estimate.
    pub fn is_final(&self) -> bool {
        self.is_final
    }

    fn anthropic(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<AnthropicEvent>(data) else {
            return;
        };
        let is_last = matches!(event.kind.as_str(), "message" | "message_delta");
        let usages = [event.message.and_then(|message| message.usage), event.usage];
        for usage in usages.into_iter().flatten() {
            // Each report counts from the beginning; what it leaves out stays as it was.
            let AnthropicUsage {
                input_tokens,
                output_tokens,
                cache_creation_input_tokens,
                cache_read_input_tokens,
            } = usage;
            let set = |known: &mut u64, told: Option<u64>| *known = told.unwrap_or(*known).max(*known);
            set(&mut self.tokens.input, input_tokens);
            set(&mut self.tokens.output, output_tokens);
            set(&mut self.tokens.cache_write, cache_creation_input_tokens);
            set(&mut self.tokens.cache_read, cache_read_input_tokens);
            self.is_final |= is_last;
        }
    }

    fn openai(&mut self, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<OpenaiEvent>(data) else {
            return;
        };
        let usage = event
            .usage
            .or_else(|| event.response.and_then(|response| response.usage));
        let Some(usage) = usage else {
            return;
        };
        let OpenaiUsage {
            input_tokens,
            output_tokens,
            input_tokens_details: InputDetails { cached_tokens },
        } = usage;
        self.tokens = Tokens {
            input: input_tokens.saturating_sub(cached_tokens),
            output: output_tokens,
            cache_write: 0,
            cache_read: cached_tokens,
        };
        self.is_final = true;
    }
}

/// Whether an event of a stream is the report of usage that the gateway asked for, and not the agent.
pub fn is_report_of_usage(operation: Operation, data: &[u8]) -> bool {
    operation == Operation::ChatCompletions
        && serde_json::from_slice::<ChatChunk>(data).is_ok_and(|chunk| {
            chunk.usage.is_some() && chunk.choices.is_some_and(|choices| choices.is_empty())
        })
}

#[derive(Deserialize)]
struct ChatChunk {
    usage: Option<serde::de::IgnoredAny>,
    choices: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct AnthropicEvent {
    #[serde(default, rename = "type")]
    kind: String,
    message: Option<AnthropicMessage>,
    usage: Option<AnthropicUsage>,
}

#[derive(Deserialize)]
struct AnthropicMessage {
    usage: Option<AnthropicUsage>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are the protocol's")]
struct AnthropicUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OpenaiEvent {
    usage: Option<OpenaiUsage>,
    response: Option<OpenaiResponse>,
}

#[derive(Deserialize)]
struct OpenaiResponse {
    usage: Option<OpenaiUsage>,
}

/// Chat Completions and Responses have different names for the same.
#[derive(Deserialize)]
struct OpenaiUsage {
    #[serde(alias = "prompt_tokens", default)]
    input_tokens: u64,
    #[serde(alias = "completion_tokens", default)]
    output_tokens: u64,
    #[serde(alias = "prompt_tokens_details", default, deserialize_with = "or_default")]
    input_tokens_details: InputDetails,
}

#[derive(Default, Deserialize)]
struct InputDetails {
    #[serde(default, deserialize_with = "or_default")]
    cached_tokens: u64,
}

/// A null counts as absent.
fn or_default<'de, T: Default + Deserialize<'de>, D: serde::Deserializer<'de>>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stagecraft_api::model::Protocol;
    use stagecraft_api::provider::Prices;

    use super::{Meter, Tokens, cost, is_report_of_usage};
    use crate::model::request::Operation;

    fn metered(protocol: Protocol, events: &[Value]) -> (Tokens, bool) {
        let mut meter = Meter::new(protocol);
        for event in events {
            meter.take(event.to_string().as_bytes());
        }
        (meter.tokens(), meter.is_final())
    }

    #[test]
    fn a_stream_of_messages_counts_its_cache_and_its_last_word() {
        let begin = json!({"type": "message_start", "message": {"usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 200, "cache_read_input_tokens": 3000, "output_tokens": 1}}});
        let end = json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 42}});
        let tokens = Tokens {
            input: 10,
            output: 42,
            cache_write: 200,
            cache_read: 3000,
        };
        let ping = json!({"type": "ping"});
        assert_eq!(
            metered(Protocol::Anthropic, &[begin.clone(), ping, end]),
            (tokens, true)
        );
        let broken = Tokens { output: 1, ..tokens };
        assert_eq!(metered(Protocol::Anthropic, &[begin]), (broken, false));
    }

    #[test]
    fn a_message_in_one_piece_reports_all_at_once() {
        let message = json!({"type": "message", "content": [], "usage": {
            "input_tokens": 5, "output_tokens": 7, "cache_creation_input_tokens": null, "server_tool_use": null}});
        let tokens = Tokens {
            input: 5,
            output: 7,
            ..Tokens::default()
        };
        assert_eq!(metered(Protocol::Anthropic, &[message]), (tokens, true));
    }

    #[test]
    fn both_apis_of_openai_count_what_was_cached_apart() {
        let tokens = Tokens {
            input: 20,
            output: 9,
            cache_write: 0,
            cache_read: 80,
        };
        let chunks = [
            json!({"choices": [{"delta": {"content": "x"}}], "usage": null}),
            json!({"choices": [], "usage": {
                "prompt_tokens": 100, "completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 80}}}),
        ];
        assert_eq!(metered(Protocol::Openai, &chunks), (tokens, true));
        let responses = [
            json!({"type": "response.created", "response": {"usage": null}}),
            json!({"type": "response.completed", "response": {"usage": {
                "input_tokens": 100, "output_tokens": 9, "input_tokens_details": {"cached_tokens": 80}}}}),
        ];
        assert_eq!(metered(Protocol::Openai, &responses), (tokens, true));
        let plain =
            json!({"usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": null}});
        let tokens = Tokens {
            input: 3,
            output: 4,
            ..Tokens::default()
        };
        assert_eq!(metered(Protocol::Openai, &[plain]), (tokens, true));
    }

    #[test]
    fn what_nobody_understands_says_nothing() {
        for protocol in [Protocol::Anthropic, Protocol::Openai] {
            let mut meter = Meter::new(protocol);
            for data in [
                &b"[DONE]"[..],
                b"",
                b"{",
                b"\xff",
                b"{\"usage\": 3}",
                b"[]",
                b"{\"usage\":{\"output_tokens\":-1}}",
            ] {
                meter.take(data);
            }
            assert_eq!((meter.tokens(), meter.is_final()), (Tokens::default(), false));
        }
    }

    #[test]
    fn only_the_report_without_a_choice_is_the_gateways_own() {
        let is_report =
            |chunk: Value| is_report_of_usage(Operation::ChatCompletions, chunk.to_string().as_bytes());
        assert!(is_report(json!({"choices": [], "usage": {"prompt_tokens": 1}})));
        assert!(!is_report(
            json!({"choices": [{"delta": {}}], "usage": {"prompt_tokens": 1}})
        ));
        assert!(!is_report(json!({"choices": [], "usage": null})));
        assert!(!is_report_of_usage(Operation::ChatCompletions, b"[DONE]"));
    }

    #[test]
    fn cost_is_rounded_up_and_cannot_overflow() {
        let prices = Prices {
            input: 3_000_000,
            output: 15_000_000,
            cache_write: 3_750_000,
            cache_read: 300_000,
        };
        let tokens = Tokens {
            input: 1,
            output: 2,
            cache_write: 0,
            cache_read: 1,
        };
        assert_eq!(cost(tokens, &prices), 34);
        let most = Tokens {
            input: u64::MAX,
            output: u64::MAX,
            cache_write: u64::MAX,
            cache_read: u64::MAX,
        };
        assert_eq!(cost(most, &prices), u64::MAX);
        assert_eq!(cost(most, &Prices::default()), 0);
    }
}
