//! Begins a new run of a Workflow that has ended, because its owner asked for it.

use std::collections::{BTreeMap, BTreeSet};

use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use stagecraft_api::run::Run;
use stagecraft_api::status::{StageStatus, WorkflowPhase, WorkflowStatus};
use stagecraft_api::workflow::{Retry, WorkflowSpec};

use crate::accept::waits_for;
use crate::observation::Observation;
use crate::plan::{Action, Notice, Plan};
use crate::summary;

/// The new run that is asked for and has not begun. A request that was answered, or that names another run than the next, is none.
pub fn asked<'a>(spec: &'a WorkflowSpec, status: &WorkflowStatus) -> Option<&'a Retry> {
    let next = status.run.max(1).checked_add(1);
    let retry = spec.retry.as_ref().filter(|retry| Some(retry.run) == next);
    retry.filter(|_| status.phase.is_terminal() && status.run_ref.is_some() && !spec.cancel)
}

/// Forgets what is to be run anew, but for the attempts there were: their numbers are never used again.
pub(crate) fn begin(observation: &Observation, run: &Run, retry: &Retry) -> Plan {
    let Observation { now, identity, .. } = observation;
    let mut status = observation.status.clone();
    let again = repeated(run, &status, &retry.from);
    status.observed_generation = Some(identity.generation);
    status.run = retry.run;
    status.phase = WorkflowPhase::Pending;
    status.started_at = Some(*now);
    status.finished_at = None;
    for stage in &mut status.stages {
        if let Some(pinned) = run.stage(&stage.name).filter(|_| again.contains(&stage.name)) {
            *stage = StageStatus {
                name: stage.name.clone(),
                agent: stage.agent.clone(),
                run: retry.run,
                attempt: stage.attempt,
                job: stage.job.clone(),
                history: stage.history.clone(),
                message: waits_for(pinned),
                ..StageStatus::default()
            };
        }
    }
    summary::summarize(&mut status, run, &BTreeMap::new(), *now);
    let message = format!(
        "run {} begins: {} anew, the rest is kept",
        retry.run,
        run.stages
            .iter()
            .map(|stage| stage.name.as_str())
            .filter(|name| again.contains(*name))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let notice = Notice {
        about: None,
        warning: false,
        reason: "Retried",
        message: truncate(&message, limit::MESSAGE_BYTES),
    };
    Plan {
        actions: vec![Action::Store(Box::new(status)), Action::Record(notice)],
        ..Plan::default()
    }
}

/// The stage asked for, what has not come to a good end, and everything that follows upon those, as the stages of `finally` always do. What
/// was skipped is asked about once more where it follows upon one of them: else its condition has not changed.
fn repeated(run: &Run, status: &WorkflowStatus, from: &str) -> BTreeSet<String> {
    let open = |name: &str| {
        let stage = status.stages.iter().find(|stage| stage.name == name);
        stage.is_none_or(|stage| !stage.phase.lets_others_start())
    };
    let mut again: BTreeSet<String> = run
        .stages
        .iter()
        .filter(|stage| stage.name == from || stage.finally || open(&stage.name))
        .map(|stage| stage.name.clone())
        .collect();
    loop {
        let more: Vec<String> = run
            .stages
            .iter()
            .filter(|stage| !again.contains(&stage.name))
            .filter(|stage| stage.needs.iter().any(|need| again.contains(need)))
            .map(|stage| stage.name.clone())
            .collect();
        if more.is_empty() {
            return again;
        }
        again.extend(more);
    }
}
