//! What several gateways know together of a provider.

use std::time::{Duration, Instant};

use serde_json::json;
use stagecraft_gateway::args::Quotas;
use stagecraft_model_server::{ModelServer, Step};

use crate::models::{HELLO, MESSAGES, ask, claim, text};
use crate::queues::{PASSWORD, Redis};
use crate::world::World;

fn failures(number: usize) -> impl Iterator<Item = Step> {
    (0..number).map(|_| Step::json(500, &[("retry-after-ms", "1")], "{}"))
}

#[tokio::test]
async fn gateways_leave_a_provider_alone_together() {
    let redis = Redis::start();
    redis.connection().await;
    let server = ModelServer::start(failures(9)).await.unwrap();
    let worlds = [(); 2].map(|()| World::with(&redis.url(), PASSWORD, Quotas::default()));
    let mut pods = Vec::new();
    for world in &worlds {
        pods.push(claim(world, &server, "anthropic", json!({}), &json!({})).await);
    }
    let body = json!({"model": "small"});
    assert_eq!(
        ask(&worlds[0], &pods[0], MESSAGES, &body).await.status.as_u16(),
        500
    );
    let second = ask(&worlds[1], &pods[1], MESSAGES, &body).await;
    assert_eq!(
        (second.status.as_u16(), server.asked().len()),
        (500, 5),
        "the fifth failure opens it, whoever saw the others"
    );
    for (world, pod) in worlds.iter().zip(&pods) {
        let refused = ask(world, pod, MESSAGES, &body).await;
        assert_eq!(
            (refused.status.as_u16(), server.asked().len()),
            (503, 5),
            "{}",
            text(&refused)
        );
        assert_eq!(refused.headers["x-stagecraft-problem"], "model_provider_down");
    }
    // Without Redis each goes on with what it knows.
    drop(redis);
    let refused = ask(&worlds[0], &pods[0], MESSAGES, &body).await;
    assert_eq!((refused.status.as_u16(), server.asked().len()), (503, 5));
}

#[tokio::test]
async fn a_call_waits_for_room_in_the_limit_of_its_provider() {
    let server = ModelServer::start((0..61).map(|_| Step::json(200, &[], HELLO)))
        .await
        .unwrap();
    let world = World::new();
    let limits = json!({"limits": {"requestsPerMinute": 60}});
    let pod = claim(&world, &server, "anthropic", limits, &json!({})).await;
    let body = json!({"model": "small", "max_tokens": 1});
    let began = Instant::now();
    for _ in 0..60 {
        assert_eq!(ask(&world, &pod, MESSAGES, &body).await.status.as_u16(), 200);
    }
    let sixty = began.elapsed();
    assert_eq!(ask(&world, &pod, MESSAGES, &body).await.status.as_u16(), 200);
    let all = began.elapsed();
    assert!(
        all >= Duration::from_millis(900) && all > sixty,
        "{sixty:?}, {all:?}"
    );
}

#[tokio::test]
async fn what_the_gateway_repeats_counts_for_the_limit_too() {
    let failed = || Step::json(500, &[("retry-after-ms", "1")], "{}");
    let hello = || Step::json(200, &[], HELLO);
    let steps = (0..58).map(|_| hello());
    let server = ModelServer::start(steps.chain([failed(), failed(), hello(), hello()]))
        .await
        .unwrap();
    let world = World::new();
    let limits = json!({"limits": {"requestsPerMinute": 60}});
    let pod = claim(&world, &server, "anthropic", limits, &json!({})).await;
    let body = json!({"model": "small", "max_tokens": 1});
    let began = Instant::now();
    for _ in 0..60 {
        assert_eq!(ask(&world, &pod, MESSAGES, &body).await.status.as_u16(), 200);
    }
    assert_eq!(server.asked().len(), 62);
    let all = began.elapsed();
    assert!(
        all >= Duration::from_millis(1_900),
        "the last two wait a second each: {all:?}"
    );
}
