//! What calls under way hold of a budget.

use std::time::Duration;

use serde_json::{Value, json};
use stagecraft_gateway::args::Quotas;
use stagecraft_model_server::{ModelServer, Piece, Step, Turn};

use crate::budgets::usage;
use crate::cluster::UID;
use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::world::World;

fn prompt() -> Value {
    json!({"model": "small", "max_tokens": 10})
}

/// Seven tokens, after a while.
fn slow() -> Step {
    let end = "data: {\"type\":\"message_delta\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\n\
        data: {\"type\":\"message_stop\"}\n\n";
    Step::stream(vec![
        Piece::Wait(Duration::from_millis(200)),
        Piece::Bytes(end.into()),
    ])
}

#[tokio::test]
async fn calls_at_once_wait_for_what_those_under_way_give_back() {
    let server = ModelServer::start((0..6).map(|_| slow())).await.unwrap();
    let world = World::new();
    // One call may take 43 tokens: two of them fill the budget, and six take 42.
    let budgets = json!({"workflow": {"tokens": 50}});
    let pod = claim(&world, &server, "anthropic", json!({}), &budgets).await;
    let prompt = prompt();
    let calls = (0..6).map(|_| ask(&world, &pod, MESSAGES, &prompt));
    for reply in futures::future::join_all(calls).await {
        assert_eq!(reply.status.as_u16(), 200, "{}", text(&reply));
    }
    assert_eq!(usage(&world).await.remove(0).amount.tokens.total(), 42);
}

#[tokio::test]
async fn the_next_call_does_not_mind_that_the_last_one_is_still_being_settled() {
    let server = ModelServer::start((0..8).map(|_| Step::json(200, &[], HELLO)))
        .await
        .unwrap();
    let world = World::new();
    let budgets = json!({"stage": {"tokens": 56}});
    let pod = claim(&world, &server, "anthropic", json!({}), &budgets).await;
    for number in 1..=8 {
        let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
        assert_eq!(reply.status.as_u16(), 200, "call {number}: {}", text(&reply));
    }
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 402);
    assert_eq!(server.asked().len(), 8);
}

#[tokio::test]
async fn a_way_that_came_to_nothing_holds_nothing_of_the_budget_of_the_next() {
    let overloaded = Step::error(529, &[("x-should-retry", "false")], "overloaded_error", "no");
    let server = ModelServer::start([overloaded, Step::from(Turn::text("hello"))])
        .await
        .unwrap();
    let world = World::new();
    let change = json!({"fallback": [{"model": "tiny"}]});
    let budgets = json!({"workflow": {"calls": 1}});
    let pod = claim(&world, &server, "anthropic", change, &budgets).await;
    let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
    assert_eq!(reply.status.as_u16(), 200, "{}", text(&reply));
}

#[tokio::test]
async fn a_call_that_finds_no_room_in_time_is_told_to_come_back() {
    let server = ModelServer::start([slow(), slow()]).await.unwrap();
    let quotas = Quotas {
        model_budget_wait_seconds: 0,
        ..Quotas::default()
    };
    let world = World::with("redis://127.0.0.1:1", "", quotas);
    let budgets = json!({"workflow": {"calls": 1}});
    let pod = claim(&world, &server, "anthropic", json!({}), &budgets).await;
    let prompt = prompt();
    let (one, other) = tokio::join!(
        ask(&world, &pod, MESSAGES, &prompt),
        ask(&world, &pod, MESSAGES, &prompt)
    );
    let refused = if one.status == 200 { other } else { one };
    assert_eq!(refused.status, 429);
    assert_eq!(refused.headers["x-stagecraft-problem"], "budget_reserved");
    assert_eq!(refused.headers["x-should-retry"], "true");
    assert!(refused.headers.contains_key("retry-after"));
    assert!(text(&refused).contains("calls under way may use up the budget of the Workflow"));
}

#[tokio::test]
async fn what_a_call_used_is_written_again_when_the_store_was_away() {
    let server = ModelServer::start([slow()]).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let ledger = world.directory.path().join("workflows").join(UID).join("ledger");
    // A file in the place of the directory: nothing can be written below it.
    std::fs::write(&ledger, "").unwrap();
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status, 200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    std::fs::remove_file(&ledger).unwrap();
    assert_eq!(usage(&world).await.remove(0).amount.tokens.total(), 7);
}
