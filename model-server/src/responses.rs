//! OpenAI Responses.

use serde_json::{Value, json};

use crate::{Asking, Stop, Turn, words};

/// When every answer was made.
const CREATED: u64 = 1_780_000_000;

fn usage(turn: &Turn) -> Value {
    let usage = turn.usage;
    let input = usage.input + usage.cache_read + usage.cache_write;
    json!({
        "input_tokens": input, "input_tokens_details": {"cached_tokens": usage.cache_read},
        "output_tokens": usage.output, "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": input + usage.output,
    })
}

fn message(asking: &Asking<'_>, content: &Value, status: &str) -> Value {
    json!({"type": "message", "id": format!("msg_{}", asking.number), "status": status, "role": "assistant", "content": content})
}

fn text(turn: &Turn) -> Value {
    match turn.stop {
        Stop::Refusal => json!({"type": "refusal", "refusal": turn.text}),
        _ => json!({"type": "output_text", "text": turn.text, "annotations": []}),
    }
}

fn calls(turn: &Turn, asking: &Asking<'_>, status: &str) -> Vec<Value> {
    let calls = turn.calls.iter().enumerate();
    calls
        .map(|(index, call)| {
            json!({
                "type": "function_call", "id": format!("fc_{}_{index}", asking.number),
                "call_id": format!("call_{}_{index}", asking.number), "name": call.name,
                "arguments": call.input.to_string(), "status": status,
            })
        })
        .collect()
}

fn response(asking: &Asking<'_>, status: &str, output: &Value, usage: &Value, incomplete: &Value) -> Value {
    json!({
        "id": format!("resp_{}", asking.number), "object": "response", "created_at": CREATED, "status": status,
        "error": null, "incomplete_details": incomplete, "instructions": null, "metadata": {}, "model": asking.model,
        "output": output, "parallel_tool_calls": true, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": usage,
    })
}

pub fn whole(turn: &Turn, asking: &Asking<'_>) -> Value {
    let mut output = Vec::new();
    if !turn.text.is_empty() {
        output.push(message(asking, &json!([text(turn)]), "completed"));
    }
    output.extend(calls(turn, asking, "completed"));
    let (status, incomplete) = match turn.stop {
        Stop::MaxTokens => ("incomplete", json!({"reason": "max_output_tokens"})),
        _ => ("completed", Value::Null),
    };
    response(asking, status, &json!(output), &usage(turn), &incomplete)
}

pub fn events(turn: &Turn, asking: &Asking<'_>) -> Vec<String> {
    let mut events = Vec::new();
    let mut add = |kind: &str, mut data: Value| {
        data["type"] = json!(kind);
        data["sequence_number"] = json!(events.len());
        events.push(format!("event: {kind}\ndata: {data}\n\n"));
    };
    let begun = response(asking, "in_progress", &json!([]), &Value::Null, &Value::Null);
    add("response.created", json!({"response": begun}));
    add("response.in_progress", json!({"response": begun}));
    let mut index = 0;
    if !turn.text.is_empty() {
        let id = format!("msg_{}", asking.number);
        let place = json!({"item_id": id, "output_index": index, "content_index": 0});
        let with = |more: Value| {
            let mut data = place.clone();
            for (name, value) in more.as_object().into_iter().flatten() {
                data[name] = value.clone();
            }
            data
        };
        let begun = message(asking, &json!([]), "in_progress");
        add(
            "response.output_item.added",
            json!({"output_index": index, "item": begun}),
        );
        add(
            "response.content_part.added",
            with(json!({"part": {"type": "output_text", "text": "", "annotations": []}})),
        );
        for word in words(&turn.text) {
            add(
                "response.output_text.delta",
                with(json!({"delta": word, "logprobs": []})),
            );
        }
        add(
            "response.output_text.done",
            with(json!({"text": turn.text, "logprobs": []})),
        );
        add("response.content_part.done", with(json!({"part": text(turn)})));
        let done = message(asking, &json!([text(turn)]), "completed");
        add(
            "response.output_item.done",
            json!({"output_index": index, "item": done}),
        );
        index += 1;
    }
    for (begun, done) in calls(turn, asking, "in_progress")
        .into_iter()
        .zip(calls(turn, asking, "completed"))
    {
        let id = begun["id"].clone();
        let mut empty = begun;
        empty["arguments"] = json!("");
        add(
            "response.output_item.added",
            json!({"output_index": index, "item": empty}),
        );
        let arguments = done["arguments"].as_str().unwrap_or_default().to_owned();
        for word in words(&arguments) {
            add(
                "response.function_call_arguments.delta",
                json!({"item_id": id, "output_index": index, "delta": word}),
            );
        }
        add(
            "response.function_call_arguments.done",
            json!({"item_id": id, "output_index": index, "arguments": arguments, "name": done["name"]}),
        );
        add(
            "response.output_item.done",
            json!({"output_index": index, "item": done}),
        );
        index += 1;
    }
    let whole = whole(turn, asking);
    let last = if whole["status"] == "incomplete" {
        "response.incomplete"
    } else {
        "response.completed"
    };
    add(last, json!({"response": whole}));
    events
}
