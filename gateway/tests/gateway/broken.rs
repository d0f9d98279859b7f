//! Answers that begin well and do not end well.

use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Piece, Step};

use crate::budgets::usage;
use crate::models::{MESSAGES, ask, claim, text};
use crate::world::World;

const CHAT: &str = "/v1/models/openai/v1/chat/completions";
const RESPONSES: &str = "/v1/models/openai/v1/responses";

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":3}}}\n\n";
const OVERLOADED: &str = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":4}}\n\n\
    event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

fn stream(events: &[&str]) -> Step {
    Step::stream(events.iter().map(|event| Piece::Bytes((*event).into())).collect())
}

fn prompt() -> Value {
    json!({"model": "small", "max_tokens": 10, "stream": true})
}

#[tokio::test]
async fn an_error_as_the_first_word_is_tried_again_as_one_before_it() {
    let steps = [stream(&[OVERLOADED]), stream(&[START, END])];
    let server = ModelServer::start(steps).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
    assert_eq!(
        (reply.status.as_u16(), text(&reply)),
        (200, format!("{START}{END}"))
    );
    assert_eq!(usage(&world).await.remove(0).amount.calls, 1);
}

#[tokio::test]
async fn an_error_as_the_first_word_that_will_not_pass_is_the_answer() {
    let wrong = "data: {\"error\":{\"message\":\"too long\",\"type\":\"BadRequestError\",\"code\":400}}\n\n";
    let server = ModelServer::start([stream(&[": one moment\n\n", wrong]), stream(&[wrong])])
        .await
        .unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "openai", json!({}), &json!({})).await;
    let begun = ask(&world, &pod, CHAT, &prompt()).await;
    assert_eq!(begun.status, 200, "a comment was passed on before");
    let reply = ask(&world, &pod, CHAT, &prompt()).await;
    assert_eq!(reply.status, 400);
    assert_eq!(reply.json()["error"]["message"], "too long");
    assert_eq!(reply.headers["content-type"], "application/json");
}

#[tokio::test]
async fn errors_in_the_middle_of_answers_open_the_breaker() {
    let steps = (0..5).map(|_| stream(&[START, OVERLOADED]));
    let server = ModelServer::start(steps).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    for _ in 0..5 {
        let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
        assert_eq!(
            text(&reply),
            format!("{START}{OVERLOADED}"),
            "as it is, and no other"
        );
        world.settled().await;
    }
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status, 503);
    let metrics = world.metrics.render();
    assert!(metrics.contains(r#"outcome="broken"} 5"#), "{metrics}");
}

#[tokio::test]
async fn a_stream_that_ends_without_its_last_word_has_broken_off() {
    let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n";
    let created = "data: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n";
    for (provider, path, begin) in [
        ("anthropic", MESSAGES, START),
        ("openai", CHAT, chunk),
        ("openai", RESPONSES, created),
    ] {
        let server = ModelServer::start([stream(&[begin])]).await.unwrap();
        let world = World::new();
        let pod = claim(&world, &server, provider, json!({}), &json!({})).await;
        let reply = ask(&world, &pod, path, &prompt()).await;
        let told = text(&reply);
        let rest = told.strip_prefix(begin).unwrap();
        assert!(rest.contains("ended before its last word"), "{path}: {rest:?}");
        let metrics = world.metrics.render();
        assert!(metrics.contains(r#"outcome="broken"} 1"#), "{metrics}");
        assert_eq!(reply.trailers["x-stagecraft-problem"], "model_stream_broken");
    }
}

#[tokio::test]
async fn a_stream_that_says_how_it_ends_is_whole() {
    let finish = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let incomplete = "data: {\"type\":\"response.incomplete\",\"response\":{\"usage\":null}}\n\n";
    for (provider, path, all) in [
        ("openai", CHAT, finish),
        ("openai", CHAT, "data: [DONE]\n\n"),
        ("openai", RESPONSES, incomplete),
    ] {
        let server = ModelServer::start([stream(&[all])]).await.unwrap();
        let world = World::new();
        let pod = claim(&world, &server, provider, json!({}), &json!({})).await;
        let reply = ask(&world, &pod, path, &prompt()).await;
        assert_eq!(text(&reply), all, "{path}");
    }
}
