//! The task of an attempt.

use serde_json::{Value, json};
use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::budget::Budgets;
use stagecraft_api::digest::Digest;
use stagecraft_api::envelope::{Context, InputFile, TaskEnvelope, WorkflowRef};
use stagecraft_api::moment::Moment;
use stagecraft_api::name;
use stagecraft_api::payload::Payload;
use stagecraft_api::run::{INITIALIZE, Run, RunStage};
use stagecraft_api::status::{StagePhase, StageStatus, WorkspaceRef};

use crate::observation::Identity;
use crate::repair;

/// The envelope for the attempt that `stages` licenses for `stage`, licensed at `now`.
pub fn envelope(
    identity: &Identity,
    run: &Run,
    stage: &RunStage,
    stages: &[StageStatus],
    now: Moment,
) -> TaskEnvelope {
    let status = stages.iter().find(|status| status.name == stage.name);
    let previous_outputs = stages
        .iter()
        .filter(|status| status.phase == StagePhase::Succeeded && status.name != INITIALIZE)
        .map(|status| (status.name.clone(), status.outputs.clone()))
        .collect();
    let (inputs, missing_inputs) = inputs(stage, stages);
    TaskEnvelope {
        api_version: format!("{}/{}", stagecraft_api::GROUP, stagecraft_api::VERSION),
        attempt: AttemptKey {
            workflow_uid: identity.uid.clone(),
            stage: stage.name.clone(),
            attempt: status.map_or(1, |status| status.attempt),
        },
        workflow: WorkflowRef {
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
        },
        trace_id: name::trace_id(&identity.uid),
        priority: run.priority,
        retry_count: status.map_or(0, |status| status.failures),
        retry_limit: stage.retries,
        timeout_seconds: stage.timeout_seconds,
        created_at: now,
        deadline: now.plus_seconds(stage.timeout_seconds.into()),
        context: Context {
            previous_outputs,
            repair: repair::task(stage, run, stages),
        },
        project: run.project.clone(),
        workspace: workspace(stage, run, stages),
        workspace_access: stage.agent.workspace,
        inputs,
        missing_inputs,
        run: status.map_or(0, |status| status.run),
        budgets: Budgets {
            stage: stage.budget,
            workflow: run.budget,
        },
        model: run.model.clone(),
        payload: payload(stage),
        command: stage.agent.command.clone(),
        outputs_schema: stage.agent.outputs_schema.clone(),
    }
}

/// The commit that a stage starts from. The last need decides: a stage that changed nothing hands on what it was given. What was sent back to
/// a stage is what it goes on from. Stages of `finally` see what the others came to.
pub fn workspace(stage: &RunStage, run: &Run, stages: &[StageStatus]) -> Option<WorkspaceRef> {
    if let Some(judged) = repair::workspace_to_repair(stage, run, stages) {
        return Some(judged);
    }
    let left_by = |name: &String| {
        let status = stages.iter().find(|status| status.name == *name)?;
        status
            .workspace
            .clone()
            .filter(|_| status.phase.lets_others_start())
    };
    let needed = stage.needs.iter().rev().find_map(left_by);
    let others = run
        .stages
        .iter()
        .rev()
        .filter(|other| stage.finally && !other.finally);
    needed.or_else(|| others.map(|other| &other.name).find_map(left_by))
}

/// The artifacts of earlier stages that a stage asks for, and those that are not there.
pub(crate) fn inputs(stage: &RunStage, stages: &[StageStatus]) -> (Vec<InputFile>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for input in &stage.inputs {
        let artifact = stages
            .iter()
            .find(|status| status.phase == StagePhase::Succeeded && status.name == input.stage)
            .and_then(|status| {
                status
                    .artifacts
                    .iter()
                    .find(|artifact| artifact.name == input.artifact)
            });
        match artifact {
            Some(artifact) => found.push(InputFile {
                stage: input.stage.clone(),
                name: artifact.name.clone(),
                digest: artifact.digest.clone(),
                bytes: artifact.bytes,
            }),
            None => missing.push(format!("{}/{}", input.stage, input.artifact)),
        }
    }
    (found, missing)
}

/// Typed where the agent is one of ours and the input fits; as it stands otherwise.
fn payload(stage: &RunStage) -> Payload {
    let Ok(payload) = serde_json::from_value(json!({
        "agent": stage.agent.name,
        "payload": Value::Object(stage.payload.clone()),
    })) else {
        return Payload::Other {
            agent: stage.agent.name.clone(),
            payload: stage.payload.clone(),
        };
    };
    payload
}

/// The text in which a run is kept. Maps are sorted, so that equal runs have equal texts.
pub fn run_text(run: &Run) -> String {
    serde_json::to_string(run).unwrap_or_default()
}

/// The digest under which a run is kept.
pub fn run_digest(run: &Run) -> Digest {
    Digest::of(run_text(run).as_bytes())
}
