//! What the owner of a Workflow asks for: to hold it, to let it go on, to end it, to run it once more, to have it deleted.

use serde_json::json;
use stagecraft_api::WorkflowPhase;
use stagecraft_api::condition::{PROGRESSING, SUCCEEDED};
use stagecraft_api::error::Category;

use stagecraft_api::workflow::Retry;
use stagecraft_core::observation::RunEvidence;
use stagecraft_core::resolve::Refusal;

use crate::fixture::{Scene, actions, at, catalog, failure, open_job, quiet, spec, started, success};

fn again(from: &str, run: u32) -> Retry {
    Retry {
        from: from.to_owned(),
        run,
    }
}

#[test]
fn a_suspended_workflow_begins_nothing_and_says_so_until_it_may_go_on() {
    let mut scene = Scene::running("a, b");
    scene.observation.spec.suspend = true;
    scene.at(1);
    assert!(quiet(&scene.plan()), "what runs goes on");
    scene.at(2).result("a", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge a 1"]);
    assert_eq!(scene.stages(), "a Succeeded 1, b Pending 0");
    assert_eq!(scene.condition(PROGRESSING), "True Suspended");
    let message = scene.observation.status.message.clone();
    assert!(message.contains("spec.suspend"), "{message}");
    assert!(quiet(&scene.act()), "nothing is written while it waits");
    scene.observation.spec.suspend = false;
    assert_eq!(actions(&scene.act()), ["store", "start b 1"]);
}

#[test]
fn a_suspended_workflow_begins_no_further_attempt() {
    let mut scene = Scene::running("a");
    scene.observation.spec.suspend = true;
    scene.at(1).result("a", failure(Category::Execution));
    scene.act();
    scene.at(1_000);
    scene.act();
    assert_eq!(scene.stages(), "a Waiting 1");
    assert_eq!(scene.condition(PROGRESSING), "True Suspended");
    scene.observation.spec.suspend = false;
    scene.act();
    assert_eq!(scene.stages(), "a Running 2");
}

#[test]
fn a_cancelled_workflow_stops_what_runs_and_begins_nothing() {
    let mut scene = Scene::running("a:, b:, c: a");
    scene.at(1).result("b", failure(Category::Execution));
    scene.act();
    assert_eq!(scene.stages(), "a Running 1, b Waiting 1, c Pending 0");
    let job = scene.stage("a").job.clone();
    scene.observation.spec.cancel = true;
    assert_eq!(
        actions(&scene.act()),
        [
            "store".to_owned(),
            format!("close {job}"),
            "acknowledge a 1".to_owned()
        ]
    );
    let status = scene.observation.status.clone();
    assert_eq!(status.phase, WorkflowPhase::Cancelled);
    assert!(status.finished_at.is_some());
    assert_eq!(
        (scene.condition(PROGRESSING), scene.condition(SUCCEEDED)),
        ("False Cancelled".to_owned(), "False Cancelled".to_owned())
    );
    assert_eq!(scene.stages(), "a Failed 1, b Failed 1, c Pending 0");
    for (name, part) in [
        ("a", "was stopped"),
        ("b", "no further attempt"),
        ("c", "not started"),
    ] {
        assert!(
            scene.stage(name).message.contains(part),
            "{}",
            scene.stage(name).message
        );
    }
    assert_eq!(scene.stage("a").error.as_ref().unwrap().code, "Cancelled");
    scene.observation.spec.cancel = false;
    scene.act();
    assert_eq!(scene.observation.status, status, "it is over");
}

#[test]
fn a_result_that_is_there_when_a_workflow_is_cancelled_counts() {
    let mut scene = Scene::running("a, b");
    scene.observation.spec.cancel = true;
    scene.at(1).result("a", success(json!({"done": true})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge a 1"]);
    assert_eq!(scene.stages(), "a Succeeded 1, b Pending 0");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Cancelled);

    let mut scene = Scene::running("a");
    scene.observation.spec.cancel = true;
    scene.at(1).result("a", success(json!({})));
    scene.act();
    assert_eq!(
        scene.observation.status.phase,
        WorkflowPhase::Completed,
        "nothing was left to cancel"
    );
}

#[test]
fn a_workflow_that_has_failed_stays_failed() {
    let mut scene = Scene::running("a, b");
    let fatal = stagecraft_api::StructuredError::new("Wrong", Category::Configuration, "no key").fatal();
    scene.observation.spec.cancel = true;
    scene
        .at(1)
        .result("a", stagecraft_api::result::Outcome::Failed { error: fatal });
    scene.act();
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
}

#[test]
fn a_workflow_can_be_cancelled_before_anything_begins() {
    let mut scene = Scene::new("a");
    scene.observation.spec.cancel = true;
    assert_eq!(actions(&scene.act()), ["store"]);
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Cancelled);
    assert!(quiet(&scene.plan()));

    let mut scene = Scene::new("a");
    scene.observation.spec.suspend = true;
    scene.act();
    scene.act();
    assert_eq!(scene.stages(), "a Pending 0");
    assert_eq!(scene.condition(PROGRESSING), "True Suspended");
}

#[test]
fn a_new_run_repeats_a_stage_and_what_follows_upon_it_and_keeps_the_rest() {
    let mut scene = Scene::running("a:, b: a, c: b, d: a");
    scene.at(1).result("a", success(json!({"made": "by a"})));
    scene.act();
    scene
        .at(2)
        .result("b", success(json!({})))
        .result("d", success(json!({})));
    scene.act();
    scene.at(3).result("c", failure(Category::Execution));
    scene.act();
    scene.at(100);
    scene.act();
    scene.result("c", failure(Category::Execution));
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Succeeded 1, c Failed 2, d Succeeded 1"
    );
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
    let kept = (scene.stage("a").clone(), scene.stage("d").clone());

    scene.observation.identity.generation = 2;
    scene.observation.spec.retry = Some(again("b", 2));
    assert_eq!(actions(&scene.at(200).act()), ["store"]);
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Pending 1, c Pending 2, d Succeeded 1"
    );
    let status = &scene.observation.status;
    assert_eq!(
        (status.run, status.observed_generation, status.finished_at),
        (2, Some(2), None)
    );
    assert_eq!(
        (status.started_at, status.phase),
        (Some(at(200)), WorkflowPhase::Initialized)
    );
    assert_eq!(scene.condition(SUCCEEDED), "Unknown Pending");
    assert_eq!(
        (scene.stage("c").failures, scene.stage("c").history.len()),
        (0, 2)
    );

    let tasks = started(&scene.act());
    assert_eq!(
        (tasks[0].attempt.stage.as_str(), tasks[0].attempt.attempt),
        ("b", 2)
    );
    assert_eq!(tasks[0].context.previous_outputs["a"]["made"], json!("by a"));
    scene.result("b", success(json!({})));
    scene.act();
    // As often as in the first run.
    scene.result("c", failure(Category::Execution));
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Succeeded 2, c Waiting 3, d Succeeded 1"
    );
    scene.at(300);
    scene.act();
    scene.result("c", success(json!({})));
    scene.act();
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    assert_eq!(
        (scene.stage("a"), scene.stage("d")),
        (&kept.0, &kept.1),
        "they were not touched"
    );
    assert!(quiet(&scene.plan()), "the request was answered");
}

#[test]
fn a_new_run_repeats_whatever_has_not_succeeded() {
    let mut scene = Scene::running("a, b, c");
    scene.observation.spec.cancel = true;
    scene.act();
    assert_eq!(scene.stages(), "a Failed 1, b Pending 0, c Pending 0");
    scene.observation.spec.retry = Some(again("c", 2));
    assert!(quiet(&scene.plan()), "it would be cancelled at once");
    scene.observation.spec.cancel = false;
    scene.act();
    assert_eq!(scene.stages(), "a Pending 1, b Pending 0, c Pending 0");
    assert_eq!(actions(&scene.act()), ["store", "start a 2"]);
}

#[test]
fn only_the_next_run_can_be_asked_for_and_only_of_a_workflow_that_ended() {
    let mut scene = Scene::running("a");
    scene.observation.spec.retry = Some(again("a", 2));
    assert!(quiet(&scene.plan()), "it runs");
    scene.at(1).result("a", success(json!({})));
    for run in [0, 1, 3, u32::MAX] {
        let mut scene = Scene::running("a");
        scene.at(1).result("a", success(json!({})));
        scene.act();
        scene.observation.spec.retry = Some(again("a", run));
        assert!(quiet(&scene.plan()), "run {run}");
    }

    let mut wanted = spec();
    wanted.retry = Some(again("a", 2));
    let refused = stagecraft_core::resolve::resolve("flow", &wanted, &catalog("a"));
    let Err(Refusal::Violations(violations)) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(violations[0].field, "spec.retry");
}

#[test]
fn a_new_run_of_what_is_lost_says_so_once() {
    let mut scene = Scene::running("a");
    scene.at(1).result("a", failure(Category::Validation));
    scene.observation.spec.cancel = true;
    scene.act();
    scene.observation.spec.cancel = false;
    scene.observation.spec.retry = Some(again("a", 2));
    scene.observation.run = RunEvidence::Lost("ConfigMap x was deleted".to_owned());
    scene.act();
    let status = &scene.observation.status;
    assert_eq!((status.run, status.phase), (2, WorkflowPhase::Failed));
    assert!(
        status.message.contains("ConfigMap x was deleted"),
        "{}",
        status.message
    );
    assert!(quiet(&scene.plan()));
}

#[test]
fn what_an_earlier_run_left_working_is_closed() {
    let mut scene = Scene::running("a");
    scene.observation.spec.cancel = true;
    scene.act();
    scene.observation.spec.cancel = false;
    scene.observation.spec.retry = Some(again("a", 2));
    scene.act();
    scene.observation.open_jobs = vec![open_job("a", 1)];
    assert_eq!(actions(&scene.act()), ["store", "start a 2", "close a-1"]);
}

#[test]
fn a_run_ends_at_its_deadline_and_a_new_one_has_its_own() {
    let mut scene = Scene::new("a, b");
    scene.observation.spec.deadline_seconds = Some(60);
    scene.act();
    assert_eq!(scene.act().wake_at, Some(at(60)));
    let job = scene.stage("a").job.clone();
    scene.at(59);
    assert!(quiet(&scene.plan()));
    assert_eq!(
        actions(&scene.at(60).act()),
        [
            "store".to_owned(),
            format!("close {job}"),
            "acknowledge a 1".to_owned()
        ]
    );
    let status = scene.observation.status.clone();
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert!(
        status.message.contains("spec.deadlineSeconds"),
        "{}",
        status.message
    );
    let error = scene.stage("a").error.clone().unwrap();
    assert_eq!(
        (error.code.as_str(), error.category),
        ("DeadlineExceeded", Category::Timeout)
    );

    scene.observation.spec.retry = Some(again("a", 2));
    scene.at(1_000).act();
    assert_eq!(scene.act().wake_at, Some(at(1_060)));
    assert_eq!(scene.stages(), "a Running 2, b Pending 0");
}

#[test]
fn a_workflow_that_ended_is_deleted_when_its_time_to_live_is_over() {
    let mut scene = Scene::running("a");
    scene.observation.spec.ttl_seconds_after_finished = Some(30);
    scene.at(10).result("a", success(json!({})));
    scene.act();
    let plan = scene.at(39).plan();
    assert_eq!((actions(&plan), plan.wake_at), (vec![], Some(at(40))));
    assert_eq!(actions(&scene.at(40).plan()), ["delete"]);
    scene.observation.spec.retry = Some(again("a", 2));
    assert_eq!(
        actions(&scene.plan()),
        ["store"],
        "who asks for a new run keeps it"
    );
}

#[test]
fn the_status_says_of_which_spec_it_speaks() {
    let mut scene = Scene::running("a");
    scene.observation.identity.generation = 7;
    assert_eq!(actions(&scene.act()), ["store"]);
    let status = &scene.observation.status;
    assert_eq!(status.observed_generation, Some(7));
    assert!(
        status
            .conditions
            .iter()
            .any(|condition| condition.observed_generation == Some(7))
    );
    assert!(quiet(&scene.plan()));
}

#[test]
fn an_edit_after_the_end_is_seen_once_and_changes_nothing_else() {
    let mut scene = Scene::running("a");
    scene.at(1).result("a", success(json!({})));
    scene.act();
    let ended = scene.observation.status.clone();
    scene.observation.identity.generation = 9;
    scene.observation.spec.ttl_seconds_after_finished = Some(60);
    assert_eq!(actions(&scene.at(10).act()), ["store"]);
    let mut seen = scene.observation.status.clone();
    assert_eq!(seen.observed_generation, Some(9));
    for (condition, before) in seen.conditions.iter_mut().zip(&ended.conditions) {
        assert_eq!(condition.observed_generation, Some(9), "{}", condition.type_);
        condition.observed_generation = before.observed_generation;
    }
    seen.observed_generation = ended.observed_generation;
    assert_eq!(seen, ended);
    assert!(quiet(&scene.plan()));
    scene.observation.identity.generation = 10;
    assert_eq!(actions(&scene.at(61).plan()), ["delete"]);
}

#[test]
fn a_new_run_keeps_what_was_done_after_a_stage_that_was_skipped() {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    let template = json!({"stages": [
        {"name": "a", "agent": "worker"},
        {"name": "b", "agent": "worker", "needs": ["a"], "when": "false"},
        {"name": "c", "agent": "worker", "needs": ["b"]},
        {"name": "d", "agent": "worker", "needs": ["c"], "retries": 0},
    ]});
    scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
    scene.act();
    scene.act();
    scene.result("a", success(json!({})));
    scene.act();
    scene.result("c", success(json!({})));
    scene.act();
    scene.result("d", failure(Category::Execution));
    scene.act();
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
    scene.observation.spec.retry = Some(again("d", 2));
    scene.act();
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Skipped 0, c Succeeded 1, d Running 2"
    );
}
