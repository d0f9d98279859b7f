//! Answers of providers of models, and what agents ask of them.

use stagecraft_api::model::{Operation, Protocol};
use stagecraft_api::provider::Prices;
use stagecraft_gateway::model::refused::is_refusal;
use stagecraft_gateway::model::request::Prompt;
use stagecraft_gateway::model::sse::Events;
use stagecraft_gateway::model::usage::{Meter, cost, is_report_of_usage};

pub fn read(bytes: &[u8]) {
    let mut events = Events::default();
    let mut passed = Vec::new();
    let mut told = Vec::new();
    for piece in bytes.chunks(7) {
        for event in events.feed(piece) {
            passed.extend_from_slice(&event.raw);
            told.push(event.data);
        }
    }
    passed.extend(events.finish().raw);
    assert!(passed == bytes, "a byte of a stream is lost");
    for protocol in [Protocol::Anthropic, Protocol::Openai] {
        let mut meter = Meter::new(protocol);
        for data in told.iter().map(Vec::as_slice).chain([bytes]) {
            meter.take(data);
            is_refusal(protocol, data);
        }
        let prices = Prices {
            input: i64::MAX,
            output: -1,
            cache_write: 0,
            cache_read: 1,
        };
        cost(meter.tokens(), &prices);
    }
    is_report_of_usage(Operation::ChatCompletions, bytes);
    if let Ok(mut prompt) = Prompt::parse(&bytes.to_vec().into()) {
        prompt.set_model("other");
        prompt.ask_for_usage();
        let again = Prompt::parse(&prompt.to_bytes()).unwrap_or_else(|problem| panic!("{problem}"));
        assert!(
            again.model == "other",
            "another model is asked for: {}",
            again.model
        );
        assert!(again.is_streamed == prompt.is_streamed);
    }
}
