//! The most that a call may write: what is reserved is what is asked for.

use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Step};

use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::world::World;

const CHAT: &str = "/v1/models/openai/v1/chat/completions";
const RESPONSES: &str = "/v1/models/openai/v1/responses";

#[tokio::test]
async fn a_call_that_names_no_maximum_is_sent_with_that_of_the_provider() {
    for (provider, path, body, field, expected) in [
        ("anthropic", MESSAGES, json!({}), "max_tokens", 500),
        ("anthropic", MESSAGES, json!({"max_tokens": 7}), "max_tokens", 7),
        ("openai", CHAT, json!({}), "max_completion_tokens", 500),
        (
            "openai",
            CHAT,
            json!({"max_completion_tokens": null}),
            "max_completion_tokens",
            500,
        ),
        ("openai", CHAT, json!({"max_tokens": 7}), "max_tokens", 7),
        ("openai", RESPONSES, json!({}), "max_output_tokens", 500),
        (
            "openai",
            RESPONSES,
            json!({"max_output_tokens": 7}),
            "max_output_tokens",
            7,
        ),
    ] {
        let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
        let world = World::new();
        let change = json!({"maxOutputTokens": 500});
        let pod = claim(&world, &server, provider, change, &json!({})).await;
        ask(&world, &pod, path, &body).await;
        let sent: Value = serde_json::from_str(&server.asked()[0].body).unwrap();
        assert_eq!(sent[field], expected, "{path} {body}: {sent}");
        let fields = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let named = fields.iter().filter(|field| sent[**field].is_u64()).count();
        assert_eq!(named, 1, "{sent}");
    }
}

/// With `fallbackOnBudget` a call is made where the most that it may cost fits in.
async fn model_of(provider: &str, path: &str, body: Value) -> String {
    let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
    let world = World::new();
    // One micro-unit a token that is written: 1000 fit.
    let change = json!({
        "fallback": [{"model": "tiny"}], "fallbackOnBudget": true, "prices": {"output": 1_000_000},
    });
    let budgets = json!({"workflow": {"cost": 1000}});
    let pod = claim(&world, &server, provider, change, &budgets).await;
    let reply = ask(&world, &pod, path, &body).await;
    assert_eq!(reply.status, 200, "{}", text(&reply));
    let sent: Value = serde_json::from_str(&server.asked()[0].body).unwrap();
    sent["model"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_most_of_a_call_is_that_of_its_api_and_of_all_its_answers() {
    for (provider, path, body, expected) in [
        ("openai", CHAT, json!({"max_tokens": 500, "n": 2}), "small"),
        ("openai", CHAT, json!({"max_tokens": 500, "n": 3}), "tiny"),
        ("openai", CHAT, json!({"max_tokens": 500, "best_of": 3}), "tiny"),
        (
            "openai",
            CHAT,
            json!({"max_tokens": 5000, "max_completion_tokens": 1}),
            "tiny",
        ),
        (
            "anthropic",
            MESSAGES,
            json!({"max_tokens": 5000, "max_completion_tokens": 1}),
            "tiny",
        ),
        (
            "openai",
            RESPONSES,
            json!({"max_output_tokens": 5000, "max_tokens": 1}),
            "tiny",
        ),
        (
            "openai",
            RESPONSES,
            json!({"max_output_tokens": 500, "n": 9}),
            "small",
        ),
    ] {
        assert_eq!(model_of(provider, path, body.clone()).await, expected, "{body}");
    }
}
