//! Workflows for scenarios.

use serde_json::{Value, json};
use stagecraft_api::payload::EchoFault;

/// Name of the template of [`single_stage`].
pub const SINGLE: &str = "single";
/// Name of its stage.
pub const STAGE: &str = "work";

/// The five stages of the built-in type.
pub fn echo(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"type": "echo", "project": {"requirements": ["say what was asked"]}},
    })
}

/// The five stages, of which some work for a while.
pub fn slow_echo(name: &str, stages: &[&str], millis: u64) -> Value {
    let mut workflow = echo(name);
    let overrides: Vec<Value> = stages
        .iter()
        .map(|stage| json!({"name": stage, "payload": {"sleepMillis": millis}}))
        .collect();
    set(&mut workflow, "/spec", "stages", json!(overrides));
    workflow
}

/// A template with one stage, which is as much as a fault needs.
pub fn single_stage() -> Value {
    json!({"metadata": {"name": SINGLE}, "spec": {"stages": [{"name": STAGE, "agent": "echo"}]}})
}

/// A Workflow of one stage with changes to it.
pub fn single(name: &str, change: Value) -> Value {
    let mut change = change;
    set(&mut change, "", "name", json!(STAGE));
    json!({
        "metadata": {"name": name},
        "spec": {
            "templateRef": {"name": SINGLE},
            "project": {"requirements": ["one thing"]},
            "stages": [change],
        },
    })
}

/// A Workflow of one stage whose agent misbehaves in its first `attempts` attempts, or in all.
pub fn faulty(
    name: &str,
    fault: EchoFault,
    attempts: Option<u32>,
    retries: u32,
    timeout_seconds: u32,
) -> Value {
    let mut payload = json!({"fault": fault});
    if let Some(attempts) = attempts {
        set(&mut payload, "", "faultUntilAttempt", json!(attempts));
    }
    single(
        name,
        json!({"retries": retries, "timeoutSeconds": timeout_seconds, "payload": payload}),
    )
}

/// Sets a field of an object within a value; nothing happens where there is no such object.
pub fn set(value: &mut Value, pointer: &str, field: &str, to: Value) {
    if let Some(Value::Object(object)) = value.pointer_mut(pointer) {
        object.insert(field.to_owned(), to);
    }
}
