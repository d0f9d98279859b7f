//! Documents in which everything is as it should be, to be spoilt.

use serde_json::{Value, json};
use stagecraft_api::Digest;

use crate::scene::Scene;

/// A Workflow that uses whatever a Workflow can: parameters, conditions, references, gates, repair, approval, inputs, `finally`.
pub fn scene() -> Value {
    json!({
        "now": "2026-11-01T10:00:00.000Z",
        "name": "flow", "namespace": "here", "uid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11", "generation": 1,
        "spec": {
            "template": {
                "parameters": [
                    {"name": "share", "schema": {"type": "integer", "minimum": 0}, "default": 80},
                    {"name": "names", "default": ["a", "b"]},
                ],
                "stages": [
                    {"name": "make", "agent": "worker", "retries": 1, "payload": {"text": "${{ repair.message }}", "deep": [{"x": [1]}]}},
                    {"name": "judge", "agent": "worker", "when": "parameters.share > 1 && parameters.names.exists(n, n == 'a')",
                        "gates": [{"metric": "covered", "operator": ">=", "threshold": 80.0}], "repair": {"stage": "make", "maxRounds": 2}},
                    {"name": "ask", "agent": "worker", "payload": {"answer": "${{ approval.answer }}"},
                        "approval": {"kind": "choice", "question": "Which?", "choices": ["a", "b"], "backTo": "make"}},
                    {"name": "ship", "agent": "worker", "inputs": [{"stage": "make", "artifact": "file"}],
                        "retryPolicy": {"timeout": 2, "backoff": {"baseSeconds": 1, "factor": 2, "capSeconds": 60}}},
                ],
                "finally": [{"name": "tell", "agent": "worker", "when": "workflow.ending != ''", "payload": {"how": "${{ workflow.ending }}"}}],
            },
            "parameters": {"share": 90},
            "project": {"name": "thing", "description": "A thing.", "requirements": ["It works."]},
            "stages": [{"name": "ship", "timeoutSeconds": 60, "payload": {"x": 1}}],
            "deadlineSeconds": 86400,
            "concurrency": {"key": "thing", "whenTaken": "queue"},
            "model": {"provider": "claude", "model": "m"},
            "budget": {"tokens": 1_000_000, "cost": 1_000_000, "calls": 1_000},
        },
        "agents": {"worker": {
            "command": ["work"],
            "requires": ["model"],
            "payloadSchema": {"type": "object"},
            "outputsSchema": {"type": "object", "properties": {"n": {"type": "number"}}},
        }},
        "providers": {"claude": {
            "provider": "anthropic", "model": "m", "allowedModels": ["m"], "secretRef": {"name": "keys"},
            "limits": {"requestsPerMinute": 5}, "prices": {"input": 3_000_000, "output": 15_000_000},
        }},
        "used": [usage("make"), usage("judge")],
        "results": {"make": result(), "judge": result(), "ask": result(), "ship": result(), "tell": result()},
        "pods": {},
        "decision": {"verdict": "approved", "by": "jane", "comment": "", "answer": "a"},
        "announced": [{"workflowUid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11", "stage": "make", "attempt": 1}],
        "jobs": [{"name": "job", "stage": "make", "attempt": 1}],
    })
}

/// The same where something goes another way than to the end, with what the status then says.
pub fn detours() -> Vec<(&'static str, Value)> {
    let mut scenes = Vec::new();
    let mut add = |said: &'static str, changes: &[(&str, Value)]| {
        let mut document = scene();
        set(&mut document, "/stepSeconds", json!(200));
        for (place, value) in changes {
            set(&mut document, place, value.clone());
        }
        scenes.push((said, document));
    };
    let no_result = ("/results", json!({}));
    let report = json!({
        "unusable": null, "unreachable": "no route", "breaker": "open", "openUntil": "2026-11-01T11:00:00.000Z",
        "lastHour": {"calls": 1}, "dayUsedUp": "7 of 7 tokens", "dayEnds": "2026-11-02T00:00:00.000Z",
    });
    add("7 of 7 tokens", &[("/report", report)]);
    add("which is newer", &[("/supersededBy", json!("newer"))]);
    add(
        "JobMissing",
        &[
            no_result.clone(),
            ("/ends", json!({"make": {"missing": {"seenBefore": false}}})),
        ],
    );
    add(
        "JobDeleted",
        &[
            no_result.clone(),
            ("/ends", json!({"make": {"missing": {"seenBefore": true}}})),
        ],
    );
    add(
        "quota",
        &[
            no_result.clone(),
            ("/ends", json!({"make": {"refused": "quota"}})),
        ],
    );
    add(
        "BackoffLimit",
        &[
            no_result.clone(),
            ("/ends", json!({"make": {"failed": "BackoffLimit"}})),
        ],
    );
    add(
        "no node",
        &[
            no_result.clone(),
            ("/ends", json!({"make": {"troubled": "no node"}})),
        ],
    );
    add(
        "make",
        &[
            no_result.clone(),
            (
                "/ends",
                json!({"make": "foreign", "judge": "complete", "ask": "deleting"}),
            ),
        ],
    );
    add(
        "connection refused",
        &[
            no_result,
            ("/ends", json!({"make": "complete"})),
            ("/silence", json!("connection refused")),
        ],
    );
    add(
        "AwaitingApproval",
        &[("/decidedAt", json!("2027-11-01T10:00:00.000Z"))],
    );
    add(
        "the ConfigMap is gone",
        &[("/lost", json!("the ConfigMap is gone"))],
    );
    scenes
}

/// What the calls of a stage took.
fn usage(stage: &str) -> Value {
    json!({
        "run": 1, "stage": stage, "provider": "claude", "model": "m",
        "calls": 3, "tokens": {"input": 10, "output": 20, "cacheWrite": 0, "cacheRead": 5}, "cost": 1_000,
    })
}

/// The result of an attempt that succeeded.
pub fn result() -> Value {
    json!({
        "attempt": {"workflowUid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11", "stage": "make", "attempt": 1},
        "startedAt": "2026-11-01T10:00:00.000Z", "finishedAt": "2026-11-01T10:00:01.000Z",
        "usage": {"cpuMillis": 5, "peakMemoryBytes": 6},
        "outcome": "succeeded", "summary": "done",
        "outputs": {"n": 1, "findings": [{"check": "tests", "file": "a.ts", "line": 1, "message": "no"}]},
        "workspace": {"commit": "0123456789abcdef0123456789abcdef01234567", "bundle": Digest::of(b"x"), "bytes": 1},
        "artifacts": [{"name": "file", "digest": Digest::of(b"y"), "bytes": 2, "mediaType": "text/plain"}],
        "metrics": {"covered": 91.5},
    })
}

/// The same of one that failed.
pub fn failure() -> Value {
    let mut failed = result();
    failed["outcome"] = json!("failed");
    failed["error"] = json!({"code": "Mine", "message": "no", "category": "execution", "severity": "error", "retryable": true,
        "retryAfter": 3, "suggestedAction": "try"});
    failed
}

/// A scene in which a text is the condition of a stage that needs another, and what the payloads of two refer to.
pub fn expression(text: &str) -> Scene {
    let mut document = scene();
    let reference = format!("${{{{ {text} }}}}");
    set(
        &mut document,
        "/spec/template/stages/0/payload/text",
        "plain".into(),
    );
    set(&mut document, "/spec/template/stages/1/when", text.into());
    set(
        &mut document,
        "/spec/template/stages/2/payload/answer",
        reference.into(),
    );
    serde_json::from_value(document).expect("a text is a condition")
}

/// Scenes in which one text stands wherever people and agents write texts.
pub fn scenes_with(text: &str) -> Vec<Scene> {
    let mut everywhere = scene();
    for place in [
        "/spec/project/description",
        "/spec/project/requirements/0",
        "/spec/template/stages/0/payload/text",
        "/spec/template/stages/2/approval/question",
        "/spec/parameters/extra",
        "/decision/comment",
        "/decision/by",
        "/results/make/summary",
        "/results/make/outputs/findings/0/message",
        "/results/judge/artifacts/0/name",
    ] {
        set(&mut everywhere, place, text.into());
    }
    let mut failed = scene();
    let mut failure = failure();
    for field in ["code", "message", "suggestedAction"] {
        failure["error"][field] = text.into();
    }
    set(&mut failed, "/results/judge", failure);
    set(
        &mut failed,
        "/pods",
        json!({"make": {"name": text, "ended": true, "reason": text, "message": text}}),
    );
    if let Some(results) = failed["results"].as_object_mut() {
        results.remove("make");
    }
    let mut schema = scene();
    if let Ok(Value::Object(document)) = serde_json::from_str(text) {
        set(
            &mut schema,
            "/spec/template/parameters/0/schema",
            Value::Object(document.clone()),
        );
        set(
            &mut schema,
            "/agents/worker/payloadSchema",
            Value::Object(document.clone()),
        );
        set(
            &mut schema,
            "/agents/worker/outputsSchema",
            Value::Object(document),
        );
    }
    let mut told = scene();
    let report = json!({"unusable": text, "unreachable": text, "breaker": "open", "openUntil": null, "lastHour": {}, "dayUsedUp": null,
        "dayEnds": "2026-11-02T00:00:00.000Z"});
    for (place, value) in [
        ("/results", json!({"make": result()})),
        ("/ends", json!({"judge": {"refused": text}})),
        ("/silence", json!(text)),
        ("/used/0/stage", json!(text)),
        ("/used/0/model", json!(text)),
        ("/providers/claude/baseUrl", json!(text)),
    ] {
        set(&mut told, place, value);
    }
    let mut held = scene();
    set(&mut held, "/report", report);
    let mut replaced = scene();
    set(&mut replaced, "/supersededBy", text.into());
    let mut lost = scene();
    set(&mut lost, "/lost", text.into());
    let all = [everywhere, failed, schema, told, held, replaced, lost];
    all.into_iter()
        .filter_map(|scene| serde_json::from_value(scene).ok())
        .collect()
}

/// Puts a value at a place; one that the document has no room for changes nothing.
fn set(document: &mut Value, place: &str, value: Value) {
    if let Some(found) = document.pointer_mut(place) {
        *found = value;
    } else if let Some((above, name)) = place.rsplit_once('/')
        && let Some(Value::Object(fields)) = document.pointer_mut(above)
    {
        fields.insert(name.to_owned(), value);
    }
}
