//! Many calls at once.

use std::time::Duration;

use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Piece, Step};

use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::world::World;

fn prompt() -> Value {
    json!({"model": "small", "max_tokens": 10})
}

#[tokio::test]
async fn an_attempt_has_sixteen_calls_under_way_at_the_most() {
    let late = |_| {
        Step::whole(vec![
            Piece::Wait(Duration::from_millis(500)),
            Piece::Bytes(HELLO.into()),
        ])
    };
    let server = ModelServer::start((0..18).map(late)).await.unwrap();
    let world = World::new();
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let prompt = prompt();
    let calls = (0..17).map(|_| ask(&world, &pod, MESSAGES, &prompt));
    let replies = futures::future::join_all(calls).await;
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status != 200).collect();
    assert_eq!((refused.len(), server.asked().len()), (1, 16));
    assert_eq!(refused[0].status, 429);
    assert!(
        text(refused[0]).contains("16 calls of models under way"),
        "{}",
        text(refused[0])
    );
    assert_eq!(refused[0].headers["x-should-retry"], "true");
    world.settled().await;
    assert_eq!(ask(&world, &pod, MESSAGES, &prompt).await.status, 200);
}
