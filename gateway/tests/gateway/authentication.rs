use std::sync::atomic::Ordering;

use axum::body::Body;
use serde_json::Value;
use stagecraft_gateway::args::Quotas;

use crate::world::World;

#[tokio::test]
async fn without_a_token_everything_is_401_also_what_does_not_exist() {
    let world = World::new();
    for path in ["/v1/claim", "/v1/operator/workflows", "/nowhere"] {
        let reply = world.request("POST", path, &[], Body::empty()).await;
        assert_eq!(reply.refusal(), (401, "NoToken".into()), "{path}");
    }
    let basic = [("authorization", "Basic abc")];
    let reply = world.request("POST", "/v1/claim", &basic, Body::empty()).await;
    assert_eq!(reply.status, 401);
    assert_eq!(world.cluster.reviews.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_token_of_another_audience_is_401() {
    let world = World::new();
    world.cluster.token(
        "kube",
        "system:serviceaccount:team:default",
        Some(("p", "u")),
        "https://kubernetes.default.svc",
    );
    assert_eq!(world.claim("kube").await.refusal(), (401, "BadToken".into()));
    assert_eq!(world.claim("unknown").await.refusal(), (401, "BadToken".into()));
}

#[tokio::test]
async fn answers_about_tokens_are_remembered_refusals_too() {
    let world = World::new();
    let pod = world.claimed().await;
    for _ in 0..3 {
        assert_eq!(world.heartbeat(&pod).await.status, 200);
        assert_eq!(world.heartbeat("unknown").await.status, 401);
    }
    assert_eq!(world.cluster.reviews.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn guessing_is_slowed_down_and_hurts_no_good_token() {
    let quotas = Quotas {
        source_failures_per_second: 1,
        source_failures_burst: 5,
        ..Quotas::default()
    };
    let world = World::with("redis://127.0.0.1:1", "", quotas);
    let pod = world.claimed().await;
    for number in 0..5 {
        assert_eq!(world.claim(&format!("guess-{number}")).await.status, 401);
    }
    let reply = world.claim("guess-6").await;
    assert_eq!(reply.refusal(), (429, "TooManyFailures".into()));
    assert!(reply.headers.contains_key("retry-after"));
    assert_eq!(world.claim("guess-0").await.status, 429);
    assert_eq!(world.claim(&pod).await.status, 200);
}

#[tokio::test]
async fn an_attempt_has_a_quota_of_requests() {
    let quotas = Quotas {
        attempt_requests_per_second: 1,
        attempt_requests_burst: 4,
        ..Quotas::default()
    };
    let world = World::with("redis://127.0.0.1:1", "", quotas);
    let pod = world.claimed().await;
    for _ in 0..3 {
        assert_eq!(world.heartbeat(&pod).await.status, 200);
    }
    let reply = world.heartbeat(&pod).await;
    assert_eq!(reply.refusal(), (429, "TooManyRequests".into()));
    assert_eq!(reply.headers["retry-after"], "1");
}

#[tokio::test]
async fn an_api_server_that_is_away_is_503() {
    let world = World::new();
    let pod = world.claimed().await;
    world.cluster.down.store(true, Ordering::SeqCst);
    let unknown = world.claim("new").await;
    assert_eq!(unknown.refusal(), (503, "ApiServerUnreachable".into()));
    let known = world.claim(&pod).await;
    assert_eq!(known.refusal(), (503, "ApiServerUnreachable".into()));
    assert_eq!(known.headers["retry-after"], "1");
    world.cluster.down.store(false, Ordering::SeqCst);
    assert_eq!(
        world.claim("new").await.status,
        401,
        "an outage is not remembered"
    );
}

#[tokio::test]
async fn the_operators_part_is_for_the_operator_alone() {
    let world = World::new();
    let pod = world.claimed().await;
    let reply = world.get("/v1/operator/workflows", &pod).await;
    assert_eq!(reply.refusal(), (403, "NotForCaller".into()));
    assert_eq!(world.get("/v1/operator/workflows", "operator").await.status, 200);
    assert_eq!(world.claim("operator").await.refusal(), (403, "NoAttempt".into()));
}

#[tokio::test]
async fn a_pod_of_no_attempt_is_403() {
    let world = World::new();
    world.cluster.workflow(1, "Running");
    world.cluster.pod("stranger", None);
    assert_eq!(world.claim("stranger").await.refusal(), (403, "NoAttempt".into()));
    let uid = "old-uid";
    let pod = world.cluster.attempt(1, &Value::Null);
    world.cluster.token(
        "reborn",
        "system:serviceaccount:team:default",
        Some((&pod, uid)),
        "stagecraft-gateway",
    );
    assert_eq!(world.claim("reborn").await.refusal(), (403, "NoAttempt".into()));
    world.cluster.token(
        "unbound",
        "system:serviceaccount:team:default",
        None,
        "stagecraft-gateway",
    );
    assert_eq!(world.claim("unbound").await.refusal(), (403, "NoAttempt".into()));
}
