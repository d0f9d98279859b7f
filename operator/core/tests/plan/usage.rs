//! What an attempt took of the machine, and what its calls of models took.

use serde_json::json;
use stagecraft_api::budget::{Amount, Budget, ModelUsage, Tokens};
use stagecraft_api::error::Category;
use stagecraft_api::status::Usage;
use stagecraft_core::observation::{ResultEvidence, RunEvidence};
use stagecraft_core::{Action, Plan};

use crate::fixture::{Scene, at, failure, quiet, success};

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

/// A Workflow whose stage `a` may use a hundred tokens.
fn with_models() -> Scene {
    let mut scene = Scene::running("a, b");
    let RunEvidence::Pinned(run) = &mut scene.observation.run else {
        panic!("it runs")
    };
    run.model = Some(serde_json::from_value(json!({"provider": "ours", "protocol": "anthropic"})).unwrap());
    run.stages[0].budget = Budget {
        tokens: Some(100),
        ..Budget::default()
    };
    scene
}

fn used(stage: &str, tokens: u64) -> ModelUsage {
    ModelUsage {
        run: 1,
        stage: stage.to_owned(),
        provider: "ours".to_owned(),
        model: "small".to_owned(),
        amount: Amount {
            calls: 2,
            tokens: Tokens {
                output: tokens,
                ..Tokens::default()
            },
            cost: tokens * 100,
        },
    }
}

fn notices(plan: &Plan) -> Vec<String> {
    let notice = |action: &Action| match action {
        Action::Record(notice) => Some(format!("{}: {}", notice.reason, notice.message)),
        _ => None,
    };
    plan.actions.iter().filter_map(notice).collect()
}

#[test]
fn what_models_were_used_for_stands_in_the_status_while_stages_run() {
    let mut scene = with_models();
    let plan = scene.plan();
    assert!(
        quiet(&plan) && plan.wake_at.is_some_and(|wake| wake <= at(30)),
        "it is looked at again: {plan:?}"
    );
    scene.observation.used = Some(vec![used("b", 7), used("a", 50)]);
    scene.act();
    let status = &scene.observation.status;
    let models = status.models.as_ref().unwrap();
    assert_eq!(
        (models.total.calls, models.total.tokens.output, models.total.cost),
        (4, 57, 5700)
    );
    assert_eq!(status.cost, "0.0057");
    let stages: Vec<&str> = models.by.iter().map(|usage| usage.stage.as_str()).collect();
    assert_eq!(stages, ["a", "b"]);
    assert!(quiet(&scene.plan()), "nothing has changed");
    // A gateway that does not answer takes nothing away.
    scene.observation.used = None;
    scene.act();
    assert_eq!(scene.observation.status.cost, "0.0057");
}

#[test]
fn a_budget_that_runs_low_is_told_once() {
    let mut scene = with_models();
    for (tokens, told) in [(79, 0), (80, 1), (99, 0), (130, 0)] {
        scene.observation.used = Some(vec![used("a", tokens)]);
        let plan = scene.act();
        let low = notices(&plan)
            .iter()
            .filter(|text| text.starts_with("BudgetLow"))
            .count();
        assert_eq!(low, told, "{tokens} of 100: {:?}", notices(&plan));
    }
}
