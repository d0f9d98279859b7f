//! What a plan promises, whatever it was made of.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jsonschema::Validator;
use kube::CustomResourceExt as _;
use serde_json::Value;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::truncate;
use stagecraft_api::status::WorkflowStatus;
use stagecraft_api::{ApprovalSpec, Workflow, limit, name};
use stagecraft_core::{Action, Plan};

/// The schema of a status as the API server enforces it.
static STATUS: LazyLock<Validator> = LazyLock::new(|| {
    let definition = serde_json::to_value(Workflow::crd()).expect("a definition is JSON");
    let schema = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status")
        .expect("a Workflow has a status");
    jsonschema::validator_for(schema).expect("a schema")
});

/// Panics where the plan breaks a promise.
pub fn check(plan: &Plan) {
    for action in &plan.actions {
        match action {
            Action::Store(status) => check_status(status),
            Action::Start(task) => check_task(task),
            Action::Ask { name, request } => check_request(name, request),
            Action::Record(notice) => {
                assert!(notice.message.len() <= limit::MESSAGE_BYTES, "{notice:?}");
            }
            Action::Look { .. }
            | Action::Pin(_)
            | Action::Close { .. }
            | Action::Acknowledge(_)
            | Action::Delete => {}
        }
    }
}

fn check_status(status: &WorkflowStatus) {
    let json = serde_json::to_value(status).expect("a status is JSON");
    let text = json.to_string();
    let bytes = limit::stored_bytes(&text);
    let most = limit::WORKFLOW_BYTES - limit::SPEC_BYTES;
    assert!(bytes <= most, "a status of {bytes} bytes, over {most}");
    if let Some(error) = STATUS.iter_errors(&json).next() {
        let shown = truncate(&error.to_string(), 500);
        panic!(
            "the API server refuses the status at {}: {shown}",
            error.instance_path()
        );
    }
    let names: BTreeSet<&str> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
    let types: BTreeSet<&str> = status
        .conditions
        .iter()
        .map(|known| known.type_.as_str())
        .collect();
    assert_eq!(
        (names.len(), types.len()),
        (status.stages.len(), status.conditions.len()),
        "something is in the status twice"
    );
    let depth = limit::depth(&json);
    assert!(depth <= limit::DEPTH + 8, "a status that is {depth} deep");
    check_typed_numbers(&json);
    if let Err(error) = serde_json::from_str::<WorkflowStatus>(&text) {
        panic!("a status that is not read back: {error}: {text}");
    }
}

/// Whole numbers of the API server have 64 bits with a sign; outputs may hold anything.
fn check_typed_numbers(value: &Value) {
    match value {
        Value::Number(number) if number.is_u64() => {
            assert!(number.is_i64(), "{number} is none for the API server");
        }
        Value::Array(values) => values.iter().for_each(check_typed_numbers),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| name.as_str() != "outputs")
            .for_each(|(_, value)| check_typed_numbers(value)),
        _ => {}
    }
}

fn check_task(task: &TaskEnvelope) {
    let text = serde_json::to_string(task).expect("a task is JSON");
    if let Err(error) = serde_json::from_str::<TaskEnvelope>(&text) {
        panic!("a task that is not read back: {error}: {text}");
    }
    assert!(task.attempt.attempt > 0);
    assert!(name::job(&task.workflow.name, &task.attempt).len() <= 63);
    assert!(task.deadline >= task.created_at);
}

fn check_request(name: &str, request: &ApprovalSpec) {
    assert!(name.len() <= 63, "{name}");
    assert!(request.subject.summary.len() <= limit::CONDITION_BYTES);
    assert!(request.subject.plan.len() <= 2_048);
    assert!(request.subject.cpu_millis <= limit::COUNT);
    assert!(request.subject.cost.len() <= 31);
    serde_json::to_string(request).expect("a request is JSON");
}
