//! What an attempt took of the machine.

use serde_json::json;
use stagecraft_api::error::Category;
use stagecraft_api::status::Usage;
use stagecraft_core::observation::ResultEvidence;

use crate::fixture::{Scene, failure, success};

#[test]
fn what_an_attempt_took_stands_in_the_status_however_it_ended() {
    for outcome in [success(json!({})), failure(Category::Execution)] {
        let mut scene = Scene::running("a");
        let usage = Usage {
            cpu_millis: 1_500,
            peak_memory_bytes: 64 << 20,
        };
        scene.result("a", outcome);
        let evidence = scene.observation.attempts.get_mut("a").unwrap();
        if let ResultEvidence::Some(result) = &mut evidence.result {
            result.usage = Some(usage);
        }
        scene.act();
        assert_eq!(scene.stage("a").usage, Some(usage));
    }
}
