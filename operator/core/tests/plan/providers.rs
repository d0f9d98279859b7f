//! Stages that wait for their model provider.

use serde_json::json;
use stagecraft_api::ModelProvider;
use stagecraft_api::budget::Amount;
use stagecraft_api::condition::PROGRESSING;
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::BreakerState;
use stagecraft_core::observation::RunEvidence;
use stagecraft_core::provider::{Trouble, status, trouble};

use crate::fixture::{Scene, actions, at, quiet};

fn report() -> ProviderReport {
    ProviderReport {
        unusable: None,
        unreachable: None,
        breaker: BreakerState::Closed,
        open_until: None,
        last_hour: Amount::default(),
        day_used_up: None,
        day_ends: at(1000),
    }
}

#[test]
fn a_stage_that_needs_a_model_waits_without_a_pod_while_its_provider_is_left_alone() {
    let mut scene = Scene::new("a");
    scene.act();
    let RunEvidence::Pinned(run) = &mut scene.observation.run else {
        panic!("it is accepted")
    };
    run.model = Some(serde_json::from_value(json!({"provider": "ours", "protocol": "anthropic"})).unwrap());
    run.stages[0].agent.needs_model = true;
    scene.observation.model_trouble = Some(Trouble {
        reason: "BreakerOpen",
        message: "it failed too often".to_owned(),
        until: Some(at(60)),
    });
    let plan = scene.act();
    assert_eq!(actions(&plan), ["store"], "nothing starts");
    assert_eq!(plan.wake_at, Some(at(60)));
    assert_eq!(
        scene.stage("a").message,
        "ready; waits for ModelProvider ours: it failed too often"
    );
    assert_eq!(scene.condition(PROGRESSING), "True ModelProvider");
    assert!(quiet(&scene.plan()), "nothing has changed");

    scene.observation.model_trouble = None;
    scene.act();
    assert_eq!(scene.stages(), "a Running 1");
}

#[test]
fn a_stage_without_need_of_a_model_starts_all_the_same() {
    let mut scene = Scene::new("a");
    scene.act();
    scene.observation.model_trouble = Some(Trouble {
        reason: "Unreachable",
        message: "it does not answer".to_owned(),
        until: None,
    });
    scene.act();
    assert_eq!(scene.stages(), "a Running 1");
}

#[test]
fn trouble_is_what_keeps_calls_away_and_ends_in_time() {
    let reason =
        |report: &ProviderReport, seconds| trouble(report, at(seconds)).map(|trouble| trouble.reason);
    assert_eq!(reason(&report(), 0), None);
    let open = ProviderReport {
        breaker: BreakerState::Open,
        open_until: Some(at(60)),
        ..report()
    };
    assert_eq!(
        (reason(&open, 59), reason(&open, 60)),
        (Some("BreakerOpen"), None)
    );
    let away = ProviderReport {
        unreachable: Some("refused".to_owned()),
        ..open
    };
    assert_eq!(reason(&away, 60), Some("Unreachable"));
    let used_up = ProviderReport {
        day_used_up: Some("7 of 7 tokens".to_owned()),
        ..away
    };
    assert_eq!(
        (reason(&used_up, 999), reason(&used_up, 1000)),
        (Some("DayUsedUp"), Some("Unreachable"))
    );
    let unusable = ProviderReport {
        unusable: Some("there is no ModelProvider".to_owned()),
        ..used_up
    };
    assert_eq!(reason(&unusable, 0), Some("Unusable"));
}

#[test]
fn the_status_of_a_provider_says_how_it_does_and_since_when() {
    let mut provider: ModelProvider = serde_json::from_value(json!({
        "metadata": {"name": "ours", "generation": 3}, "spec": {"provider": "openai", "model": "m"},
    }))
    .unwrap();
    let good = status(&provider, Some(&report()), at(0));
    let ready = &good.conditions[0];
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("True", "Reachable")
    );
    assert_eq!(
        (good.observed_generation, ready.observed_generation),
        (Some(3), Some(3))
    );
    provider.status = Some(good.clone());
    assert_eq!(
        status(&provider, Some(&report()), at(10)),
        good,
        "nothing is written anew"
    );
    let away = ProviderReport {
        unreachable: Some("refused".to_owned()),
        ..report()
    };
    let bad = status(&provider, Some(&away), at(20));
    let ready = &bad.conditions[0];
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("False", "Unreachable")
    );
    assert_ne!(
        ready.last_transition_time,
        good.conditions[0].last_transition_time
    );

    let built_in: ModelProvider =
        serde_json::from_value(json!({"metadata": {"name": "builtin"}, "spec": {"provider": "builtin"}}))
            .unwrap();
    assert_eq!(status(&built_in, None, at(0)).conditions[0].reason, "BuiltIn");
}
