//! What is called instead where a provider cannot be.

use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Step, Turn};

use crate::budgets::usage;
use crate::models::{MESSAGES, ask, claim};
use crate::world::World;

fn request() -> Value {
    json!({"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]})
}

fn overloaded() -> Step {
    Step::error(
        529,
        &[("x-should-retry", "false")],
        "overloaded_error",
        "too much",
    )
}

/// The models that were asked for.
fn models(server: &ModelServer) -> Vec<String> {
    let asked = server.asked();
    let model = |body: &str| serde_json::from_str::<Value>(body).unwrap()["model"].clone();
    asked
        .iter()
        .map(|asked| model(&asked.body).as_str().unwrap().to_owned())
        .collect()
}

async fn used(world: &World) -> Vec<(String, String, u64)> {
    usage(world)
        .await
        .into_iter()
        .map(|usage| (usage.provider, usage.model, usage.amount.calls))
        .collect()
}

#[tokio::test]
async fn an_overloaded_model_gives_way_to_the_next_which_is_what_counts() {
    let server = ModelServer::start([overloaded(), overloaded(), Step::from(Turn::text("hello"))])
        .await
        .unwrap();
    let change = json!({"fallback": [{"model": "middling"}, {"provider": "absent"}, {"model": "tiny"}]});
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", change, &json!({})).await;
    let reply = ask(&world, &pod, MESSAGES, &request()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(models(&server), ["small", "middling", "tiny"]);
    assert_eq!(used(&world).await, [("models".to_owned(), "tiny".to_owned(), 1)]);
}

#[tokio::test]
async fn where_nothing_helps_the_last_answer_counts_and_what_the_agent_did_wrong_is_not_tried_elsewhere() {
    let wrong = Step::error(400, &[], "invalid_request_error", "no such field");
    let server = ModelServer::start([overloaded(), overloaded(), wrong])
        .await
        .unwrap();
    let change = json!({"fallback": [{"model": "tiny"}]});
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", change, &json!({})).await;
    assert_eq!(ask(&world, &pod, MESSAGES, &request()).await.status, 529);
    assert_eq!(ask(&world, &pod, MESSAGES, &request()).await.status, 400);
    assert_eq!(models(&server), ["small", "tiny", "small"]);
    assert!(used(&world).await.is_empty());
}

#[tokio::test]
async fn a_cheaper_model_comes_first_where_the_budget_has_no_room_for_the_dear_one() {
    let hello = || Step::from(Turn::text("hello"));
    let server = ModelServer::start([hello(), hello()]).await.unwrap();
    for (asked_for, expected) in [(true, "tiny"), (false, "small")] {
        let change = json!({
            "fallback": [{"model": "tiny"}], "fallbackOnBudget": asked_for, "prices": {"input": 1_000_000, "output": 1_000_000_000},
        });
        // The most that a call may cost is over 50000.
        let budgets = json!({"workflow": {"cost": 10_000}});
        let world = World::new();
        let pod = claim(&world, &server, "anthropic", change, &budgets).await;
        assert_eq!(ask(&world, &pod, MESSAGES, &request()).await.status, 200);
        assert_eq!(models(&server).last().unwrap(), expected, "{asked_for}");
    }
}

#[tokio::test]
async fn a_provider_at_its_limit_gives_way_at_once() {
    let server = ModelServer::start([Step::from(Turn::text("one")), Step::from(Turn::text("two"))])
        .await
        .unwrap();
    let change = json!({"fallback": [{"provider": "other"}], "limits": {"requestsPerMinute": 2}});
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", change, &json!({})).await;
    world.cluster.put(
        "/apis/stagecraft.dev/v1alpha1/namespaces/team/modelproviders/other",
        json!({"apiVersion": "stagecraft.dev/v1alpha1", "kind": "ModelProvider",
            "metadata": {"name": "other", "namespace": "team"},
            "spec": {"provider": "anthropic", "model": "tiny", "baseUrl": server.url}}),
    );
    server.then([Step::from(Turn::text("three"))]);
    let began = std::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(ask(&world, &pod, MESSAGES, &request()).await.status, 200);
    }
    assert_eq!(models(&server), ["small", "small", "tiny"]);
    assert!(began.elapsed() < std::time::Duration::from_secs(8));
}
