//! What people read: phase, stage, progress, message and conditions, all derived from the stages.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use stagecraft_api::condition::{ACCEPTED, PROGRESSING, Reason, SUCCEEDED};
use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use stagecraft_api::moment::Moment;
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};

use crate::ending::Part;
use crate::start::ready_since;

/// Fills in everything that follows from the stages of a Workflow that runs. `reasons` says why stages are where they
/// are, by name, where their phase does not tell.
pub fn summarize(status: &mut WorkflowStatus, run: &Run, reasons: &BTreeMap<String, Reason>, now: Moment) {
    let all: Vec<&StageStatus> = run
        .stages
        .iter()
        .filter_map(|stage| status.stages.iter().find(|known| known.name == stage.name))
        .collect();
    let done = all.iter().filter(|stage| stage.phase.lets_others_start()).count();
    let progress = format!("{done}/{}", all.len());
    let part = match &status.ending {
        None => Part::Main,
        Some(_) => Part::Finally,
    };
    let stages: Vec<&StageStatus> = part.stages(run, status).collect();
    let current = current(&stages, reasons).cloned();
    status.progress = progress;
    if let Some(current) = current {
        let reason = reasons.get(&current.name).copied();
        go_on(status, run, &current, reason, now);
    }
}

/// The stage that a person would name: one that runs, else one that waits for the next attempt, else one that waits for a person, else one
/// that is ready, else the next.
fn current<'a>(stages: &[&'a StageStatus], reasons: &BTreeMap<String, Reason>) -> Option<&'a StageStatus> {
    let first = |phase| stages.iter().find(|stage| stage.phase == phase).copied();
    let held = |what: &dyn Fn(&Reason) -> bool| {
        let is_held = |stage: &&&StageStatus| {
            stage.phase == StagePhase::Pending && reasons.get(&stage.name).is_some_and(what)
        };
        stages.iter().find(is_held).copied()
    };
    first(StagePhase::Running)
        .or_else(|| first(StagePhase::Waiting))
        .or_else(|| held(&|reason| *reason == Reason::AwaitingApproval))
        .or_else(|| held(&|_| true))
        .or_else(|| first(StagePhase::Pending))
}

fn go_on(status: &mut WorkflowStatus, run: &Run, current: &StageStatus, reason: Option<Reason>, now: Moment) {
    let begun = current.phase != StagePhase::Pending;
    if reason == Some(Reason::AwaitingApproval) {
        status.phase = WorkflowPhase::AwaitingApproval;
    } else if begun || status.phase == WorkflowPhase::AwaitingApproval {
        status.phase = run
            .stage(&current.name)
            .map_or(WorkflowPhase::Running, |stage| stage.phase);
    } else if status.phase == WorkflowPhase::Pending {
        status.phase = WorkflowPhase::Initialized;
    }
    status.stage.clone_from(&current.name);
    let message = match &status.ending {
        None => format!("{}: {}", current.name, current.message),
        Some(ending) => format!(
            "{}: {}; then {}: {}",
            current.name,
            current.message,
            ending.phase.as_str(),
            ending.message
        ),
    };
    status.message = truncate(&message, limit::MESSAGE_BYTES);
    let reason = reason.unwrap_or(match current.phase {
        StagePhase::Running => Reason::StageRunning,
        StagePhase::Waiting => Reason::Backoff,
        StagePhase::Pending | StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => {
            Reason::Pending
        }
    });
    let message = truncate(
        &format!("{}; {}", status.message, span(status, run, current, reason)),
        limit::CONDITION_BYTES,
    );
    set(status, PROGRESSING, "True", reason, &message, now);
    set(status, SUCCEEDED, "Unknown", reason, &message, now);
}

/// Since when the Workflow is where it is, and until when it may be.
fn span(status: &WorkflowStatus, run: &Run, current: &StageStatus, reason: Reason) -> String {
    let pinned = run.stage(&current.name);
    let since = match current.phase {
        StagePhase::Running => current.attempt_started_at,
        StagePhase::Waiting => current.history.last().map(|summary| summary.finished_at),
        _ => pinned.and_then(|stage| ready_since(stage, run, status)),
    };
    let deadline = run
        .deadline_seconds
        .and_then(|seconds| Some(status.started_at?.plus_seconds(seconds.into())));
    let until = match (current.phase, reason) {
        (StagePhase::Running, _) => current
            .attempt_started_at
            .zip(pinned)
            .map(|(since, stage)| since.plus_seconds(stage.timeout_seconds.into())),
        (StagePhase::Waiting, _) => current.next_attempt_at,
        (_, Reason::AwaitingApproval) => pinned
            .and_then(|stage| stage.approval.as_ref())
            .and_then(|wanted| Some(since?.plus_seconds(wanted.expires_seconds.into()))),
        _ => None,
    };
    let until = until.into_iter().chain(deadline).min();
    let since = since.map_or_else(
        || "since it was accepted".to_owned(),
        |since| format!("since {since}"),
    );
    match until {
        // It is told already.
        Some(until) if current.message.contains(&until.to_string()) => since,
        Some(until) => format!("{since}, until {until} at the latest"),
        None => format!("{since}, without a time limit (spec.deadlineSeconds sets one)"),
    }
}

/// "1 stage", "2 stages".
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Ends a Workflow. Nothing changes it afterwards.
pub fn end(status: &mut WorkflowStatus, phase: WorkflowPhase, message: &str, now: Moment) {
    let (reason, succeeded) = match phase {
        WorkflowPhase::Completed => (Reason::Completed, "True"),
        WorkflowPhase::Cancelled => (Reason::Cancelled, "False"),
        _ => (Reason::Failed, "False"),
    };
    status.phase = phase;
    status.ending = None;
    status.stage.clear();
    // One line of a table; the conditions have it all.
    status.message = truncate(message, limit::REASON_BYTES);
    status.finished_at = Some(now);
    let message = truncate(message, limit::MESSAGE_BYTES);
    set(status, PROGRESSING, "False", reason, &message, now);
    set(status, SUCCEEDED, succeeded, reason, &message, now);
}

/// Says that a spec was seen which changes nothing about how the Workflow ended.
pub fn acknowledge(status: &mut WorkflowStatus, generation: i64) {
    status.observed_generation = Some(generation);
    for condition in &mut status.conditions {
        if [ACCEPTED, PROGRESSING, SUCCEEDED].contains(&condition.type_.as_str()) {
            condition.observed_generation = Some(generation);
        }
    }
}

/// Says that a Workflow can or cannot run as it stands.
pub fn accept(status: &mut WorkflowStatus, problems: Option<&str>, generation: i64, now: Moment) {
    status.observed_generation = Some(generation);
    match problems {
        None => set(
            status,
            ACCEPTED,
            "True",
            Reason::Valid,
            "the request can run",
            now,
        ),
        Some(problems) => {
            status.phase = WorkflowPhase::Pending;
            status.message = truncate(&format!("not accepted: {problems}"), limit::MESSAGE_BYTES);
            set(status, ACCEPTED, "False", Reason::Invalid, problems, now);
            let wait = "waits until the request or what it refers to is corrected; see condition Accepted";
            set(status, PROGRESSING, "False", Reason::Invalid, wait, now);
            set(status, SUCCEEDED, "Unknown", Reason::Invalid, wait, now);
        }
    }
}

/// Sets a condition of a Workflow.
pub fn set(
    status: &mut WorkflowStatus,
    type_: &str,
    value: &str,
    reason: Reason,
    message: &str,
    now: Moment,
) {
    let generation = status.observed_generation;
    set_condition(
        &mut status.conditions,
        generation,
        type_,
        value,
        reason.as_str(),
        message,
        now,
    );
}

/// Sets a condition; its transition time moves only when its status does.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    observed_generation: Option<i64>,
    type_: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Moment,
) {
    let before = conditions.iter().find(|condition| condition.type_ == type_);
    let last_transition_time = match before {
        Some(before) if before.status == value => before.last_transition_time.clone(),
        _ => Time(whole_second(now)),
    };
    let condition = Condition {
        type_: type_.to_owned(),
        status: value.to_owned(),
        reason: reason.to_owned(),
        message: truncate(message, limit::CONDITION_BYTES),
        observed_generation,
        last_transition_time,
    };
    match conditions.iter_mut().find(|condition| condition.type_ == type_) {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// Kubernetes keeps condition times to the second; anything finer would differ from what is read back.
fn whole_second(now: Moment) -> jiff::Timestamp {
    jiff::Timestamp::from_second(now.timestamp().as_second()).unwrap_or(now.timestamp())
}
