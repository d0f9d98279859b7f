//! What the operator is told of a provider.

use axum::body::Body;
use serde_json::{Value, json};
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::BreakerState;
use stagecraft_gateway::model::daily::DailyBudgets;
use stagecraft_model_server::{ModelServer, Step};

use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::world::World;

fn prompt() -> Value {
    json!({"model": "small", "max_tokens": 10})
}

async fn report(world: &World, name: &str) -> ProviderReport {
    world.settled().await;
    let path = format!("/v1/operator/providers/team/{name}");
    let headers = [("authorization", "Bearer operator")];
    let reply = world.request("GET", &path, &headers, Body::empty()).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", text(&reply));
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn a_provider_that_answers_is_reported_with_what_it_was_used_for() {
    let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let before = report(&world, "models").await;
    assert_eq!((&before.unusable, &before.unreachable), (&None, &None));
    assert_eq!(
        (before.breaker, before.last_hour.calls),
        (BreakerState::Closed, 0)
    );
    assert_eq!(server.asked().len(), 0, "looking is no call");
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 200);
    let after = report(&world, "models").await;
    assert_eq!((after.last_hour.calls, after.last_hour.tokens.total()), (1, 7));
}

#[tokio::test]
async fn a_provider_that_is_gone_or_missing_is_reported() {
    let server = ModelServer::start([]).await.unwrap();
    let world = World::new();
    claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    drop(server);
    let gone = report(&world, "models").await;
    assert!(gone.unreachable.is_some(), "{gone:?}");
    let missing = report(&world, "other").await;
    assert!(
        missing
            .unusable
            .is_some_and(|problem| problem.contains("no ModelProvider other"))
    );
}

#[tokio::test]
async fn an_open_breaker_and_a_day_that_is_used_up_are_reported() {
    let failures = (0..9).map(|_| Step::json(500, &[("retry-after-ms", "1")], "{}"));
    let server = ModelServer::start(failures).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    for _ in 0..2 {
        ask(&world, &pod, MESSAGES, &prompt()).await;
    }
    let open = report(&world, "models").await;
    assert_eq!(open.breaker, BreakerState::Open);
    assert!(
        open.open_until.is_some() && open.day_used_up.is_none(),
        "{open:?}"
    );

    let daily: DailyBudgets = r#"{"default": {"tokens": 7}}"#.parse().unwrap();
    let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
    let world = World::with_daily_budgets(daily);
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    assert_eq!(report(&world, "models").await.day_used_up, None);
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 200);
    let used_up = report(&world, "models").await;
    assert_eq!(used_up.day_used_up.as_deref(), Some("7 of 7 tokens"));
}
