//! The promises of the design that a recording can show broken: pure. Every scenario is held to all of them.

use std::collections::BTreeMap;

use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::StagePhase;

use super::recorder::{JobSeen, Recording, StageSeen, Version};

/// Every broken promise, with what was seen.
pub fn violations(recording: &Recording) -> Vec<String> {
    let mut broken = one_job_for_an_attempt(recording);
    let mut latest: BTreeMap<&str, &Version> = BTreeMap::new();
    for version in &recording.versions {
        if let Some(before) = latest.insert(&version.uid, version) {
            never_backwards(before, version, &mut broken);
            nothing_after_the_end(before, version, &mut broken);
        }
    }
    if !recording.gaps {
        for job in &recording.jobs {
            licensed(job, recording, &mut broken);
            needs_succeeded(job, recording, &mut broken);
        }
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

/// I2: run, attempt and phase of a stage never go backwards, nor does the Workflow's phase where stages are in its order.
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
    if after.template == "echo" && after.phase < before.phase && after.run <= before.run {
        broken.push(format!(
            "I2: {} went from {:?} to {:?} at revision {}",
            after.name, before.phase, after.phase, after.revision
        ));
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

/// I3, I7: a Workflow that ended is not written any more, but by a new run.
fn nothing_after_the_end(before: &Version, after: &Version, broken: &mut Vec<String>) {
    let ended = before.phase.is_terminal();
    if ended && before.status != after.status && after.run != before.run + 1 {
        broken.push(format!(
            "I3: {} had ended and its status changed at revision {}",
            after.name, after.revision
        ));
    }
}

/// The stored status said that this attempt runs before its Job was made.
fn licensed(job: &JobSeen, recording: &Recording, broken: &mut Vec<String>) {
    let license = versions_before(job, recording).any(|version| {
        version.stages.iter().any(|stage| {
            stage.name == job.stage && stage.attempt == job.attempt && stage.phase == StagePhase::Running
        })
    });
    if !license {
        broken.push(format!(
            "I1: Job {} was created before the status licensed it",
            job.name
        ));
    }
}

/// I5, for templates in which each stage needs the one before it.
fn needs_succeeded(job: &JobSeen, recording: &Recording, broken: &mut Vec<String>) {
    let Some(version) = versions_before(job, recording)
        .last()
        .filter(|version| version.template == "echo")
    else {
        return;
    };
    let open: Vec<&str> = version
        .stages
        .iter()
        .take_while(|stage| stage.name != job.stage)
        .filter(|stage| stage.phase != StagePhase::Succeeded && stage.name != INITIALIZE)
        .map(|stage| stage.name.as_str())
        .collect();
    if !open.is_empty() {
        broken.push(format!(
            "I5: Job {} was created before {} had succeeded",
            job.name,
            open.join(", ")
        ));
    }
}

fn versions_before<'a>(job: &'a JobSeen, recording: &'a Recording) -> impl Iterator<Item = &'a Version> {
    recording
        .versions
        .iter()
        .filter(|version| version.uid == job.workflow_uid && version.revision < job.revision)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagecraft_api::WorkflowPhase;

    use super::*;

    fn stage(name: &str, attempt: u32, phase: StagePhase) -> StageSeen {
        StageSeen {
            name: name.into(),
            run: 1,
            round: 0,
            attempt,
            phase,
            whole: json!({"attempt": attempt, "phase": phase}),
        }
    }

    fn version(revision: u64, phase: WorkflowPhase, stages: Vec<StageSeen>) -> Version {
        Version {
            uid: "uid".into(),
            name: "flow".into(),
            revision,
            phase,
            template: "echo".into(),
            run: 1,
            status: json!({"phase": phase, "stages": stages.iter().map(|stage| &stage.whole).collect::<Vec<_>>()}),
            stages,
        }
    }

    fn job(uid: &str, stage: &str, attempt: u32, revision: u64) -> JobSeen {
        JobSeen {
            uid: uid.into(),
            name: format!("flow-{stage}-{attempt}-{uid}"),
            workflow_uid: "uid".into(),
            stage: stage.into(),
            attempt,
            revision,
        }
    }

    /// One stage that fails once and then succeeds.
    fn good() -> Recording {
        Recording {
            versions: vec![
                version(1, WorkflowPhase::Pending, vec![]),
                version(
                    2,
                    WorkflowPhase::Scaffolding,
                    vec![stage("scaffold", 1, StagePhase::Running)],
                ),
                version(
                    5,
                    WorkflowPhase::Scaffolding,
                    vec![stage("scaffold", 1, StagePhase::Waiting)],
                ),
                version(
                    6,
                    WorkflowPhase::Scaffolding,
                    vec![stage("scaffold", 2, StagePhase::Running)],
                ),
                version(
                    9,
                    WorkflowPhase::Completed,
                    vec![stage("scaffold", 2, StagePhase::Succeeded)],
                ),
            ],
            jobs: vec![job("a", "scaffold", 1, 3), job("b", "scaffold", 2, 7)],
            gaps: false,
        }
    }

    #[test]
    fn a_retry_that_succeeds_breaks_no_promise() {
        assert_eq!(violations(&good()), Vec::<String>::new());
    }

    #[test]
    fn a_second_job_for_an_attempt_is_noticed() {
        let mut recording = good();
        recording.jobs.push(job("c", "scaffold", 2, 8));
        assert!(violations(&recording)[0].starts_with("I1: attempt 2 of stage scaffold had 2 Jobs"));
    }

    #[test]
    fn a_job_without_a_license_is_noticed() {
        let mut recording = good();
        recording.jobs[1].revision = 4;
        assert!(violations(&recording)[0].contains("before the status licensed it"));
    }

    #[test]
    fn a_stage_that_goes_backwards_is_noticed() {
        let mut recording = good();
        recording.versions.swap(2, 3);
        let broken = violations(&recording);
        assert!(
            broken.iter().any(|text| text.starts_with("I2: stage scaffold")),
            "{broken:?}"
        );
    }

    #[test]
    fn a_write_after_the_end_is_noticed() {
        let mut recording = good();
        recording.versions.push(version(
            10,
            WorkflowPhase::Completed,
            vec![stage("scaffold", 3, StagePhase::Succeeded)],
        ));
        let broken = violations(&recording);
        assert!(
            broken.iter().any(|text| text.starts_with("I3: flow had ended")),
            "{broken:?}"
        );
    }

    #[test]
    fn a_new_run_that_its_owner_asked_for_breaks_no_promise() {
        let mut recording = good();
        let mut again = stage("scaffold", 2, StagePhase::Pending);
        again.run = 2;
        let mut next = version(10, WorkflowPhase::Scaffolding, vec![again]);
        next.run = 2;
        recording.versions.push(next);
        assert_eq!(violations(&recording), Vec::<String>::new());
    }

    #[test]
    fn an_attempt_number_that_is_used_again_in_a_new_run_is_noticed() {
        let mut recording = good();
        let mut again = stage("scaffold", 1, StagePhase::Running);
        again.run = 2;
        let mut next = version(10, WorkflowPhase::Scaffolding, vec![again]);
        next.run = 2;
        recording.versions.push(next);
        let broken = violations(&recording);
        assert!(broken[0].starts_with("I2: stage scaffold"), "{broken:?}");
    }

    #[test]
    fn a_job_before_what_it_needs_is_noticed() {
        let mut recording = good();
        let both = vec![
            stage("scaffold", 2, StagePhase::Running),
            stage("validate", 1, StagePhase::Running),
        ];
        recording
            .versions
            .insert(4, version(8, WorkflowPhase::Validating, both));
        recording.jobs.push(job("d", "validate", 1, 9));
        recording.versions.truncate(5);
        assert_eq!(
            violations(&recording),
            ["I5: Job flow-validate-1-d was created before scaffold had succeeded"]
        );
    }
}
