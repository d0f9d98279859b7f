//! Calls whose answers never arrive, and agents that do not wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Piece, Step};
use tokio::io::AsyncReadExt as _;

use crate::budgets::usage;
use crate::models::{HELLO, MESSAGES, ask, claim};
use crate::world::World;

fn prompt() -> Value {
    json!({"model": "small", "max_tokens": 300, "stream": true})
}

/// Takes requests and answers none. Its address, and how many came.
async fn mute() -> (String, Arc<AtomicUsize>) {
    listening(usize::MAX).await
}

/// The same, which hangs up after so many readings.
async fn listening(readings: usize) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                for _ in 0..readings {
                    if !stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        break;
                    }
                }
            });
        }
    });
    (url, asked)
}

async fn claimed(world: &World, url: &str) -> String {
    let server = ModelServer::start([]).await.unwrap();
    let change = json!({"baseUrl": url, "secretRef": null, "timeoutSeconds": 1});
    claim(world, &server, "anthropic", change, &json!({})).await
}

fn headers(authorization: &str) -> [(&'static str, &str); 1] {
    [("authorization", authorization)]
}

#[tokio::test]
async fn a_call_that_is_never_answered_is_paid_and_not_repeated() {
    let (url, asked) = mute().await;
    let world = World::new();
    let pod = claimed(&world, &url).await;
    let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
    assert_eq!(reply.status.as_u16(), 502);
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it was not sent again");
    let used = usage(&world).await.remove(0).amount;
    let sent = prompt().to_string().len() as u64;
    assert_eq!(
        (used.calls, used.tokens.input, used.tokens.output),
        (1, sent.div_ceil(4), 300)
    );
}

#[tokio::test]
async fn a_call_that_reaches_nobody_is_free() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let world = World::new();
    let pod = claimed(&world, &url).await;
    let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
    assert_eq!(reply.status.as_u16(), 502);
    assert!(usage(&world).await.is_empty());
}

#[tokio::test]
async fn a_connection_that_ends_at_once_is_free_and_tried_again() {
    let (url, asked) = listening(1).await;
    let world = World::new();
    let pod = claimed(&world, &url).await;
    let reply = ask(&world, &pod, MESSAGES, &prompt()).await;
    assert_eq!((reply.status.as_u16(), asked.load(Ordering::SeqCst)), (502, 3));
    assert!(usage(&world).await.is_empty());
}

#[tokio::test]
async fn an_answer_in_one_piece_that_never_comes_is_paid() {
    let late = Step::whole(vec![
        Piece::Wait(Duration::from_secs(30)),
        Piece::Bytes(HELLO.into()),
    ]);
    let server = ModelServer::start([late]).await.unwrap();
    let world = World::new();
    let change = json!({"timeoutSeconds": 1});
    let pod = claim(&world, &server, "anthropic", change, &json!({})).await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt()).await.status.as_u16(), 502);
    assert_eq!(server.asked().len(), 1, "it was not sent again");
    assert_eq!(usage(&world).await.remove(0).amount.tokens.output, 300);
}

#[tokio::test]
async fn an_agent_that_hangs_up_pays_what_the_provider_reports() {
    let begin = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":30,\"output_tokens\":1}}}\n\n";
    let end = "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":77}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    let server = ModelServer::start([Step::stream(vec![
        Piece::Bytes(begin.into()),
        Piece::Wait(Duration::from_millis(300)),
        Piece::Bytes(end.into()),
    ])])
    .await
    .unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let authorization = format!("Bearer {pod}");
    let body = Body::from(prompt().to_string());
    let mut response = world
        .response("POST", MESSAGES, &headers(&authorization), body)
        .await;
    let first = response.body_mut().frame().await.unwrap().unwrap();
    assert_eq!(first.into_data().unwrap(), begin);
    drop(response);
    let used = usage(&world).await.remove(0).amount;
    assert_eq!((used.calls, used.tokens.input, used.tokens.output), (1, 30, 77));
}

#[tokio::test]
async fn an_agent_that_hangs_up_before_the_answer_pays_what_may_have_been_written() {
    let (url, asked) = mute().await;
    let world = World::new();
    let pod = claimed(&world, &url).await;
    let authorization = format!("Bearer {pod}");
    let body = Body::from(prompt().to_string());
    let headers = headers(&authorization);
    let call = world.request("POST", MESSAGES, &headers, body);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), call)
            .await
            .is_err()
    );
    assert_eq!(usage(&world).await.remove(0).amount.tokens.output, 300);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}
