//! What is counted of a Workflow as it goes along.

use serde_json::json;
use stagecraft_api::WorkflowPhase;
use stagecraft_api::error::Category;
use stagecraft_api::failure::FailureClass;
use stagecraft_api::status::StagePhase;
use stagecraft_core::tally::{Tally, tally};

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
                millis: 12_000
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
                millis: 8_000
            },
            Tally::Workflow {
                phase: WorkflowPhase::Cancelled,
                millis: 20_000
            },
        ]
    );
    assert_eq!(counted(&mut scene), []);
}
