//! How a Workflow ends: when its stages are over, and then those of `finally`.

use std::collections::BTreeSet;

use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use stagecraft_api::run::{Run, RunStage};
use stagecraft_api::status::{Ending, StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};

use crate::failure::used_up;
use crate::settings::Settings;
use crate::summary::counted;

/// Which stages: those of the template, or those of its `finally`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Main,
    Finally,
}

impl Part {
    pub(crate) fn has(self, stage: &RunStage) -> bool {
        stage.finally == (self == Self::Finally)
    }

    /// Its stages as they stand.
    pub(crate) fn stages<'a>(
        self,
        run: &'a Run,
        status: &'a WorkflowStatus,
    ) -> impl Iterator<Item = &'a StageStatus> {
        let names = run.stages.iter().filter(move |stage| self.has(stage));
        names.filter_map(|stage| status.stages.iter().find(|known| known.name == stage.name))
    }
}

/// How the stages of the template ended, once they are over.
pub(crate) fn main_ending(status: &WorkflowStatus, run: &Run, settings: &Settings) -> Option<Ending> {
    let stages = || Part::Main.stages(run, status);
    if stages().all(|stage| stage.phase.lets_others_start()) {
        return Some(Ending {
            phase: WorkflowPhase::Completed,
            message: completed(status, run),
        });
    }
    if stages().any(is_busy) {
        return None;
    }
    let culprit = culprit(Part::Main, status, run, settings)?;
    Some(failed(culprit))
}

/// What becomes of a Workflow that ends so, once the stages of `finally` are over; None while they are not.
pub(crate) fn whole_ending(
    ending: &Ending,
    status: &WorkflowStatus,
    run: &Run,
    settings: &Settings,
) -> Option<Ending> {
    let over = |stage: &StageStatus| match stage.phase {
        StagePhase::Running | StagePhase::Waiting => false,
        StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => true,
        StagePhase::Pending => is_blocked(&stage.name, run, status),
    };
    if !Part::Finally.stages(run, status).all(over) {
        return None;
    }
    let culprit = culprit(Part::Finally, status, run, settings);
    Some(match (culprit, ending.phase) {
        (None, WorkflowPhase::Completed) => Ending {
            phase: WorkflowPhase::Completed,
            message: completed(status, run),
        },
        (None, _) => ending.clone(),
        (Some(culprit), WorkflowPhase::Completed) => failed(culprit),
        (Some(culprit), phase) => Ending {
            phase,
            message: truncate(
                &format!(
                    "{}; and {}",
                    truncate(&ending.message, limit::REASON_BYTES),
                    failed(culprit).message
                ),
                limit::MESSAGE_BYTES,
            ),
        },
    })
}

/// What becomes of a Workflow that ends so when its owner ends the stages of `finally` as well.
pub(crate) fn cut_short(ending: &Ending) -> Ending {
    let phase = match ending.phase {
        WorkflowPhase::Failed => WorkflowPhase::Failed,
        _ => WorkflowPhase::Cancelled,
    };
    let message = format!(
        "{}; the stages of finally were ended by spec.cancelFinally",
        truncate(&ending.message, limit::REASON_BYTES * 2 / 3)
    );
    Ending { phase, message }
}

/// Whether a stage can never start, since one that it needs failed or cannot start either.
pub(crate) fn is_blocked(name: &str, run: &Run, status: &WorkflowStatus) -> bool {
    let phase = |name: &str| {
        let stage = status.stages.iter().find(|stage| stage.name == name);
        stage.map(|stage| stage.phase)
    };
    let mut looked_at = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        let needs = run.stage(name).map(|stage| stage.needs.as_slice());
        for need in needs.unwrap_or_default() {
            match phase(need) {
                Some(StagePhase::Failed) | None => return true,
                // Stages that wait for each other are looked at once.
                Some(StagePhase::Pending) if looked_at.insert(need) => open.push(need),
                Some(_) => {}
            }
        }
    }
    false
}

/// The stage for which one part fails: the first that used up its attempts, not one that was given up on its account.
pub(crate) fn culprit<'a>(
    part: Part,
    status: &'a WorkflowStatus,
    run: &'a Run,
    settings: &Settings,
) -> Option<&'a StageStatus> {
    let given_up = |stage: &StageStatus| {
        run.stage(&stage.name)
            .is_some_and(|run| !used_up(stage, run, settings))
    };
    part.stages(run, status)
        .filter(|stage| stage.phase == StagePhase::Failed)
        .min_by_key(|stage| (stage.finished_at, given_up(stage)))
}

pub(crate) fn is_busy(stage: &StageStatus) -> bool {
    matches!(stage.phase, StagePhase::Running | StagePhase::Waiting)
}

fn completed(status: &WorkflowStatus, run: &Run) -> String {
    let count = |phase: StagePhase| {
        let stages = run.stages.iter();
        let known = stages.filter_map(|stage| status.stages.iter().find(|known| known.name == stage.name));
        known.filter(|stage| stage.phase == phase).count()
    };
    let (done, skipped) = (count(StagePhase::Succeeded), count(StagePhase::Skipped));
    match (done, skipped) {
        (1, 0) => "the one stage succeeded".to_owned(),
        (done, 0) => format!("all {done} stages succeeded"),
        (done, skipped) => format!("{} succeeded, {skipped} skipped", counted(done, "stage")),
    }
}

fn failed(culprit: &StageStatus) -> Ending {
    Ending {
        phase: WorkflowPhase::Failed,
        message: truncate(
            &format!("stage {} failed: {}", culprit.name, culprit.message),
            limit::MESSAGE_BYTES,
        ),
    }
}
