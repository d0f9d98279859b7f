//! Tasks for tests.

use serde_json::{Value, json};
use stagecraft_api::Moment;
use stagecraft_api::envelope::TaskEnvelope;

/// A task of the echo agent with a minute of time.
pub fn task(payload: &Value) -> TaskEnvelope {
    task_within(payload, 60_000)
}

pub fn task_within(payload: &Value, millis: u64) -> TaskEnvelope {
    let deadline = Moment::now().plus_millis(millis);
    serde_json::from_value(json!({
        "apiVersion": "stagecraft.dev/v1alpha1",
        "attempt": {"workflowUid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11", "stage": "scaffold", "attempt": 1},
        "workflow": {"namespace": "demo", "name": "shop"},
        "traceId": "0f8f7c6e58a14b8e9a430d6d6a6f6d11",
        "priority": "medium",
        "retryCount": 0,
        "retryLimit": 2,
        "timeoutSeconds": 60,
        "createdAt": "2026-11-01T10:00:00.250Z",
        "deadline": deadline,
        "context": {"previousOutputs": {"initialize": {"type": "app"}}},
        "project": {"name": "shop", "description": "", "requirements": ["sell things", "count money"]},
        "workspace": null,
        "agent": "echo",
        "payload": payload,
        "command": ["stagecraft-agent", "echo"],
        "outputsSchema": null
    }))
    .unwrap()
}
