//! Calls of models.

use std::time::{Duration, Instant};

use serde_json::json;
use stagecraft_api::StructuredError;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::Category;
use stagecraft_api::result::Outcome;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::gateway::Gateway;
use crate::pod::{Pod, wait};
use crate::task::task;

/// A Pod whose Workflow names a provider of models.
fn with_models() -> (Gateway, Pod) {
    let mut task = task(&json!({}));
    task.model =
        Some(serde_json::from_value(json!({"provider": "models", "protocol": "anthropic"})).unwrap());
    let gateway = Gateway::start(task);
    let pod = Pod::start(&gateway);
    (gateway, pod)
}

async fn ask(pod: &Pod) -> reqwest::Response {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/anthropic/v1/messages", pod.url());
    http.post(url).body("the prompt").send().await.unwrap()
}

/// Calls are answered like this, one after the other; then the agent ends with status 1.
async fn fails_after(answers: &[Option<(u16, Option<&'static str>, &'static str)>]) -> StructuredError {
    let (gateway, pod) = with_models();
    pod.ready().await;
    gateway.change(|seen| seen.model_goes_on = true);
    for answer in answers {
        gateway.change(|seen| seen.model_answer = *answer);
        let reply = ask(&pod).await;
        assert!(
            !reply.headers().contains_key("x-stagecraft-problem"),
            "that is between runner and gateway"
        );
        reply.bytes().await.unwrap();
    }
    let mut agent = pod.agent(&["sh", "-c", "exit 1"]).await;
    wait(&mut agent).await;
    match gateway.result().await.outcome {
        Outcome::Failed { error } => error,
        other @ Outcome::Succeeded { .. } => panic!("{other:?}"),
    }
}

const EXHAUSTED: Option<(u16, Option<&str>, &str)> = Some((
    402,
    Some("budget_exhausted"),
    "the budget of stage scaffold is used up",
));
const AWAY: Option<(u16, Option<&str>, &str)> =
    Some((503, Some("model_provider_down"), "it failed too often"));

#[tokio::test]
async fn an_agent_without_a_budget_failed_for_want_of_it() {
    let error = fails_after(&[EXHAUSTED]).await;
    assert_eq!(
        (error.code.as_str(), error.category, error.retryable),
        ("ModelBudgetExhausted", Category::Resource, false)
    );
    assert_eq!(error.message, "the budget of stage scaffold is used up");
    let later = fails_after(&[EXHAUSTED, None]).await;
    assert_eq!(later.code, "ModelBudgetExhausted", "it stays used up");
}

#[tokio::test]
async fn an_agent_whose_model_is_away_failed_of_that_unless_it_came_back() {
    for answer in [AWAY, Some((529, None, "overloaded"))] {
        let error = fails_after(&[None, answer]).await;
        assert_eq!(
            (error.code.as_str(), error.category, error.retryable),
            ("ModelUnavailable", Category::Dependency, true)
        );
    }
    assert_eq!(fails_after(&[AWAY, None]).await.code, "AgentExited");
    let wrong = Some((400, None, "no such tool"));
    assert_eq!(
        fails_after(&[wrong]).await.code,
        "AgentExited",
        "that is the agent's own fault"
    );
}

#[tokio::test]
async fn an_agent_whose_model_refused_failed_of_that_unless_it_went_on() {
    for (refuses, expected) in [
        (&[true][..], ("ModelRefused", false)),
        (&[false, true], ("ModelRefused", false)),
        (&[true, false], ("AgentExited", true)),
    ] {
        let (gateway, pod) = with_models();
        pod.ready().await;
        gateway.change(|seen| seen.model_goes_on = true);
        for refuses in refuses {
            gateway.change(|seen| seen.model_refuses = *refuses);
            let reply = ask(&pod).await;
            assert!(
                !reply.headers().contains_key("trailer"),
                "that is between runner and gateway"
            );
            assert_eq!(reply.text().await.unwrap(), "firstsecond");
        }
        let mut agent = pod.agent(&["sh", "-c", "exit 1"]).await;
        wait(&mut agent).await;
        let Outcome::Failed { error } = gateway.result().await.outcome else {
            panic!("it succeeded");
        };
        assert_eq!((error.code.as_str(), error.retryable), expected, "{refuses:?}");
    }
}

#[tokio::test]
async fn an_agent_that_goes_on_without_a_budget_is_stopped() {
    let (gateway, pod) = with_models();
    pod.ready().await;
    let mut agent = pod.agent(&["sleep", "600"]).await;
    gateway.change(|seen| seen.model_answer = EXHAUSTED);
    let began = Instant::now();
    assert_eq!(ask(&pod).await.status().as_u16(), 402);
    wait(&mut agent).await;
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(error.code, "ModelBudgetExhausted");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(29), "{took:?}: it may end by itself");
}

#[tokio::test]
async fn models_are_not_connected_and_say_so() {
    let gateway = Gateway::start(task(&json!({})));
    let pod = Pod::start(&gateway);
    pod.ready().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for (path, kind) in [
        ("anthropic/v1/messages", "/error/type"),
        ("openai/v1/chat/completions", "/error/type"),
    ] {
        let url = format!("{}/{path}", pod.url());
        let reply = http.post(url).body("{}").send().await.unwrap();
        assert_eq!(reply.status(), 501);
        assert_eq!(reply.headers()["x-should-retry"], "false");
        let body: serde_json::Value = reply.json().await.unwrap();
        assert!(body.pointer(kind).is_some(), "{body}");
        assert!(
            body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("no model provider")
        );
    }
    let task: TaskEnvelope = http
        .get(format!("{}/v1/task", pod.url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(Some(task), gateway.seen().task);
}

#[tokio::test]
async fn a_call_of_a_model_goes_through_the_gateway_and_comes_back_piece_by_piece() {
    let (gateway, pod) = with_models();
    pod.ready().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/anthropic/v1/messages", pod.url());
    let call = || {
        http.post(&url)
            .header("x-api-key", "made-up")
            .header("authorization", "Bearer made-up")
            .header("anthropic-version", "2023-06-01")
            .body("the prompt")
            .send()
    };
    let mut reply = call().await.unwrap();
    assert_eq!(
        (reply.status().as_u16(), &reply.headers()["request-id"]),
        (200, &"req-7".parse().unwrap())
    );
    assert_eq!(reply.headers()["x-should-retry"], "true");
    assert_eq!(reply.chunk().await.unwrap().unwrap(), "first");
    gateway.change(|seen| seen.model_goes_on = true);
    assert_eq!(reply.text().await.unwrap(), "second");
    let (path, headers, body) = gateway.seen().models[0].clone();
    assert_eq!(
        (path.as_str(), body.as_str()),
        ("anthropic/v1/messages", "the prompt")
    );
    assert_eq!(headers["anthropic-version"], "2023-06-01");
    assert_eq!(
        headers["authorization"],
        format!("Bearer {}", crate::gateway::TOKEN)
    );
    assert!(!headers.contains_key("x-api-key"));

    gateway.leave();
    let away = call().await.unwrap();
    assert_eq!(
        (away.status().as_u16(), &away.headers()["retry-after"]),
        (503, &"2".parse().unwrap())
    );
    let body: serde_json::Value = away.json().await.unwrap();
    assert_eq!(body["error"]["type"], "api_error");
}

#[tokio::test]
async fn no_path_of_the_agents_leads_anywhere_but_to_models() {
    let (gateway, pod) = with_models();
    pod.ready().await;
    let address = pod.url().trim_start_matches("http://").to_owned();
    for path in [
        "/anthropic/..%2f..%2f..%2fv1%2fresult",
        "/anthropic/../../../v1/result",
        "/anthropic/%2e%2e/%2e%2e/result",
        "/openai/v1/responses%3f/../../result",
        "/openai/v1/files",
        "/anthropic/v1/messages%2f..%2f..%2f..%2fresult",
    ] {
        // No client would send these as they stand.
        let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
    gateway.change(|seen| {
        assert!(
            seen.models.is_empty() && seen.results.is_empty(),
            "{:?}",
            seen.models
        );
    });
}
