//! The promises of the design that a recording can show broken: pure. Every scenario is held to all of them.

mod graph;

use std::collections::BTreeMap;

use serde_json::Value;
use stagecraft_api::status::StagePhase;

use super::recorder::{JobSeen, Recording, StageSeen, Version};

/// Every broken promise, with what was seen.
pub fn violations(recording: &Recording) -> Vec<String> {
    let mut broken = one_job_for_an_attempt(recording);
    let mut latest: BTreeMap<&str, &Version> = BTreeMap::new();
    for version in &recording.versions {
        graph::phase_fits(version, recording, &mut broken);
        if let Some(before) = latest.insert(&version.uid, version) {
            never_backwards(before, version, &mut broken);
            graph::phase_goes_on(before, version, recording, &mut broken);
            nothing_after_the_end(before, version, &mut broken);
        }
    }
    if !recording.gaps {
        for job in &recording.jobs {
            licensed(job, recording, &mut broken);
            graph::in_turn(job, recording, &mut broken);
        }
    } else if !recording.gaps_are_expected {
        broken.push(
            "a watch had to begin anew: whether each Job was licensed (I1) and in turn (I5) cannot be told"
                .to_owned(),
        );
    }
    broken
}

/// I1: at most one Job is ever created for an attempt.
fn one_job_for_an_attempt(recording: &Recording) -> Vec<String> {
    let mut jobs: BTreeMap<(&str, &str, u32), Vec<&str>> = BTreeMap::new();
    for job in &recording.jobs {
        jobs.entry((&job.workflow_uid, &job.stage, job.attempt))
            .or_default()
            .push(&job.name);
    }
    jobs.into_iter()
        .filter(|(_, names)| names.len() > 1)
        .map(|((_, stage, attempt), names)| {
            format!(
                "I1: attempt {attempt} of stage {stage} had {} Jobs: {}",
                names.len(),
                names.join(", ")
            )
        })
        .collect()
}

/// I2: run, attempt and phase of a stage never go backwards.
fn never_backwards(before: &Version, after: &Version, broken: &mut Vec<String>) {
    for stage in &before.stages {
        let Some(later) = after.stages.iter().find(|later| later.name == stage.name) else {
            broken.push(format!(
                "I2: stage {} of {} vanished at revision {}",
                stage.name, after.name, after.revision
            ));
            continue;
        };
        if place(later) < place(stage) || later.attempt < stage.attempt {
            broken.push(format!(
                "I2: stage {} of {} went from attempt {} {:?} to attempt {} {:?} at revision {}",
                stage.name,
                after.name,
                stage.attempt,
                stage.phase,
                later.attempt,
                later.phase,
                after.revision
            ));
        }
        if stage.phase.is_terminal()
            && later.whole != stage.whole
            && (later.run, later.round) <= (stage.run, stage.round)
        {
            broken.push(format!(
                "I3: stage {} of {} had ended and changed at revision {}",
                stage.name, after.name, after.revision
            ));
        }
    }
}

fn place(stage: &StageSeen) -> (u32, u32, u32, u8) {
    let phase = match stage.phase {
        StagePhase::Pending => 0,
        StagePhase::Running => 1,
        StagePhase::Waiting => 2,
        StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => 3,
    };
    (stage.run, stage.round, stage.attempt, phase)
}

/// I3, I7: a Workflow that ended is not written any more, but by a new run, or to say that an edit was seen.
fn nothing_after_the_end(before: &Version, after: &Version, broken: &mut Vec<String>) {
    let ended = before.phase.is_terminal();
    if ended && apart_from_edits(before) != apart_from_edits(after) && after.run != before.run + 1 {
        broken.push(format!(
            "I3: {} had ended and its status changed at revision {}",
            after.name, after.revision
        ));
    }
}

/// The status without the generation of the spec that it speaks of.
fn apart_from_edits(version: &Version) -> Value {
    let mut status = version.status.clone();
    let generation = "observedGeneration";
    if let Some(status) = status.as_object_mut() {
        status.remove(generation);
    }
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if let Some(condition) = condition.as_object_mut() {
            condition.remove(generation);
        }
    }
    status
}

/// The stored status said that this attempt runs before its Job was made.
fn licensed(job: &JobSeen, recording: &Recording, broken: &mut Vec<String>) {
    if license(job, recording).is_none() {
        broken.push(format!(
            "I1: Job {} was created before the status licensed it",
            job.name
        ));
    }
}

/// The first version that lets an attempt run, of those before its Job. The Job may come much later, when what asked for it was slow.
fn license<'a>(job: &JobSeen, recording: &'a Recording) -> Option<&'a Version> {
    recording
        .versions
        .iter()
        .filter(|version| version.uid == job.workflow_uid && version.revision < job.revision)
        .find(|version| {
            version.stages.iter().any(|stage| {
                stage.name == job.stage && stage.attempt == job.attempt && stage.phase == StagePhase::Running
            })
        })
}

#[cfg(test)]
#[path = "invariants_tests.rs"]
mod tests;
