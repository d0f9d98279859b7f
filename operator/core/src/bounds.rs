//! A status within its bounds, whatever it was made of. What an agent, a template or a Workflow brings is held to its bound where it
//! comes in; this holds for what else may stand in a stored status, which others may write. The API server would refuse every patch
//! of a status beyond its schema, and the Workflow would stand still for ever.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;
use stagecraft_api::condition::{ACCEPTED, PROGRESSING, SUCCEEDED};
use stagecraft_api::error::{StructuredError, truncate};
use stagecraft_api::limit;
use stagecraft_api::status::{Artifact, StageStatus, Usage, WorkflowPhase, WorkflowStatus, WorkspaceRef};

use crate::observation::Observation;
use crate::plan::{Action, Notice, Plan};
use crate::{spending, summary};

/// Largest status, in [`limit::stored_bytes`]: it shares the Workflow with the spec.
const STATUS_BYTES: usize = limit::WORKFLOW_BYTES - limit::SPEC_BYTES;
/// Longest name of anything.
const NAME_BYTES: usize = 63;
/// Most conditions.
const CONDITIONS: usize = 8;

/// The plan with every status within its bounds. A Workflow of which that cannot be ends, and nothing else is done for it.
pub(crate) fn keep(plan: Plan, observation: &Observation) -> Plan {
    let mut plan = plan;
    let mut beyond = None;
    for action in &mut plan.actions {
        if let Action::Store(status) = action {
            bound(status);
            make_room(status, room(observation));
            beyond = beyond.or_else(|| problem(status));
        }
    }
    // What there is no room for is found missing each time, and is no change.
    plan.actions
        .retain(|action| !matches!(action, Action::Store(status) if **status == observation.status));
    match beyond {
        Some(problem) => give_up(observation, &problem),
        None => plan,
    }
}

/// What the rest of the Workflow leaves for its status, in [`limit::stored_bytes`].
fn room(observation: &Observation) -> usize {
    let rest = stored_bytes(&observation.spec).saturating_add(observation.identity.metadata_bytes);
    limit::WORKFLOW_BYTES.saturating_sub(rest).min(STATUS_BYTES)
}

/// What a status can do without, the first first: earlier attempts but for the last, what commits change file by file, all earlier attempts,
/// for what models were used in particular, and the ends of long texts about stages that are over. Numbers stay in counters.
fn make_room(status: &mut WorkflowStatus, room: usize) {
    let shed: [fn(&mut WorkflowStatus); 5] = [
        |status| {
            for stage in &mut status.stages {
                let surplus = stage.history.len().saturating_sub(1);
                stage.history.drain(..surplus);
            }
        },
        |status| status.stages.iter_mut().for_each(forget_files),
        |status| {
            // The latest one tells when a wait for the next attempt began.
            for stage in status.stages.iter_mut().filter(|stage| stage.phase.is_terminal()) {
                stage.history.clear();
            }
        },
        |status| {
            if let Some(models) = &mut status.models {
                models.by.clear();
            }
        },
        |status| {
            for stage in status.stages.iter_mut().filter(|stage| stage.phase.is_terminal()) {
                shorten(&mut stage.summary, limit::HISTORY_MESSAGE_BYTES);
                shorten(&mut stage.message, limit::HISTORY_MESSAGE_BYTES);
            }
        },
    ];
    for shed in shed {
        if stored_bytes(status) <= room {
            return;
        }
        shed(status);
    }
}

fn forget_files(stage: &mut StageStatus) {
    let judged = stage.repair.as_mut().and_then(|repair| repair.workspace.as_mut());
    let workspaces = stage.workspace.iter_mut().chain(judged);
    for changes in workspaces.filter_map(|workspace| workspace.changes.as_mut()) {
        changes.stat.clear();
    }
}

fn bound(status: &mut WorkflowStatus) {
    shorten(&mut status.message, limit::MESSAGE_BYTES);
    shorten(&mut status.progress, 15);
    shorten(&mut status.template, NAME_BYTES);
    shorten(&mut status.trace_id, 32);
    shorten(&mut status.cost, 31);
    if let Some(models) = &mut status.models {
        spending::bound(models);
    }
    if let Some(ending) = &mut status.ending {
        shorten(&mut ending.message, limit::MESSAGE_BYTES);
    }
    let (mut types, mut names) = (BTreeSet::new(), BTreeSet::new());
    status.conditions.retain(|condition| {
        let known = matches!(condition.status.as_str(), "True" | "False" | "Unknown");
        known && types.insert(condition.type_.clone())
    });
    status.stages.retain(|stage| names.insert(stage.name.clone()));
    for condition in &mut status.conditions {
        shorten(&mut condition.message, limit::CONDITION_BYTES);
        shorten(&mut condition.reason, NAME_BYTES);
    }
    let own = |type_: &str| [ACCEPTED, PROGRESSING, SUCCEEDED].contains(&type_);
    while status.conditions.len() > CONDITIONS {
        let Some(foreign) = status.conditions.iter().position(|known| !own(&known.type_)) else {
            break;
        };
        status.conditions.remove(foreign);
    }
    status.stages.iter_mut().for_each(bound_stage);
}

fn bound_stage(stage: &mut StageStatus) {
    for text in [&mut stage.message, &mut stage.summary] {
        shorten(text, limit::MESSAGE_BYTES);
    }
    for name in [&mut stage.agent, &mut stage.job] {
        shorten(name, NAME_BYTES);
    }
    stage.error = stage.error.take().map(StructuredError::bounded);
    let surplus = stage.history.len().saturating_sub(limit::HISTORY);
    stage.history.drain(..surplus);
    for attempt in &mut stage.history {
        shorten(&mut attempt.code, NAME_BYTES);
        shorten(&mut attempt.message, limit::HISTORY_MESSAGE_BYTES);
    }
    let outputs = Value::Object(std::mem::take(&mut stage.outputs));
    if stored_bytes(&outputs) <= limit::OUTPUTS_BYTES
        && limit::depth(&outputs) <= limit::DEPTH
        && let Value::Object(outputs) = outputs
    {
        stage.outputs = outputs;
    }
    stage.workspace = stage.workspace.take().filter(is_workspace);
    stage.artifacts.retain(is_artifact);
    stage.artifacts.truncate(limit::ARTIFACTS);
    while stored_bytes(&stage.artifacts) > limit::ARTIFACTS_BYTES {
        stage.artifacts.pop();
    }
    stage.gates.retain(|gate| gate.threshold.is_finite());
    stage.gates.truncate(limit::GATES);
    for gate in &mut stage.gates {
        shorten(&mut gate.metric, 40);
        gate.actual = gate.actual.filter(|actual| actual.is_finite());
    }
    if let Some(repair) = &mut stage.repair {
        repair.workspace = repair.workspace.take().filter(is_workspace);
    }
    stage.usage = stage.usage.map(bounded_usage);
}

/// What an attempt took, as far as a status can hold it.
pub(crate) fn bounded_usage(usage: Usage) -> Usage {
    Usage {
        cpu_millis: usage.cpu_millis.min(limit::COUNT),
        peak_memory_bytes: usage.peak_memory_bytes.min(limit::COUNT),
    }
}

fn is_workspace(workspace: &WorkspaceRef) -> bool {
    let hexadecimal = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    workspace.commit.len() == 40
        && workspace.commit.bytes().all(hexadecimal)
        && workspace.bytes <= limit::COUNT
}

fn is_artifact(artifact: &Artifact) -> bool {
    (1..=limit::ARTIFACT_NAME_BYTES).contains(&artifact.name.len())
        && artifact.media_type.len() <= limit::MEDIA_TYPE_BYTES
        && artifact.bytes <= limit::COUNT
}

/// What of a status cannot be helped: names, which say what is what, and the sum of everything.
fn problem(status: &WorkflowStatus) -> Option<String> {
    let stages = limit::STAGES + 1;
    if status.stages.len() > stages {
        return Some(format!(
            "status.stages has {} entries, over the limit of {stages}",
            status.stages.len()
        ));
    }
    let names = status.stages.iter().map(|stage| &stage.name);
    let types = status.conditions.iter().map(|condition| &condition.type_);
    let run = status.run_ref.iter().map(|run| &run.name);
    let long = std::iter::once(&status.stage)
        .chain(names)
        .chain(types)
        .chain(run);
    if let Some(name) = long.into_iter().find(|name| name.len() > NAME_BYTES) {
        return Some(format!(
            "the name {:?} in status has {} bytes, over the limit of {NAME_BYTES}",
            truncate(name, NAME_BYTES),
            name.len()
        ));
    }
    let bytes = stored_bytes(status);
    (bytes > STATUS_BYTES).then(|| format!("status has {bytes} bytes, over the limit of {STATUS_BYTES}"))
}

fn give_up(observation: &Observation, problem: &str) -> Plan {
    let Observation {
        now,
        identity,
        status: before,
        ..
    } = observation;
    let mut status = WorkflowStatus {
        observed_generation: Some(identity.generation),
        run: before.run,
        ..WorkflowStatus::default()
    };
    let message = format!("{problem}: somebody else has written it; create the Workflow anew");
    summary::end(&mut status, WorkflowPhase::Failed, &message, *now);
    Plan {
        actions: vec![
            Action::Store(Box::new(status)),
            Action::Record(Notice {
                about: None,
                warning: true,
                reason: "Failed",
                message: truncate(&message, limit::MESSAGE_BYTES),
            }),
        ],
        ..Plan::default()
    }
}

pub(crate) fn shorten(text: &mut String, bytes: usize) {
    if text.len() * 6 > bytes {
        *text = truncate(text, bytes);
    }
}

fn stored_bytes<T: Serialize>(value: &T) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |json| limit::stored_bytes(&json))
}
