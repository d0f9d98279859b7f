//! What holds in every state, and what at least one search has to reach.

use stagecraft_api::status::{StageStatus, WorkflowPhase};
use stateright::Property;

use crate::ledger::{FINAL, FORWARDS, NEEDS, NO_LOSS, ONE_EFFECT, ONE_JOB, STORED};
use crate::model::Check;
use crate::state::{Pinned, State};

pub fn all() -> Vec<Property<Check>> {
    let mut properties: Vec<Property<Check>> = vec![
        Property::always(ONE_JOB, |_, state: &State| state.broken != Some(ONE_JOB)),
        Property::always(FORWARDS, |_, state: &State| state.broken != Some(FORWARDS)),
        Property::always(FINAL, |_, state: &State| state.broken != Some(FINAL)),
        Property::always(STORED, |_, state: &State| state.broken != Some(STORED)),
        Property::always(NEEDS, |_, state: &State| state.broken != Some(NEEDS)),
        Property::always(ONE_EFFECT, |_, state: &State| state.broken != Some(ONE_EFFECT)),
        Property::always(NO_LOSS, |_, state: &State| state.broken != Some(NO_LOSS)),
    ];
    properties.extend([
        Property::sometimes("a completed Workflow", |_, state: &State| {
            state.phase() == WorkflowPhase::Completed
        }),
        Property::sometimes("a failed Workflow", |_, state: &State| {
            state.phase() == WorkflowPhase::Failed
        }),
        Property::sometimes("a cancelled Workflow", |_, state: &State| {
            state.phase() == WorkflowPhase::Cancelled
        }),
        Property::sometimes("a second run", |_, state: &State| {
            state.workflow.status.run == 2 && state.phase() == WorkflowPhase::Completed
        }),
        Property::sometimes("a second attempt", |_, state: &State| {
            state.created.keys().any(|key| key.1 == 2)
        }),
        Property::sometimes("a lost race", |_, state: &State| state.seen.lost_race),
        Property::sometimes("a Job found after a lost reply", |_, state: &State| {
            state.seen.adopted
        }),
        Property::sometimes("a burnt attempt", |_, state: &State| state.seen.burnt),
        Property::sometimes("a refused result", |_, state: &State| state.seen.refused),
        Property::sometimes("a result that was asked for", |_, state: &State| {
            state.seen.asked_live
        }),
        Property::sometimes("a result of a Pod whose Job was gone", |_, state: &State| {
            state.seen.late
        }),
        Property::sometimes("a second round that completes", |_, state: &State| {
            let again = |stage: &StageStatus| stage.round > 0;
            state.phase() == WorkflowPhase::Completed && state.workflow.status.stages.iter().any(again)
        }),
        Property::sometimes("a run that was lost", |_, state: &State| {
            state.phase() == WorkflowPhase::Failed && state.pinned == Pinned::Lost
        }),
        Property::sometimes("a run that was pinned twice", |_, state: &State| {
            state.seen.pinned_twice
        }),
    ]);
    properties
}
