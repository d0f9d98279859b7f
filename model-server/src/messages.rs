//! Anthropic Messages.

use serde_json::{Value, json};

use crate::{Asking, Stop, Turn, words};

fn reason(turn: &Turn) -> &'static str {
    match turn.stop {
        Stop::End if turn.calls.is_empty() => "end_turn",
        Stop::End => "tool_use",
        Stop::MaxTokens => "max_tokens",
        Stop::Refusal => "refusal",
        Stop::Pause => "pause_turn",
    }
}

fn usage(turn: &Turn, output: u64) -> Value {
    let usage = turn.usage;
    json!({
        "input_tokens": usage.input, "output_tokens": output,
        "cache_creation_input_tokens": usage.cache_write, "cache_read_input_tokens": usage.cache_read,
    })
}

fn id(asking: &Asking<'_>, call: usize) -> String {
    format!("toolu_{}_{call}", asking.number)
}

pub fn whole(turn: &Turn, asking: &Asking<'_>) -> Value {
    let mut content = Vec::new();
    if !turn.text.is_empty() {
        content.push(json!({"type": "text", "text": turn.text}));
    }
    for (index, call) in turn.calls.iter().enumerate() {
        content.push(
            json!({"type": "tool_use", "id": id(asking, index), "name": call.name, "input": call.input}),
        );
    }
    json!({
        "id": format!("msg_{}", asking.number), "type": "message", "role": "assistant", "model": asking.model,
        "content": content, "stop_reason": reason(turn), "stop_sequence": null, "usage": usage(turn, turn.usage.output),
    })
}

pub fn events(turn: &Turn, asking: &Asking<'_>) -> Vec<String> {
    let mut events = Vec::new();
    let mut add = |data: Value| {
        let kind = data.get("type").and_then(Value::as_str).unwrap_or_default();
        events.push(format!("event: {kind}\ndata: {data}\n\n"));
    };
    let mut message = whole(turn, asking);
    message["content"] = json!([]);
    message["stop_reason"] = Value::Null;
    message["usage"] = usage(turn, 1);
    add(json!({"type": "message_start", "message": message}));
    add(json!({"type": "ping"}));
    let mut index = 0;
    if !turn.text.is_empty() {
        add(
            json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}),
        );
        for word in words(&turn.text) {
            add(
                json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": word}}),
            );
        }
        add(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    }
    for (number, call) in turn.calls.iter().enumerate() {
        let block = json!({"type": "tool_use", "id": id(asking, number), "name": call.name, "input": {}});
        add(json!({"type": "content_block_start", "index": index, "content_block": block}));
        for word in words(&call.input.to_string()) {
            let delta = json!({"type": "input_json_delta", "partial_json": word});
            add(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        add(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    }
    let delta = json!({"stop_reason": reason(turn), "stop_sequence": null});
    add(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": turn.usage.output}}));
    add(json!({"type": "message_stop"}));
    events
}
