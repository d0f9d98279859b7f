//! What people read, as `kubectl get -o yaml` shows it.

use serde_json::json;
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
