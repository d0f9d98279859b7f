//! What several gateways know together of a provider.

use std::time::{Duration, Instant};

use axum::body::Body;
use serde_json::json;
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::BreakerState;
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

/// What all gateways together know of the provider.
async fn known(world: &World) -> ProviderReport {
    world.settled().await;
    let headers = [("authorization", "Bearer operator")];
    let path = "/v1/operator/providers/team/models";
    let reply = world.request("GET", path, &headers, Body::empty()).await;
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn many_calls_at_once_are_all_known() {
    let redis = Redis::start();
    redis.connection().await;
    let server = ModelServer::start((0..120).map(|_| Step::json(200, &[], HELLO)))
        .await
        .unwrap();
    let quotas = Quotas {
        attempt_model_calls: 200,
        ..Quotas::default()
    };
    let world = World::with(&redis.url(), PASSWORD, quotas);
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let body = json!({"model": "small", "max_tokens": 1});
    let calls = (0..120).map(|_| ask(&world, &pod, MESSAGES, &body));
    futures::future::join_all(calls).await;
    assert_eq!(known(&world).await.last_hour.calls, 120);
}

#[tokio::test]
async fn a_redis_that_forgot_all_closes_no_breaker_and_hears_what_it_missed() {
    let redis = Redis::start();
    redis.connection().await;
    let server = ModelServer::start([Step::json(200, &[], HELLO)]).await.unwrap();
    server.then(failures(5));
    let world = World::with(&redis.url(), PASSWORD, Quotas::default());
    let pod = claim(&world, &server, "anthropic", json!({}), &json!({})).await;
    let body = json!({"model": "small", "max_tokens": 1});
    assert_eq!(ask(&world, &pod, MESSAGES, &body).await.status, 200);
    world.settled().await;
    let url = redis.url();
    drop(redis);
    for _ in 0..2 {
        ask(&world, &pod, MESSAGES, &body).await;
    }
    world.settled().await;
    let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
    let redis = Redis::start_at(port);
    redis.connection().await;
    let other = World::with(&redis.url(), PASSWORD, Quotas::default());
    claim(&other, &server, "anthropic", json!({}), &json!({})).await;
    for _ in 0..50 {
        let told = known(&world).await;
        assert_eq!((told.breaker, told.last_hour.calls), (BreakerState::Open, 1));
        if known(&other).await.breaker == BreakerState::Open {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the others do not hear of it");
}
