//! OpenAI Chat Completions.

use serde_json::{Value, json};

use crate::{Asking, Stop, Turn, words};

/// When every answer was made.
const CREATED: u64 = 1_780_000_000;

fn reason(turn: &Turn) -> &'static str {
    match turn.stop {
        Stop::End if !turn.calls.is_empty() => "tool_calls",
        Stop::End | Stop::Pause => "stop",
        Stop::MaxTokens => "length",
        Stop::Refusal => "content_filter",
    }
}

/// What is read from the cache counts as prompt, too.
fn usage(turn: &Turn) -> Value {
    let usage = turn.usage;
    let prompt = usage.input + usage.cache_read + usage.cache_write;
    json!({
        "prompt_tokens": prompt, "completion_tokens": usage.output, "total_tokens": prompt + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read, "audio_tokens": 0},
    })
}

fn calls(turn: &Turn, asking: &Asking<'_>) -> Vec<Value> {
    let calls = turn.calls.iter().enumerate();
    calls
        .map(|(index, call)| {
            json!({
                "id": format!("call_{}_{index}", asking.number), "type": "function",
                "function": {"name": call.name, "arguments": call.input.to_string()},
            })
        })
        .collect()
}

pub fn whole(turn: &Turn, asking: &Asking<'_>) -> Value {
    let content = if turn.text.is_empty() {
        Value::Null
    } else {
        json!(turn.text)
    };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !turn.calls.is_empty() {
        message["tool_calls"] = json!(calls(turn, asking));
    }
    json!({
        "id": format!("chatcmpl-{}", asking.number), "object": "chat.completion", "created": CREATED, "model": asking.model,
        "choices": [{"index": 0, "message": message, "finish_reason": reason(turn), "logprobs": null}], "usage": usage(turn),
    })
}

pub fn events(turn: &Turn, asking: &Asking<'_>) -> Vec<String> {
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", asking.number), "object": "chat.completion.chunk", "created": CREATED,
            "model": asking.model, "choices": choices,
        });
        if asking.wants_usage {
            chunk["usage"] = usage;
        }
        format!("data: {chunk}\n\n")
    };
    let delta = |delta: Value, reason: Value| {
        chunk(
            json!([{"index": 0, "delta": delta, "finish_reason": reason}]),
            Value::Null,
        )
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    for word in words(&turn.text) {
        events.push(delta(json!({"content": word}), Value::Null));
    }
    for (index, mut call) in calls(turn, asking).into_iter().enumerate() {
        let arguments = call["function"]["arguments"].take();
        call["index"] = json!(index);
        call["function"]["arguments"] = json!("");
        events.push(delta(json!({"tool_calls": [call]}), Value::Null));
        for word in words(arguments.as_str().unwrap_or_default()) {
            let piece = json!({"index": index, "function": {"arguments": word}});
            events.push(delta(json!({"tool_calls": [piece]}), Value::Null));
        }
    }
    events.push(delta(json!({}), json!(reason(turn))));
    if asking.wants_usage {
        events.push(chunk(json!([]), usage(turn)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}
