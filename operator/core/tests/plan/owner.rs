//! What the owner of a Workflow asks for while it runs: to hold it, to let it go on, to end it.

use serde_json::json;
use stagecraft_api::WorkflowPhase;
use stagecraft_api::condition::{PROGRESSING, SUCCEEDED};
use stagecraft_api::error::Category;

use crate::fixture::{Scene, actions, failure, quiet, success};

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
