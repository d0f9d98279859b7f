//! What the pinned run promises of the order of stages, and of the Workflow's phase.

use std::collections::BTreeSet;

use serde_json::Value;
use stagecraft_api::WorkflowPhase;
use stagecraft_api::run::{Run, RunStage};
use stagecraft_api::status::StagePhase;

use super::super::recorder::{JobSeen, Recording, StageSeen, Version};
use super::license;

/// I5: what the stage needs is over when the status lets its Job be created, and one of `finally` follows upon all others.
pub(super) fn in_turn(job: &JobSeen, recording: &Recording, broken: &mut Vec<String>) {
    let Some(run) = recording.runs.get(&job.workflow_uid) else {
        broken.push(format!("I5: Job {} was created and no run is pinned", job.name));
        return;
    };
    let Some(stage) = run.stage(&job.stage) else {
        broken.push(format!("I5: Job {} is of no stage of the run", job.name));
        return;
    };
    let Some(version) = license(job, recording) else {
        return;
    };
    let open = open(stage, run, version);
    if !open.is_empty() {
        broken.push(format!(
            "I5: Job {} was created before {} had succeeded",
            job.name,
            open.join(", ")
        ));
    }
    if stage.finally && version.status.get("ending").is_none_or(Value::is_null) {
        broken.push(format!(
            "I5: Job {} of finally was created before the Workflow came to its end",
            job.name
        ));
    }
}

/// Stages that have to be over before this one, and are not.
fn open<'run>(stage: &RunStage, run: &'run Run, version: &Version) -> Vec<&'run str> {
    let phase = |name: &str| seen(version, name).map(|stage| stage.phase);
    let is_open = |other: &&RunStage| {
        let needed = stage.needs.contains(&other.name)
            && !phase(&other.name).is_some_and(StagePhase::lets_others_start);
        let works = matches!(
            phase(&other.name),
            Some(StagePhase::Running | StagePhase::Waiting)
        );
        needed || (stage.finally && !other.finally && works)
    };
    let open = run.stages.iter().filter(is_open);
    open.map(|stage| stage.name.as_str()).collect()
}

/// The Workflow's phase is that of a stage that works, or tells that none does.
pub(super) fn phase_fits(version: &Version, recording: &Recording, broken: &mut Vec<String>) {
    let Some(run) = recording.runs.get(&version.uid) else {
        return;
    };
    if !fits(version, run) {
        broken.push(format!(
            "I2: {} is {:?} at revision {}, and its stages are {:?}",
            version.name,
            version.phase,
            version.revision,
            version
                .stages
                .iter()
                .map(|stage| (&stage.name, stage.phase))
                .collect::<Vec<_>>()
        ));
    }
}

fn fits(version: &Version, run: &Run) -> bool {
    let current = version.status.get("stage").and_then(Value::as_str);
    let current = current.and_then(|name| Some((seen(version, name)?, run.stage(name)?)));
    let pinned = || {
        let stages = version.stages.iter();
        stages.filter_map(|stage| Some((stage, run.stage(&stage.name)?)))
    };
    let works = |stage: &StageSeen| matches!(stage.phase, StagePhase::Running | StagePhase::Waiting);
    let has_begun = |stage: &StageSeen| stage.run == version.run && stage.attempt > 0;
    match version.phase {
        WorkflowPhase::Pending => !pinned().any(|(stage, _)| works(stage)),
        WorkflowPhase::Initialized => {
            !pinned().any(|(stage, _)| has_begun(stage) && stage.phase != StagePhase::Pending)
        }
        WorkflowPhase::AwaitingApproval => current.is_some_and(|(_, stage)| stage.approval.is_some()),
        WorkflowPhase::Completed => pinned().all(|(stage, _)| stage.phase.lets_others_start()),
        WorkflowPhase::Failed | WorkflowPhase::Cancelled => !pinned().any(|(stage, _)| works(stage)),
        phase => match current {
            Some((stage, pinned)) if works(stage) => phase == pinned.phase,
            _ => {
                let begun = pinned().filter(|(stage, _)| has_begun(stage));
                let mut known = begun.chain(current).map(|(_, stage)| stage.phase);
                known.any(|known| known == phase)
            }
        },
    }
}

/// I2: where stages follow one another in the order of their phases, the Workflow's phase never goes backwards within a run and a round.
pub(super) fn phase_goes_on(
    before: &Version,
    after: &Version,
    recording: &Recording,
    broken: &mut Vec<String>,
) {
    let rounds = |version: &Version| -> BTreeSet<(String, u32)> {
        let stages = version.stages.iter();
        stages.map(|stage| (stage.name.clone(), stage.round)).collect()
    };
    let is_ordered = recording.runs.get(&after.uid).is_some_and(is_ordered);
    let has_to_go_on = is_ordered
        && after.run <= before.run
        && before.phase != WorkflowPhase::AwaitingApproval
        && (before.stages.is_empty() || rounds(before) == rounds(after));
    if has_to_go_on && after.phase < before.phase {
        broken.push(format!(
            "I2: {} went from {:?} to {:?} at revision {}",
            after.name, before.phase, after.phase, after.revision
        ));
    }
}

/// Whether each stage follows upon the one before it, in the order of phases.
fn is_ordered(run: &Run) -> bool {
    let main: Vec<&RunStage> = run.stages.iter().filter(|stage| !stage.finally).collect();
    let has_finally = main.len() < run.stages.len();
    let mut pairs = main.iter().zip(main.iter().skip(1));
    !has_finally
        && pairs.all(|(first, second)| second.needs == [first.name.clone()] && first.phase <= second.phase)
}

fn seen<'a>(version: &'a Version, name: &str) -> Option<&'a StageSeen> {
    version.stages.iter().find(|stage| stage.name == name)
}
