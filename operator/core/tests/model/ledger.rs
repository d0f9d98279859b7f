//! What a write may do to a status.

use serde_json::json;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};

use crate::evidence::number;
use crate::state::State;

pub const ONE_JOB: &str = "I1: at most one Job is created for an attempt, and no number is used again";
pub const FORWARDS: &str = "I2: a stage never goes backwards";
pub const FINAL: &str = "I3: what has ended changes only by a new run that was asked for";
pub const STORED: &str = "I4: a stage succeeds only by a result that is stored";
pub const NEEDS: &str = "I5: a Job is created only after all that its stage needs is over";
pub const ONE_EFFECT: &str =
    "I6: what a status takes of an attempt is its one result, which is acknowledged after that";
pub const NO_LOSS: &str = "without a fault no attempt is burnt";

pub const PROMISES: [&str; 7] = [ONE_JOB, FORWARDS, FINAL, STORED, NEEDS, ONE_EFFECT, NO_LOSS];

/// Takes down what a stored status breaks.
pub fn write(state: &mut State, before: &WorkflowStatus, after: &WorkflowStatus) {
    let mut broken = None;
    if before.phase.is_terminal()
        && before != after
        && (after.run != before.run + 1 || state.workflow.retry != after.run)
    {
        broken = broken.or(Some(FINAL));
    }
    for stage in &before.stages {
        let Some(later) = after.stages.iter().find(|later| later.name == stage.name) else {
            broken = broken.or(Some(FORWARDS));
            continue;
        };
        if place(later) < place(stage) || later.attempt < stage.attempt {
            broken = broken.or(Some(FORWARDS));
        } else if stage.phase.is_terminal()
            && later != stage
            && (later.run, later.round) <= (stage.run, stage.round)
        {
            broken = broken.or(Some(FINAL));
        }
    }
    for stage in after.stages.iter().filter(|stage| stage.name != INITIALIZE) {
        let key = (number(&stage.name), stage.attempt);
        let was = before.stages.iter().find(|known| known.name == stage.name);
        let ended =
            stage.phase == StagePhase::Succeeded && was.is_none_or(|was| was.phase != StagePhase::Succeeded);
        if ended && state.results.get(&key) != Some(&true) {
            broken = broken.or(Some(STORED));
        }
        if ended && stage.outputs.get("by") != Some(&json!(stage.attempt)) {
            broken = broken.or(Some(ONE_EFFECT));
        }
        for attempt in stage.history.iter().filter(|attempt| !attempt.code.is_empty()) {
            let known =
                was.is_some_and(|was| was.history.iter().any(|known| known.attempt == attempt.attempt));
            let stored = state.results.get(&(key.0, attempt.attempt));
            if !known && matches!(attempt.code.as_str(), "Broken" | "GateFailed") && stored != Some(&false) {
                broken = broken.or(Some(ONE_EFFECT));
            }
            let taken_away = !matches!(
                attempt.code.as_str(),
                "Broken" | "Cancelled" | "GateFailed" | "StageTimeout"
            );
            if !known && taken_away && state.spent.is_nothing() {
                broken = broken.or(Some(NO_LOSS));
            }
        }
    }
    state.broken = state.broken.or(broken);
}

fn place(stage: &StageStatus) -> (u32, u32, u32, u8) {
    let phase = match stage.phase {
        StagePhase::Pending => 0,
        StagePhase::Running => 1,
        StagePhase::Waiting => 2,
        StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => 3,
    };
    (stage.run, stage.round, stage.attempt, phase)
}
