//! A provider that repeats the key that it was sent.

use serde_json::json;
use stagecraft_model_server::{ModelServer, Piece, Step};

use crate::models::{MESSAGES, SECRET, ask, claim, text};
use crate::world::World;

#[tokio::test]
async fn an_error_that_repeats_the_key_reaches_the_agent_without_it() {
    let id = format!("req-{SECRET}");
    let message = format!("Incorrect API key provided: {SECRET}.");
    let wrong = Step::error(401, &[("request-id", &id)], "authentication_error", &message);
    let server = ModelServer::start([wrong]).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let reply = ask(
        &world,
        &pod,
        MESSAGES,
        &json!({"model": "small", "max_tokens": 9}),
    )
    .await;
    assert_eq!(reply.status, 401);
    assert!(
        text(&reply).contains("Incorrect API key provided: [redacted]."),
        "{}",
        text(&reply)
    );
    assert_eq!(reply.headers["request-id"], "req-[redacted]");
}

#[tokio::test]
async fn an_answer_that_holds_the_key_loses_it_wherever_it_is_cut() {
    let whole = format!(
        r#"{{"type":"message","content":"{SECRET} and sk-canary","usage":{{"input_tokens":1,"output_tokens":1}}}}"#
    );
    let expected = whole.replace(SECRET, "[redacted]");
    let cuts = 0..whole.len();
    let steps = cuts.clone().map(|at| {
        let (one, other) = whole.split_at(at);
        Step::whole(vec![
            Piece::Bytes(one.into()),
            Piece::Wait(std::time::Duration::from_millis(1)),
            Piece::Bytes(other.into()),
        ])
    });
    let server = ModelServer::start(steps).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    for at in cuts {
        let reply = ask(
            &world,
            &pod,
            MESSAGES,
            &json!({"model": "small", "max_tokens": 9}),
        )
        .await;
        assert_eq!(text(&reply), expected, "cut at byte {at}");
    }
}

#[tokio::test]
async fn a_stream_that_holds_the_key_loses_it() {
    let event = |text: &str| {
        format!(
            "data: {{\"type\":\"message_stop\",\"text\":\"{text}\",\"usage\":{{\"output_tokens\":1}}}}\n\n"
        )
    };
    let stream = event(SECRET);
    let (one, other) = stream.split_at(50);
    let pieces = [one, other].map(|piece| Piece::Bytes(piece.into()));
    let server = ModelServer::start([Step::stream(pieces.to_vec())]).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let body = json!({"model": "small", "max_tokens": 9, "stream": true});
    let reply = ask(&world, &pod, MESSAGES, &body).await;
    assert_eq!(text(&reply), event("[redacted]"));
}
