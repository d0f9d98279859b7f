//! What a patch of the status changed, as events to count.

use stagecraft_api::error::StructuredError;
use stagecraft_api::failure::FailureClass;
use stagecraft_api::moment::Moment;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::{AttemptSummary, StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};

/// One thing to count.
#[derive(Clone, Debug, PartialEq)]
pub enum Tally {
    /// An attempt ended; the class says of what it failed.
    Attempt {
        agent: String,
        failed: Option<FailureClass>,
        millis: u64,
    },
    /// A stage will be tried again.
    Retry { class: FailureClass },
    /// A stage ended, all its attempts together.
    Stage {
        agent: String,
        phase: StagePhase,
        /// None of a stage that never began.
        millis: Option<u64>,
    },
    /// A run of a Workflow ended.
    Workflow { phase: WorkflowPhase, millis: u64 },
}

/// Everything that happened between two statuses of a Workflow.
pub fn tally(before: &WorkflowStatus, after: &WorkflowStatus) -> Vec<Tally> {
    let mut found = Vec::new();
    for stage in after.stages.iter().filter(|stage| stage.name != INITIALIZE) {
        let known = before.stages.iter().find(|known| known.name == stage.name);
        if let Some(known) = known {
            tally_stage(known, stage, &mut found);
        }
    }
    if after.phase.is_terminal() && !before.phase.is_terminal() {
        let took = after.started_at.zip(after.finished_at);
        found.push(Tally::Workflow {
            phase: after.phase,
            millis: took.map_or(0, |(start, end)| end.millis_since(start)),
        });
    }
    found
}

fn tally_stage(before: &StageStatus, after: &StageStatus, found: &mut Vec<Tally>) {
    if before.phase == after.phase && before.attempt == after.attempt {
        return;
    }
    let is_over = after.phase != StagePhase::Running || after.attempt > before.attempt;
    if before.phase == StagePhase::Running
        && is_over
        && let Some((failed, ended)) = end(before, after)
    {
        let took = before.attempt_started_at.zip(ended);
        found.push(Tally::Attempt {
            agent: after.agent.clone(),
            failed,
            millis: took.map_or(0, |(start, end)| end.millis_since(start)),
        });
        // A first loss is made good at once, without a wait in between.
        let goes_on = matches!(after.phase, StagePhase::Waiting | StagePhase::Running);
        if let (true, Some(class)) = (goes_on, failed) {
            found.push(Tally::Retry { class });
        }
    }
    if after.phase.is_terminal() && !before.phase.is_terminal() {
        let took = after.started_at.zip(after.finished_at);
        found.push(Tally::Stage {
            agent: after.agent.clone(),
            phase: after.phase,
            millis: took.map(|(start, end)| end.millis_since(start)),
        });
    }
}

/// What an attempt that ran failed of, and when it ended. None of one that was given up because the work it looked at went back: it came to
/// nothing.
fn end(before: &StageStatus, after: &StageStatus) -> Option<(Option<FailureClass>, Option<Moment>)> {
    let last = after
        .history
        .last()
        .filter(|summary| summary.attempt == before.attempt);
    match after.phase {
        StagePhase::Succeeded => Some((None, after.finished_at)),
        StagePhase::Running => last.map(|summary| (Some(class(summary)), Some(summary.finished_at))),
        StagePhase::Pending => {
            let error = after.error.as_ref()?;
            Some((Some(FailureClass::of(error)), None))
        }
        _ => {
            let class = after.error.as_ref().map_or(FailureClass::Agent, FailureClass::of);
            let ended = after
                .finished_at
                .or_else(|| last.map(|summary| summary.finished_at));
            Some((Some(class), ended))
        }
    }
}

fn class(summary: &AttemptSummary) -> FailureClass {
    FailureClass::of(&StructuredError::new(&summary.code, summary.category, ""))
}
