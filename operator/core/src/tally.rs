//! What a patch of the status changed, as events to count.

use stagecraft_api::failure::FailureClass;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};

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
        millis: u64,
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
    let over = matches!(
        after.phase,
        StagePhase::Succeeded | StagePhase::Failed | StagePhase::Waiting
    );
    if before.phase == StagePhase::Running && over {
        let failed = (after.phase != StagePhase::Succeeded)
            .then(|| after.error.as_ref().map_or(FailureClass::Agent, FailureClass::of));
        let ended = after
            .finished_at
            .or_else(|| after.history.last().map(|summary| summary.finished_at));
        let took = before.attempt_started_at.zip(ended);
        found.push(Tally::Attempt {
            agent: after.agent.clone(),
            failed,
            millis: took.map_or(0, |(start, end)| end.millis_since(start)),
        });
        if let (StagePhase::Waiting, Some(class)) = (after.phase, failed) {
            found.push(Tally::Retry { class });
        }
    }
    if after.phase.is_terminal() && !before.phase.is_terminal() {
        let took = after.started_at.zip(after.finished_at);
        found.push(Tally::Stage {
            agent: after.agent.clone(),
            phase: after.phase,
            millis: took.map_or(0, |(start, end)| end.millis_since(start)),
        });
    }
}
