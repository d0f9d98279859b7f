//! The agent as a process of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use stagecraft_agent_runner::scaffold::render::render;
use stagecraft_api::Category;
use stagecraft_api::result::AgentResult;
use tempfile::TempDir;

use crate::plan_of;

const AGENT: &str = env!("CARGO_BIN_EXE_stagecraft-agent");

fn task(agent: &str, payload: &Value, requirements: &[&str]) -> Value {
    json!({
        "apiVersion": "stagecraft.dev/v1alpha1",
        "attempt": {"workflowUid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11", "stage": "scaffold", "attempt": 1},
        "workflow": {"namespace": "demo", "name": "calculator"},
        "traceId": "0f8f7c6e58a14b8e9a430d6d6a6f6d11",
        "priority": "medium",
        "retryCount": 0,
        "retryLimit": 2,
        "timeoutSeconds": 60,
        "createdAt": "2026-11-01T10:00:00.250Z",
        "deadline": "2026-11-01T10:01:00.250Z",
        "context": {"previousOutputs": {}},
        "project": {"name": "calculator", "description": "", "requirements": requirements},
        "workspace": null,
        "agent": agent,
        "payload": payload,
        "command": ["stagecraft-agent", "scaffold"],
        "outputsSchema": null
    })
}

/// Directories of a Pod.
fn pod() -> TempDir {
    let pod = tempfile::tempdir().unwrap();
    std::fs::create_dir(pod.path().join("workspace")).unwrap();
    pod
}

fn run(pod: &TempDir, task: &Value) -> Output {
    let place = |name: &str| pod.path().join(name);
    std::fs::write(place("task.json"), task.to_string()).unwrap();
    std::process::Command::new(AGENT)
        .arg("scaffold")
        .env_clear()
        .env("STAGECRAFT_TASK", place("task.json"))
        .env("STAGECRAFT_WORKSPACE", place("workspace"))
        .env("STAGECRAFT_RESULT", place("result.json"))
        .output()
        .unwrap()
}

fn result(pod: &TempDir) -> AgentResult {
    let text = std::fs::read(pod.path().join("result.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

fn content(directory: &Path, below: &str, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{below}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            content(&entry.path(), &format!("{path}/"), files);
        } else {
            files.insert(path, std::fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn workspace(pod: &TempDir) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    content(&pod.path().join("workspace"), "", &mut files);
    files
}

#[test]
fn the_project_is_written_and_the_provider_named() {
    let pod = pod();
    let texts = ["Add and subtract", "A keyboard"];
    let output = run(&pod, &task("scaffold", &json!({}), &texts));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(workspace(&pod), render(&plan_of(&texts)).unwrap());
    let result = result(&pod);
    assert_eq!(result.error, None);
    assert_eq!(result.outputs["provider"], "builtin");
    assert_eq!(
        result.summary,
        format!(
            "provider builtin wrote a calculator in {} files: add, subtract; keyboard",
            workspace(&pod).len()
        )
    );
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.contains("provider builtin"), "{log}");
    assert!(log.contains("requirement 2: feature keyboard"), "{log}");
    assert!(workspace(&pod)["README.md"].contains("provider `builtin`"));
}

#[test]
fn what_it_cannot_make_is_an_error_and_nothing_is_written() {
    let pod = pod();
    let output = run(
        &pod,
        &task("scaffold", &json!({}), &["Add", "Store results in PostgreSQL"]),
    );
    assert!(output.status.success(), "{output:?}");
    let error = result(&pod).error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.category, error.retryable),
        ("ProviderCannotMake", Category::Configuration, false)
    );
    assert!(
        error
            .message
            .contains("requirement 2 `Store results in PostgreSQL`"),
        "{}",
        error.message
    );
    assert_eq!(workspace(&pod), BTreeMap::new());
}

#[test]
fn work_of_another_kind_ends_at_once_and_nothing_is_written() {
    for kind in ["service", "feature", "bugfix", "capability"] {
        let pod = pod();
        let output = run(&pod, &task("scaffold", &json!({"kind": kind}), &["Add"]));
        assert!(output.status.success(), "{output:?}");
        let error = result(&pod).error.unwrap();
        assert_eq!(
            (error.code.as_str(), error.retryable),
            ("ProviderCannotMake", false)
        );
        assert!(
            error.message.contains(&format!("type {kind}")),
            "{}",
            error.message
        );
        assert_eq!(workspace(&pod), BTreeMap::new());
    }
    let app = pod();
    assert!(
        run(&app, &task("scaffold", &json!({"kind": "app"}), &["Add"]))
            .status
            .success()
    );
    assert_eq!(result(&app).error, None);
}

#[test]
fn another_project_is_left_alone() {
    let pod = pod();
    std::fs::write(pod.path().join("workspace/mine"), "x").unwrap();
    let output = run(&pod, &task("scaffold", &json!({}), &["Add"]));
    assert!(output.status.success(), "{output:?}");
    let error = result(&pod).error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.retryable),
        ("WorkspaceNotEmpty", false)
    );
    assert!(error.message.contains("(mine)"), "{}", error.message);
    assert_eq!(workspace(&pod), BTreeMap::from([("mine".into(), "x".into())]));
}

#[test]
fn the_same_project_again_is_a_success() {
    let pod = pod();
    let task = task("scaffold", &json!({}), &["Add"]);
    for _ in 0..2 {
        assert!(run(&pod, &task).status.success());
        assert_eq!(result(&pod).error, None);
    }
}

#[test]
fn an_agent_of_another_name_may_run_it_and_a_task_of_another_agent_may_not() {
    let other = pod();
    assert!(run(&other, &task("mine", &json!({}), &["Add"])).status.success());
    assert_eq!(result(&other).error, None);
    for (agent, payload, part) in [
        ("echo", json!({}), "the task is for the agent echo"),
        ("mine", json!({"files": {}}), "not that of the scaffold agent"),
    ] {
        let pod = pod();
        let output = run(&pod, &task(agent, &payload, &["Add"]));
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(part), "{error}");
        assert_eq!(workspace(&pod), BTreeMap::new());
    }
}

#[test]
fn a_missing_variable_is_named() {
    let output = std::process::Command::new(AGENT)
        .arg("scaffold")
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("the variable STAGECRAFT_TASK is not set"),
        "{error}"
    );
}
