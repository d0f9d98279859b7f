//! What runs when the others are over, however they ended.

use serde_json::{Value, json};
use stagecraft_api::WorkflowPhase;
use stagecraft_api::condition::SUCCEEDED;
use stagecraft_api::error::Category;

use crate::fixture::{Scene, actions, at, failure, quiet, success};
use crate::graphs::{fatal, running, stage};

fn with_finally(change: Value) -> Value {
    json!({
        "stages": [stage("a", json!({})), stage("b", json!({}))],
        "finally": [stage("clean", change), stage("tell", json!({"needs": ["clean"]}))],
    })
}

#[test]
fn the_stages_of_finally_run_when_the_others_succeeded() {
    let mut scene = running(with_finally(json!({})), json!({}));
    scene.result("a", success(json!({})));
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Running 1, clean Pending 0, tell Pending 0"
    );
    scene.result("b", success(json!({})));
    assert_eq!(
        actions(&scene.act()),
        ["store", "start clean 1", "acknowledge b 1"]
    );
    let status = &scene.observation.status;
    assert_eq!(status.ending.as_ref().unwrap().phase, WorkflowPhase::Completed);
    assert_eq!((status.progress.as_str(), status.finished_at), ("2/4", None));
    assert_eq!(scene.condition(SUCCEEDED), "Unknown StageRunning");
    scene.observation.spec.cancel = true;
    assert!(
        quiet(&scene.plan()),
        "what is to run whatever happens runs to its end"
    );
    scene.result("clean", success(json!({})));
    scene.act();
    scene.result("tell", success(json!({})));
    scene.act();
    let status = &scene.observation.status;
    assert_eq!(
        (status.phase, status.ending.as_ref()),
        (WorkflowPhase::Completed, None)
    );
    assert_eq!(status.message, "all 4 stages succeeded");
}

#[test]
fn the_stages_of_finally_run_when_a_stage_failed_and_change_nothing_about_that() {
    let mut scene = running(
        with_finally(json!({"when": "workflow.ending == 'Failed'"})),
        json!({}),
    );
    scene.result("a", fatal());
    assert_eq!(
        actions(&scene.act()),
        ["store", "start clean 1", "acknowledge a 1"]
    );
    assert_eq!(
        scene.stages(),
        "a Failed 1, b Pending 0, clean Running 1, tell Pending 0"
    );
    let message = scene.observation.status.message.clone();
    assert!(
        message.starts_with("clean: ") && message.contains("then Failed: stage a failed"),
        "{message}"
    );
    scene.result("clean", success(json!({})));
    scene.act();
    scene.result("tell", fatal());
    scene.act();
    let status = &scene.observation.status;
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert!(status.message.starts_with("stage a failed"), "{}", status.message);
    assert!(
        status.message.contains("and stage tell failed"),
        "{}",
        status.message
    );
}

#[test]
fn a_completed_workflow_has_failed_when_one_of_finally_fails_and_the_others_still_run() {
    let template = json!({
        "stages": [stage("a", json!({}))],
        "finally": [stage("x", json!({})), stage("y", json!({"needs": ["x"]})), stage("z", json!({}))],
    });
    let mut scene = running(template, json!({}));
    scene.result("a", success(json!({})));
    scene.act();
    scene.result("x", fatal());
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, x Failed 1, y Pending 0, z Running 1"
    );
    scene.result("z", success(json!({})));
    scene.act();
    let status = &scene.observation.status;
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert!(status.message.starts_with("stage x failed"), "{}", status.message);
    assert!(
        scene.stage("y").message.contains("not started: stage x failed"),
        "{}",
        scene.stage("y").message
    );
}

#[test]
fn the_stages_of_finally_run_when_the_workflow_is_cancelled_or_out_of_time() {
    let mut scene = running(with_finally(json!({})), json!({}));
    let job = scene.stage("a").job.clone();
    scene.observation.spec.cancel = true;
    assert_eq!(
        actions(&scene.act()),
        [
            "store".to_owned(),
            "start clean 1".to_owned(),
            format!("close {job}"),
            "acknowledge a 1".to_owned()
        ]
    );
    assert_eq!(
        scene.stages(),
        "a Failed 1, b Pending 0, clean Running 1, tell Pending 0"
    );
    for name in ["clean", "tell"] {
        scene.result(name, success(json!({})));
        scene.act();
    }
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Cancelled);

    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    scene.observation.spec.template = Some(serde_json::from_value(with_finally(json!({}))).unwrap());
    scene.observation.spec.deadline_seconds = Some(10);
    scene.act();
    scene.act();
    scene.at(10).act();
    assert_eq!(
        scene.stages(),
        "a Failed 1, b Pending 0, clean Running 1, tell Pending 0"
    );
    assert!(quiet(&scene.at(20).plan()), "the deadline is that of the others");
}

#[test]
fn the_owner_can_end_the_stages_of_finally_as_well() {
    let cancel = |scene: &mut Scene| {
        scene.observation.spec.cancel = true;
        scene.observation.spec.cancel_finally = true;
    };
    // They run because of the first cancel.
    let mut scene = running(with_finally(json!({})), json!({}));
    scene.observation.spec.cancel = true;
    scene.act();
    let job = scene.stage("clean").job.clone();
    cancel(&mut scene);
    assert_eq!(
        actions(&scene.at(5).act()),
        [
            "store".to_owned(),
            format!("close {job}"),
            "acknowledge clean 1".to_owned()
        ]
    );
    assert_eq!(
        scene.stages(),
        "a Failed 1, b Pending 0, clean Failed 1, tell Pending 0"
    );
    let status = &scene.observation.status;
    assert_eq!(
        (status.phase, status.finished_at),
        (WorkflowPhase::Cancelled, Some(at(5)))
    );
    assert!(
        status.message.contains("spec.cancelFinally"),
        "{}",
        status.message
    );
    assert_eq!(scene.stage("clean").error.as_ref().unwrap().code, "Cancelled");
    assert!(quiet(&scene.plan()));

    // Everything ends at once.
    let mut scene = running(with_finally(json!({})), json!({}));
    cancel(&mut scene);
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Failed 1, b Pending 0, clean Pending 0, tell Pending 0"
    );
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Cancelled);

    // What has failed stays failed, and what had completed was cancelled.
    for (outcome, phase) in [
        (fatal(), WorkflowPhase::Failed),
        (success(json!({})), WorkflowPhase::Cancelled),
    ] {
        let template = json!({
            "stages": [stage("a", json!({}))], "finally": [stage("clean", json!({}))],
        });
        let mut scene = running(template, json!({}));
        scene.result("a", outcome);
        scene.act();
        scene.observation.spec.cancel_finally = true;
        assert!(quiet(&scene.plan()), "it says how to cancel, and does not");
        cancel(&mut scene);
        scene.act();
        assert_eq!(scene.observation.status.phase, phase);
        assert_eq!(
            scene.stage("clean").phase,
            stagecraft_api::status::StagePhase::Failed
        );
    }
}

#[test]
fn a_result_of_finally_that_is_there_when_it_is_ended_counts() {
    let template = json!({
        "stages": [stage("a", json!({}))], "finally": [stage("clean", json!({}))],
    });
    let mut scene = running(template, json!({}));
    scene.result("a", success(json!({})));
    scene.act();
    scene.observation.spec.cancel = true;
    scene.observation.spec.cancel_finally = true;
    scene.result("clean", success(json!({})));
    scene.act();
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
}

#[test]
fn finally_alone_can_be_skipped_and_repeated() {
    let template = json!({
        "stages": [stage("a", json!({}))],
        "finally": [stage("clean", json!({"when": "workflow.ending == 'Failed'"}))],
    });
    let mut scene = running(template, json!({}));
    scene.result("a", success(json!({})));
    scene.act();
    assert_eq!(scene.stages(), "a Succeeded 1, clean Skipped 0");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    scene.observation.spec.retry = Some(serde_json::from_value(json!({"from": "a", "run": 2})).unwrap());
    scene.at(50).act();
    assert_eq!(scene.stages(), "a Pending 1, clean Pending 0");
    scene.act();
    scene.result("a", failure(Category::Execution));
    scene.act();
    assert_eq!(scene.stages(), "a Failed 2, clean Running 1");
    assert_eq!(scene.observation.status.started_at, Some(at(50)));
}
