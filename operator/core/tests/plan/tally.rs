//! What is counted of a Workflow as it goes along.

use serde_json::json;
use stagecraft_api::WorkflowPhase;
use stagecraft_api::error::Category;
use stagecraft_api::failure::FailureClass;
use stagecraft_api::status::StagePhase;
use stagecraft_core::tally::{Tally, tally};

use crate::evidence::{live, missing};
use crate::fixture::{Scene, failure, success};

/// Acts, and counts what that changed.
fn counted(scene: &mut Scene) -> Vec<Tally> {
    let before = scene.observation.status.clone();
    scene.act();
    tally(&before, &scene.observation.status)
}

#[test]
fn attempts_retries_stages_and_workflows_are_counted_once() {
    let mut scene = Scene::new("a, b");
    assert_eq!(counted(&mut scene), []);
    assert_eq!(counted(&mut scene), [], "a start is no end");
    let agent = || "worker".to_owned();
    scene.at(3).result("a", failure(Category::Resource));
    let class = FailureClass::Resource;
    assert_eq!(
        counted(&mut scene),
        [
            Tally::Attempt {
                agent: agent(),
                failed: Some(class),
                millis: 3_000
            },
            Tally::Retry { class },
        ]
    );
    scene.at(10);
    assert_eq!(counted(&mut scene), []);
    scene.at(12).result("a", success(json!({})));
    assert_eq!(
        counted(&mut scene),
        [
            Tally::Attempt {
                agent: agent(),
                failed: None,
                millis: 2_000
            },
            Tally::Stage {
                agent: agent(),
                phase: StagePhase::Succeeded,
                millis: Some(12_000)
            },
        ]
    );
    scene.observation.spec.cancel = true;
    scene.at(20);
    assert_eq!(
        counted(&mut scene),
        [
            Tally::Attempt {
                agent: agent(),
                failed: Some(FailureClass::Agent),
                millis: 8_000
            },
            Tally::Stage {
                agent: agent(),
                phase: StagePhase::Failed,
                millis: Some(8_000)
            },
            Tally::Workflow {
                phase: WorkflowPhase::Cancelled,
                millis: 20_000
            },
        ]
    );
    assert_eq!(counted(&mut scene), []);
}

#[test]
fn a_loss_that_is_made_good_at_once_is_an_attempt_and_a_retry() {
    let mut scene = Scene::running("a");
    scene.at(3).see("a", live(missing(true)));
    let class = FailureClass::Infrastructure;
    assert_eq!(
        counted(&mut scene),
        [
            Tally::Attempt {
                agent: "worker".to_owned(),
                failed: Some(class),
                millis: 3_000
            },
            Tally::Retry { class },
        ]
    );
}

#[test]
fn work_that_is_sent_back_is_an_attempt_and_no_retry() {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    let template = json!({"stages": [
        {"name": "make", "agent": "worker"},
        {"name": "check", "agent": "worker", "needs": ["make"], "repair": {"stage": "make", "maxRounds": 3},
         "gates": [{"metric": "errors", "operator": "<=", "threshold": 0}]},
        {"name": "beside", "agent": "worker", "needs": ["make"]},
    ]});
    scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
    scene.act();
    scene.act();
    scene.result("make", success(json!({})));
    scene.act();
    scene.result("check", success(json!({})));
    assert_eq!(
        counted(&mut scene),
        [Tally::Attempt {
            agent: "worker".to_owned(),
            failed: Some(FailureClass::WrongResult),
            millis: 0
        }],
        "what ran beside it came to nothing"
    );
}

#[test]
fn a_stage_that_never_began_took_no_time() {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    let template = json!({"stages": [{"name": "a", "agent": "worker", "when": "false"}]});
    scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
    scene.act();
    let ends: Vec<Tally> = counted(&mut scene)
        .into_iter()
        .filter(|tally| matches!(tally, Tally::Stage { .. }))
        .collect();
    assert_eq!(
        ends,
        [Tally::Stage {
            agent: "worker".to_owned(),
            phase: StagePhase::Skipped,
            millis: None
        }]
    );
}
