//! What people read, as `kubectl get -o yaml` shows it.

use serde_json::json;
use stagecraft_api::condition::PROGRESSING;
use stagecraft_api::error::Category;
use stagecraft_core::observation::{PodEvidence, PodPhase};

use crate::evidence::{pod, present, with_pod};
use crate::fixture::{Scene, failure, success};

macro_rules! shows {
    ($scene:expr) => {
        insta::assert_yaml_snapshot!($scene.observation.status)
    };
}

#[test]
fn not_accepted() {
    let mut scene = Scene::new("a, b: x");
    scene.observation.spec.stages = serde_json::from_value(json!([{"name": "c"}])).unwrap();
    scene.act();
    shows!(scene);
}

#[test]
fn nothing_to_do() {
    let mut scene = Scene::new("a");
    scene.observation.spec.project.requirements.clear();
    scene.act();
    shows!(scene);
}

#[test]
fn accepted() {
    let mut scene = Scene::new("a, b");
    scene.act();
    shows!(scene);
}

#[test]
fn running() {
    let scene = Scene::running("a, b");
    shows!(scene);
}

#[test]
fn pod_trouble() {
    let mut scene = Scene::running("a, b");
    let unscheduled = PodEvidence {
        trouble: Some("no node takes the Pod: 0/1 nodes are available: 1 Insufficient cpu".into()),
        ..pod(PodPhase::Pending)
    };
    scene.at(2).see("a", with_pod(present(), unscheduled));
    scene.act();
    shows!(scene);
}

#[test]
fn backoff() {
    let mut scene = Scene::running("a, b");
    scene.at(2).result("a", failure(Category::Execution));
    scene.act();
    shows!(scene);
}

#[test]
fn failed() {
    let mut scene = Scene::running("a, b");
    scene.at(2).result("a", failure(Category::Execution));
    scene.act();
    scene.at(10);
    scene.act();
    scene.at(12).result("a", failure(Category::Execution));
    scene.act();
    shows!(scene);
}

#[test]
fn completed() {
    let mut scene = Scene::running("a, b");
    scene.at(2).result("a", success(json!({"url": "http://a"})));
    scene.act();
    scene.at(4).result("b", success(json!({})));
    scene.act();
    shows!(scene);
}

/// The reason and the message of the condition Progressing.
fn progressing(scene: &Scene) -> String {
    let conditions = &scene.observation.status.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == PROGRESSING);
    let condition = found.unwrap();
    format!("{}: {}", condition.reason, condition.message)
}

#[test]
fn every_wait_says_since_when_and_until_when() {
    let running = Scene::running("a, b");
    let mut pending_pod = Scene::running("a, b");
    let trouble = PodEvidence {
        trouble: Some("no node takes the Pod".into()),
        ..pod(PodPhase::Pending)
    };
    pending_pod.at(2).see("a", with_pod(present(), trouble)).act();
    let mut backoff = Scene::running("a, b");
    backoff.at(2).result("a", failure(Category::Execution)).act();
    let mut limit = Scene::new("a, b");
    limit.settings.max_running_stages = Some(1);
    limit.others = 1;
    limit.act();
    limit.at(3).act();
    let mut suspended = Scene::new("a, b");
    suspended.observation.spec.suspend = true;
    suspended.act();
    suspended.at(3).act();
    let mut asked = Scene::new("a, b");
    let approval = json!({"question": "Go on?", "expiresSeconds": 60});
    asked.template_mut().stages[0].approval = Some(serde_json::from_value(approval).unwrap());
    asked.act();
    asked.at(3).act();
    let mut accepted = Scene::new("a, b");
    accepted.act();
    let mut bounded = Scene::new("a, b");
    bounded.observation.spec.deadline_seconds = Some(90);
    bounded.act();
    let mut texts = Vec::new();
    for scene in [
        &running,
        &pending_pod,
        &backoff,
        &limit,
        &suspended,
        &asked,
        &accepted,
        &bounded,
    ] {
        let text = progressing(scene);
        assert!(text.contains("since 2026-11-01T10:00:0"), "{text}");
        let ends = ["until 2026", "next attempt at 2026", "without a time limit"];
        assert!(ends.iter().any(|end| text.contains(end)), "{text}");
        texts.push(text);
    }
    insta::assert_yaml_snapshot!(texts);
}
