//! What calls of models may use.

use axum::body::Body;
use serde_json::{Value, json};
use stagecraft_api::budget::ModelUsage;
use stagecraft_api::protocol::UsageReply;
use stagecraft_gateway::model::daily::DailyBudgets;
use stagecraft_model_server::{ModelServer, Piece, Step};

use crate::cluster::UID;
use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::world::World;

/// Seven tokens each, of which four are written.
fn hellos(number: usize) -> impl Iterator<Item = Step> {
    (0..number).map(|_| Step::json(200, &[], HELLO))
}

fn prompt() -> Value {
    json!({"model": "small", "max_tokens": 10})
}

pub async fn usage(world: &World) -> Vec<ModelUsage> {
    world.settled().await;
    let path = format!("/v1/operator/usage/{UID}");
    let headers = [("authorization", "Bearer operator")];
    let reply = world.request("GET", &path, &headers, Body::empty()).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", text(&reply));
    serde_json::from_slice::<UsageReply>(&reply.body).unwrap().by
}

#[tokio::test]
async fn a_loop_ends_at_the_budget_of_its_stage() {
    let server = ModelServer::start(hellos(20)).await.unwrap();
    let world = World::new();
    let budgets = json!({"stage": {"tokens": 20}});
    let prices = json!({"prices": {"input": 1_000_000, "output": 2_000_000}});
    let pod = claim(&world, &server, "anthropic", prices, &budgets).await;
    let mut answered = 0;
    let refused = loop {
        let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
        world.settled().await;
        if reply.status.as_u16() != 200 {
            break reply;
        }
        answered += 1;
    };
    assert_eq!((answered, server.asked().len()), (3, 3), "7, 14 and 21 tokens");
    assert_eq!(refused.status.as_u16(), 402);
    assert_eq!(refused.headers["x-should-retry"], "false");
    assert_eq!(refused.headers["x-stagecraft-problem"], "budget_exhausted");
    let told = text(&refused);
    assert!(
        told.contains("the budget of stage scaffold is used up: 21 of 20 tokens"),
        "{told}"
    );
    let used = usage(&world).await.remove(0);
    assert_eq!(
        (
            used.run,
            used.stage.as_str(),
            used.provider.as_str(),
            used.model.as_str()
        ),
        (1, "scaffold", "models", "small")
    );
    assert_eq!(
        (
            used.amount.calls,
            used.amount.tokens.input,
            used.amount.tokens.output,
            used.amount.cost
        ),
        (3, 9, 12, 33)
    );
}

#[tokio::test]
async fn calls_at_once_pass_the_limit_by_one_at_the_most() {
    let slow = |_| {
        Step::stream(vec![
            Piece::Wait(std::time::Duration::from_millis(300)),
            Piece::Bytes(b"event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\ndata: {\"type\":\"message_stop\"}\n\n".to_vec()),
        ])
    };
    let server = ModelServer::start((0..20).map(slow)).await.unwrap();
    let world = World::new();
    let pod = claim(
        &world,
        &server,
        "anthropic",
        json!({}),
        &json!({"workflow": {"calls": 5}}),
    )
    .await;
    let prompt = prompt();
    let calls = (0..20).map(|_| ask(&world, &pod, MESSAGES, &prompt));
    let replies = futures::future::join_all(calls).await;
    let answered = replies
        .iter()
        .filter(|reply| reply.status.as_u16() == 200)
        .count();
    assert_eq!((answered, server.asked().len()), (5, 5));
    assert_eq!(usage(&world).await.remove(0).amount.calls, 5);
}

#[tokio::test]
async fn what_the_provider_refused_costs_nothing() {
    let steps = [Step::json(400, &[], "{}"), Step::json(200, &[], HELLO)];
    let server = ModelServer::start(steps).await.unwrap();
    let world = World::new();
    let pod = claim(
        &world,
        &server,
        "anthropic",
        json!({}),
        &json!({"workflow": {"calls": 1}}),
    )
    .await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 400);
    world.settled().await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 200);
    world.settled().await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 402);
}

#[tokio::test]
async fn a_stream_that_breaks_is_settled_by_what_was_seen_of_it() {
    let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":30,\"output_tokens\":1}}}\n\n";
    let server = ModelServer::start([Step::stream(vec![
        Piece::Bytes(begin.as_bytes().to_vec()),
        Piece::Cut,
    ])])
    .await
    .unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let wanted = json!({"model": "small", "max_tokens": 1000, "stream": true});
    let reply = ask(&world, &pod, MESSAGES, &wanted).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", text(&reply));
    let used = usage(&world).await.remove(0).amount;
    assert_eq!((used.calls, used.tokens.input), (1, 30));
    assert_eq!(used.tokens.output, begin.len() as u64 / 4);
}

#[tokio::test]
async fn a_namespace_has_a_budget_for_the_day() {
    let daily: DailyBudgets = r#"{"default": {"tokens": 7}, "namespaces": {"other": {"tokens": 1}}}"#
        .parse()
        .unwrap();
    let server = ModelServer::start(hellos(5)).await.unwrap();
    let world = World::with_daily_budgets(daily);
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 200);
    world.settled().await;
    let refused = ask(&world, &pod, MESSAGES, &prompt()).await;
    assert_eq!(refused.status.as_u16(), 402);
    assert!(
        text(&refused).contains("namespace team for today is used up: 7 of 7 tokens"),
        "{}",
        text(&refused)
    );
    assert!(
        text(&refused).contains("begins anew at 00:00 UTC"),
        "{}",
        text(&refused)
    );
    assert!(r#"{"defaults": {}}"#.parse::<DailyBudgets>().is_err());
    assert!(
        r#"{"default": {"token": 5}}"#.parse::<DailyBudgets>().is_err(),
        "no limit at all"
    );
}

#[tokio::test]
async fn a_new_run_begins_with_nothing_used() {
    let server = ModelServer::start(hellos(5)).await.unwrap();
    let world = World::new();
    let pod = claim(
        &world,
        &server,
        "anthropic",
        json!({}),
        &json!({"workflow": {"calls": 1}}),
    )
    .await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 200);
    world.settled().await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 402);
    world.cluster.workflow(2, "Running");
    let more = json!({"model": {"provider": "models", "protocol": "anthropic"}, "run": 2, "budgets": {"workflow": {"calls": 1}}});
    let next = world
        .cluster
        .attempt_with("echo", &json!({}), 2, &Value::Null, &more);
    assert_eq!(world.claim(&next).await.status, 200);
    assert_eq!(ask(&world, &next, MESSAGES, &prompt()).await.status.as_u16(), 200);
    let runs: Vec<(u32, u64)> = usage(&world)
        .await
        .iter()
        .map(|used| (used.run, used.amount.calls))
        .collect();
    assert_eq!(runs, [(1, 1), (2, 1)]);
}
