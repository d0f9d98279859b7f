//! Calls of models.

use std::time::Duration;

use axum::body::Body;
use serde_json::{Value, json};
use stagecraft_model_server::{ModelServer, Piece, Step};

use crate::cluster::Cluster;
use crate::world::{Reply, World};

pub const MESSAGES: &str = "/v1/models/anthropic/v1/messages";
const CHAT: &str = "/v1/models/openai/v1/chat/completions";
pub const SECRET: &str = "sk-canary-0123456789";

pub const HELLO: &str = r#"{"type":"message","content":[{"type":"text","text":"hello"}],"usage":{"input_tokens":3,"output_tokens":4}}"#;

/// A world with a provider `models`, whose attempt 1 is claimed. Gives its Pod.
pub async fn claimed(server: &ModelServer, provider: &str, change: Value) -> (World, String) {
    let world = World::new();
    let pod = claim(&world, server, provider, change, &json!({})).await;
    (world, pod)
}

/// The same in a world of the caller's, with budgets.
pub async fn claim(
    world: &World,
    server: &ModelServer,
    provider: &str,
    change: Value,
    budgets: &Value,
) -> String {
    let pod = offer(&world.cluster, server, provider, change, budgets);
    assert_eq!(world.claim(&pod).await.status, 200);
    pod
}

/// The objects of all that, without the claim.
pub fn offer(
    cluster: &Cluster,
    server: &ModelServer,
    provider: &str,
    change: Value,
    budgets: &Value,
) -> String {
    let base = if provider == "openai" {
        format!("{}/v1", server.url)
    } else {
        server.url.clone()
    };
    let mut spec = json!({
        "provider": provider, "model": "small", "baseUrl": base, "secretRef": {"name": "keys"},
    });
    json_merge(&mut spec, change);
    cluster.put(
        "/apis/stagecraft.dev/v1alpha1/namespaces/team/modelproviders/models",
        json!({"apiVersion": "stagecraft.dev/v1alpha1", "kind": "ModelProvider",
            "metadata": {"name": "models", "namespace": "team"}, "spec": spec}),
    );
    let encoded = k8s_openapi::ByteString(SECRET.as_bytes().to_vec());
    cluster.put(
        "/api/v1/namespaces/team/secrets/keys",
        json!({"apiVersion": "v1", "kind": "Secret", "data": {"apiKey": encoded}, "metadata": {
            "name": "keys", "namespace": "team",
            "annotations": {"stagecraft.dev/allowed-hosts": format!("http://{}", server.host())}}}),
    );
    cluster.workflow(1, "Running");
    let more = json!({"model": {"provider": "models", "protocol": provider}, "run": 1, "budgets": budgets});
    cluster.attempt_with("echo", &json!({}), 1, &Value::Null, &more)
}

fn json_merge(into: &mut Value, change: Value) {
    let Value::Object(change) = change else {
        panic!("{change} is no object")
    };
    into.as_object_mut().unwrap().extend(change);
}

pub async fn ask(world: &World, pod: &str, path: &str, body: &Value) -> Reply {
    let authorization = format!("Bearer {pod}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("anthropic-version", "2023-06-01"),
        ("x-api-key", "of-the-agent"),
        ("cookie", "of-the-agent"),
    ];
    let reply = world
        .request("POST", path, &headers, Body::from(body.to_string()))
        .await;
    let text = String::from_utf8_lossy(&reply.body);
    assert!(!text.contains(SECRET), "{text}");
    reply
}

pub fn text(reply: &Reply) -> String {
    String::from_utf8(reply.body.to_vec()).unwrap()
}

#[tokio::test]
async fn a_call_carries_the_key_of_the_provider_and_nothing_of_the_pods() {
    let server = ModelServer::start([Step::json(
        200,
        &[("request-id", "req-7"), ("set-cookie", "x=1")],
        HELLO,
    )])
    .await
    .unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let body = json!({"model": "default", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let reply = ask(&world, &pod, MESSAGES, &body).await;
    assert_eq!((reply.status.as_u16(), text(&reply)), (200, HELLO.to_owned()));
    assert_eq!(reply.headers["request-id"], "req-7");
    assert!(!reply.headers.contains_key("set-cookie"));
    let asked = server.asked().remove(0);
    assert_eq!(asked.path, "/v1/messages");
    assert_eq!(asked.headers["x-api-key"], SECRET);
    assert_eq!(asked.headers["anthropic-version"], "2023-06-01");
    assert!(!asked.headers.contains_key("authorization") && !asked.headers.contains_key("cookie"));
    assert_eq!(asked.body, body.to_string().replace("default", "small"));
    let metrics = world.metrics.render();
    assert!(
        metrics.contains(r#"model_tokens_total{class="output"} 4"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"model_calls_total{operation="v1/messages",outcome="answered"} 1"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_came_wherever_it_is_cut() {
    let stream = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":30,\"output_tokens\":1}}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"ä\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":12}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let cuts: Vec<usize> = (0..stream.len()).step_by(7).collect();
    let steps = cuts.iter().map(|at| {
        let (one, other) = stream.as_bytes().split_at(*at);
        Step::stream(vec![
            Piece::Bytes(one.to_vec()),
            Piece::Wait(Duration::from_millis(1)),
            Piece::Bytes(other.to_vec()),
        ])
    });
    let server = ModelServer::start(steps).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    for at in &cuts {
        let reply = ask(&world, &pod, MESSAGES, &json!({"model": "small", "stream": true})).await;
        assert_eq!(text(&reply), stream, "cut at byte {at}");
    }
    let tokens = format!(r#"model_tokens_total{{class="output"}} {}"#, 12 * cuts.len());
    assert!(
        world.metrics.render().contains(&tokens),
        "{}",
        world.metrics.render()
    );
}

#[tokio::test]
async fn the_end_of_an_answer_tells_that_the_model_refused() {
    let refusal = r#"{"type":"message","stop_reason":"refusal","content":[],"usage":{"input_tokens":3,"output_tokens":1}}"#;
    let stream = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"refusal\"},\"usage\":{\"output_tokens\":1}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let server = ModelServer::start([
        Step::json(200, &[], HELLO),
        Step::json(200, &[], refusal),
        Step::stream(vec![Piece::Bytes(stream.into())]),
    ])
    .await
    .unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let body = json!({"model": "small", "max_tokens": 9});
    for (answer, refused) in [(HELLO, false), (refusal, true), (stream, true)] {
        let reply = ask(&world, &pod, MESSAGES, &body).await;
        assert_eq!(text(&reply), answer, "the agent gets it as it is");
        let told = reply.trailers.get("x-stagecraft-problem");
        assert_eq!(
            told.is_some_and(|code| code == "model_refused"),
            refused,
            "{answer}"
        );
    }
    let metrics = world.metrics.render();
    for expected in [
        r#"model_calls_total{operation="v1/messages",outcome="answered"} 1"#,
        r#"model_calls_total{operation="v1/messages",outcome="refused"} 2"#,
        r#"model_tokens_total{class="output"} 6"#,
    ] {
        assert!(metrics.contains(expected), "{metrics}");
    }
}

#[tokio::test]
async fn the_report_of_usage_that_the_agent_did_not_ask_for_stays_here() {
    let content = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n";
    let report = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":100,\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":60}}}\n\n";
    let end = "data: [DONE]\n\n";
    let stream = || {
        Step::stream(
            [content, report, end]
                .map(|text| Piece::Bytes(text.into()))
                .to_vec(),
        )
    };
    let server = ModelServer::start([stream(), stream()]).await.unwrap();
    let (world, pod) = claimed(&server, "openai", json!({})).await;
    let reply = ask(&world, &pod, CHAT, &json!({"model": "small", "stream": true})).await;
    assert_eq!(text(&reply), format!("{content}{end}"));
    let own = json!({"model": "small", "stream": true, "stream_options": {"include_usage": true}});
    let reply = ask(&world, &pod, CHAT, &own).await;
    assert_eq!(text(&reply), format!("{content}{report}{end}"));
    let asked = server.asked();
    assert_eq!(asked[0].path, "/v1/chat/completions");
    assert_eq!(asked[0].headers["authorization"], format!("Bearer {SECRET}"));
    assert!(
        asked[0].body.contains(r#""include_usage":true"#),
        "{}",
        asked[0].body
    );
    let metrics = world.metrics.render();
    assert!(
        metrics.contains(r#"model_tokens_total{class="cache_read"} 120"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"model_tokens_total{class="input"} 80"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn what_may_pass_is_tried_again_before_the_agent_hears_of_it() {
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    let server = ModelServer::start([
        Step::json(529, &[("retry-after-ms", "20")], overloaded),
        Step::json(429, &[("retry-after", "0")], "{}"),
        Step::json(200, &[], HELLO),
    ])
    .await
    .unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let reply = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
    assert_eq!((reply.status.as_u16(), server.asked().len()), (200, 3));
}

#[tokio::test]
async fn what_will_not_pass_reaches_the_agent_as_it_is() {
    let spent =
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"enforced_spend_limit_reached"}}"#;
    let refused = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
    let server = ModelServer::start([
        Step::json(429, &[], spent),
        Step::json(400, &[], refused),
        Step::json(429, &[("retry-after", "3600")], "{}"),
    ])
    .await
    .unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    for (status, body) in [(429, spent), (400, refused), (429, "{}")] {
        let reply = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
        assert_eq!((reply.status.as_u16(), text(&reply).as_str()), (status, body));
    }
    assert_eq!(server.asked().len(), 3, "nothing was repeated");
}

#[tokio::test]
async fn a_stream_that_breaks_or_falls_silent_says_so_in_its_protocol() {
    let begin = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":30}}}\n\n";
    let half = format!("{begin}event: content_block_delta\ndata: {{\"type\":\"content_blo");
    let cut = Step::stream(vec![Piece::Bytes(half.into()), Piece::Cut]);
    let silent = Step::stream(vec![
        Piece::Bytes(begin.into()),
        Piece::Wait(Duration::from_secs(30)),
    ]);
    let server = ModelServer::start([cut, silent]).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({"timeoutSeconds": 1})).await;
    for why in ["broke off", "it was silent for 1 s"] {
        let reply = ask(&world, &pod, MESSAGES, &json!({"model": "small", "stream": true})).await;
        let text = text(&reply);
        let rest = text.strip_prefix(begin).unwrap();
        let data = rest.strip_prefix("event: error\ndata: ").unwrap().trim_end();
        let error: Value = serde_json::from_str(data).unwrap();
        assert_eq!(error["error"]["type"], "api_error");
        assert!(
            error["error"]["message"].as_str().unwrap().contains(why),
            "{error}"
        );
    }
    let metrics = world.metrics.render();
    assert!(metrics.contains(r#"outcome="broken"} 2"#), "{metrics}");
    assert!(
        metrics.contains(r#"model_tokens_total{class="input"} 60"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_provider_that_fails_is_left_alone() {
    let steps = (0..6).map(|_| Step::json(500, &[("retry-after-ms", "1")], "{}"));
    let server = ModelServer::start(steps).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let first = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
    assert_eq!((first.status.as_u16(), server.asked().len()), (500, 3));
    let second = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
    assert_eq!(
        (second.status.as_u16(), server.asked().len()),
        (500, 5),
        "it opens at the fifth failure"
    );
    let third = ask(&world, &pod, MESSAGES, &json!({"model": "small"})).await;
    assert_eq!((third.status.as_u16(), server.asked().len()), (503, 5));
    let wait: u64 = third.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((55..=60).contains(&wait), "{wait}");
    assert!(text(&third).contains("failed too often"), "{}", text(&third));
}

#[tokio::test]
async fn what_cannot_be_passed_on_says_why_and_whether_to_ask_again() {
    let server = ModelServer::start([]).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    for (path, body, status, says) in [
        (MESSAGES, json!({"model": "large"}), 403, "ask for one of small"),
        (MESSAGES, json!([]), 400, "is not a request"),
        (CHAT, json!({"model": "small"}), 400, "speaks anthropic"),
        (
            "/v1/models/anthropic/v1/files",
            json!({}),
            404,
            "passes no POST v1/files",
        ),
        (
            "/v1/models/anthropic/v1/messages/batches",
            json!({}),
            404,
            "passes no",
        ),
    ] {
        let reply = ask(&world, &pod, path, &body).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", text(&reply));
        assert!(text(&reply).contains(says), "{}", text(&reply));
        assert_eq!(reply.headers["x-should-retry"], "false");
    }
    let other = ask(&world, &pod, "/v1/models/other/v1/messages", &json!({})).await;
    assert_eq!(other.status.as_u16(), 404);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn only_the_attempt_that_runs_and_names_a_provider_may_call() {
    let server = ModelServer::start([]).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let body = json!({"model": "small"});
    world.cluster.workflow(2, "Running");
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    let old = ask(&world, &pod, MESSAGES, &body).await;
    assert_eq!(
        (
            old.status.as_u16(),
            old.headers["x-should-retry"].to_str().unwrap()
        ),
        (409, "false")
    );
    let stranger = world.request("POST", MESSAGES, &[], Body::empty()).await;
    assert_eq!(stranger.status.as_u16(), 401);

    let without = World::new();
    let pod = without.claimed().await;
    let reply = ask(&without, &pod, MESSAGES, &body).await;
    assert_eq!(reply.status.as_u16(), 501);
    assert!(
        text(&reply).contains("names no model provider"),
        "{}",
        text(&reply)
    );
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_refusal_repeats_little_of_what_the_agent_sent() {
    let server = ModelServer::start([]).await.unwrap();
    let (world, pod) = claimed(&server, "anthropic", json!({})).await;
    let long = "x".repeat(100_000);
    for body in [
        json!({"model": long}),
        json!({"model": "small", "max_tokens": long}),
        json!({"model": "small", "container": long}),
    ] {
        let reply = ask(&world, &pod, MESSAGES, &body).await;
        assert!(reply.status.is_client_error() && reply.body.len() < 2_000);
    }
}
