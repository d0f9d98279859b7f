//! What is too large for the places where Kubernetes keeps it. Found out here, it has a remedy; found out by the API server,
//! it would be a refusal without end.

use serde::Serialize;
use stagecraft_api::limit;
use stagecraft_api::run::Run;
use stagecraft_api::workflow::WorkflowSpec;

use crate::envelope::run_text;
use crate::reference::references;
use crate::resolve::{Violation, violation};

/// The Workflow has to leave room for its status. Answers whether the spec can be looked into: that would take too long for one that
/// is far too large.
pub(crate) fn check_spec(spec: &WorkflowSpec, violations: &mut Vec<Violation>) -> bool {
    let json = serde_json::to_value(spec).unwrap_or_default();
    let depth = limit::depth(&json);
    if depth > limit::DEPTH {
        violations.push(violation(
            "spec",
            format!("nested {depth} deep"),
            format!(
                "lists and objects of a spec are nested at most {} deep: hand such data on as a text",
                limit::DEPTH
            ),
        ));
    }
    let bytes = limit::stored_bytes(&json.to_string());
    if bytes > limit::SPEC_BYTES {
        violations.push(violation(
            "spec",
            format!("{bytes} bytes"),
            format!(
                "a spec holds at most {} bytes: shorten requirements and payloads",
                limit::SPEC_BYTES
            ),
        ));
    }
    depth <= limit::DEPTH && bytes <= limit::WORKFLOW_BYTES
}

/// The run has to fit a ConfigMap, and the task of each stage an annotation, whatever the other stages hand on.
pub(crate) fn check_run(run: &Run, violations: &mut Vec<Violation>) {
    let bytes = run_text(run).len();
    if bytes > limit::RUN_BYTES {
        violations.push(violation(
            "spec",
            format!("{bytes} bytes with its template and Agents"),
            format!(
                "a run holds at most {} bytes: shorten requirements, payloads and outputsSchema of the Agents",
                limit::RUN_BYTES
            ),
        ));
    }
    let depth = serde_json::to_value(run).map_or(usize::MAX, |json| limit::depth(&json));
    if depth > limit::DEPTH {
        violations.push(violation(
            "spec",
            format!("nested {depth} deep with its template and Agents"),
            format!(
                "lists and objects of a run are nested at most {} deep: make payloads of the template and outputsSchema of the \
                 Agents simpler",
                limit::DEPTH
            ),
        ));
    }
    let others = run.stages.len().saturating_sub(1);
    let room = limit::TASK_BYTES.saturating_sub(FIXED_BYTES + others * (limit::OUTPUTS_BYTES + NAME_BYTES));
    for stage in &run.stages {
        let least = if references(&stage.payload).is_empty() {
            0
        } else {
            limit::RESOLVED_PAYLOAD_BYTES
        };
        let parts = [
            bytes_of(&run.project),
            bytes_of(&stage.payload).max(least),
            bytes_of(&stage.agent.command),
            bytes_of(&stage.agent.outputs_schema),
        ];
        let bytes = parts.iter().fold(0_usize, |sum, part| sum.saturating_add(*part));
        if bytes > room {
            violations.push(violation(
                format!("stages[name={}]", stage.name),
                format!("{bytes} bytes"),
                format!(
                    "project, payload, command and outputsSchema of a stage hold at most {room} bytes beside the outputs \
                     of {others} other stages: shorten them, or write long texts into the workspace"
                ),
            ));
        }
    }
}

/// Names, times, the workspace and 16 inputs in a task.
const FIXED_BYTES: usize = 14 * 1024;
/// A stage's name in the outputs of those before.
const NAME_BYTES: usize = 70;

pub(crate) fn bytes_of<T: Serialize>(value: &T) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |json| json.len())
}
