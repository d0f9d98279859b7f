use serde_json::{Value, json};
use stagecraft_api::WorkflowPhase;
use stagecraft_api::run::Run;

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
        run: 1,
        status: json!({
            "phase": phase,
            "stage": stages.iter().find(|stage| stage.phase != StagePhase::Succeeded).map(|stage| &stage.name),
            "stages": stages.iter().map(|stage| &stage.whole).collect::<Vec<_>>(),
        }),
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

/// A run of these stages: name, needs, phase and whether it is of `finally`.
fn run(stages: &[(&str, &[&str], WorkflowPhase, bool)]) -> Run {
    let stage = |(name, needs, phase, finally): &(&str, &[&str], WorkflowPhase, bool)| {
        json!({
            "name": name, "needs": needs, "phase": phase, "finally": finally, "timeoutSeconds": 1, "retries": 0,
            "payload": {}, "agent": {"name": "echo", "version": "1", "image": null, "command": [], "env": [],
                                     "resources": {}, "outputsSchema": null},
        })
    };
    let stages: Vec<Value> = stages.iter().map(stage).collect();
    serde_json::from_value(json!({
        "template": "own", "project": {"name": "p", "description": "", "requirements": ["x"]},
        "priority": "medium", "stages": stages,
    }))
    .unwrap()
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
        runs: [(
            "uid".to_owned(),
            run(&[
                ("scaffold", &[], WorkflowPhase::Scaffolding, false),
                ("validate", &["scaffold"], WorkflowPhase::Validating, false),
            ]),
        )]
        .into(),
        ..Recording::default()
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
        .insert(4, version(8, WorkflowPhase::Scaffolding, both));
    recording.jobs.push(job("d", "validate", 1, 9));
    recording.versions.truncate(5);
    assert_eq!(
        violations(&recording),
        ["I5: Job flow-validate-1-d was created before scaffold had succeeded"]
    );
}

/// Two branches, and one stage of `finally`; the first branch is over and the second works.
fn graph() -> Recording {
    let stages = |right, last| {
        vec![
            stage("left", 1, StagePhase::Succeeded),
            stage("right", 1, right),
            stage("last", 1, last),
        ]
    };
    let mut working = version(
        2,
        WorkflowPhase::Testing,
        stages(StagePhase::Running, StagePhase::Pending),
    );
    working.status["stage"] = json!("right");
    let mut ending = version(
        5,
        WorkflowPhase::Deploying,
        stages(StagePhase::Failed, StagePhase::Running),
    );
    ending.status["stage"] = json!("last");
    ending.status["ending"] = json!({"phase": "Failed", "message": ""});
    Recording {
        versions: vec![working, ending],
        jobs: vec![job("a", "right", 1, 3), job("b", "last", 1, 6)],
        runs: [(
            "uid".to_owned(),
            run(&[
                ("left", &[], WorkflowPhase::Validating, false),
                ("right", &[], WorkflowPhase::Testing, false),
                ("last", &[], WorkflowPhase::Deploying, true),
            ]),
        )]
        .into(),
        ..Recording::default()
    }
}

#[test]
fn branches_and_what_follows_their_end_break_no_promise() {
    assert_eq!(violations(&graph()), Vec::<String>::new());
}

#[test]
fn a_job_of_finally_before_the_end_is_noticed() {
    let mut recording = graph();
    recording.versions[1].stages[1].phase = StagePhase::Running;
    recording.versions[1].status["ending"] = json!(null);
    let broken = violations(&recording);
    assert!(
        broken.contains(&"I5: Job flow-last-1-b was created before right had succeeded".to_owned())
            && broken.iter().any(|text| text.contains("of finally")),
        "{broken:?}"
    );
}

#[test]
fn a_job_before_one_of_its_needs_is_noticed_in_any_graph() {
    let mut recording = graph();
    let needs = [
        ("left", &["right"][..], WorkflowPhase::Validating, false),
        ("right", &["left"], WorkflowPhase::Testing, false),
        ("last", &[], WorkflowPhase::Deploying, true),
    ];
    recording.runs.insert("uid".into(), run(&needs));
    recording.versions[0].stages[0].phase = StagePhase::Pending;
    let broken = violations(&recording);
    assert!(
        broken.contains(&"I5: Job flow-right-1-a was created before left had succeeded".to_owned()),
        "{broken:?}"
    );
}

#[test]
fn a_phase_that_is_not_of_the_stage_that_works_is_noticed() {
    let mut recording = graph();
    recording.versions[0].phase = WorkflowPhase::Validating;
    let broken = violations(&recording);
    assert!(
        broken[0].starts_with("I2: flow is Validating at revision 2"),
        "{broken:?}"
    );
}

#[test]
fn an_end_in_success_with_a_stage_that_has_not_ended_is_noticed() {
    let mut recording = good();
    recording.versions[4].stages[0].phase = StagePhase::Waiting;
    let broken = violations(&recording);
    assert!(
        broken[0].starts_with("I2: flow is Completed at revision 9"),
        "{broken:?}"
    );
}

#[test]
fn a_phase_before_the_one_there_was_is_noticed() {
    let mut recording = good();
    recording.versions[3].phase = WorkflowPhase::Initialized;
    recording.versions[3].stages[0].phase = StagePhase::Pending;
    let broken = violations(&recording);
    assert!(
        broken.contains(&"I2: flow went from Scaffolding to Initialized at revision 6".to_owned()),
        "{broken:?}"
    );
}

#[test]
fn a_job_of_a_run_that_nobody_saw_is_noticed() {
    let mut recording = good();
    recording.runs.clear();
    assert!(violations(&recording)[0].contains("no run is pinned"));
}

#[test]
fn a_gap_is_noticed_unless_the_scenario_makes_it() {
    let mut recording = good();
    recording.gaps = true;
    assert!(violations(&recording)[0].starts_with("a watch had to begin anew"));
    recording.gaps_are_expected = true;
    assert_eq!(violations(&recording), Vec::<String>::new());
}

#[test]
fn an_edit_that_is_seen_after_the_end_breaks_no_promise() {
    let mut recording = good();
    let mut edited = recording.versions[4].clone();
    edited.revision = 10;
    edited.status["observedGeneration"] = json!(2);
    recording.versions.push(edited);
    assert_eq!(violations(&recording), Vec::<String>::new());
}
