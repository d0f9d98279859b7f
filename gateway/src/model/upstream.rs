//! One call of a provider, made again where that may help.

use std::time::Duration;

use axum::http::HeaderMap;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::timeout;

use super::ending::{Complaint, Word, is_failure, word};
use super::models::Models;
use super::provider::Provider;
use super::request::Operation;
use super::retry::{Failure, Hints, pause};
use super::shared::Place;
use super::sse::Events;

/// Longest body of an error that is read, in bytes.
const ERROR_BYTES: usize = 256 * 1024;

/// Headers of the agent that the provider gets to see.
const REQUEST_HEADERS: [&str; 5] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "openai-beta",
    "user-agent",
];

/// What is to be sent.
pub struct Call<'call> {
    pub provider: &'call Provider,
    pub operation: Operation,
    pub headers: &'call HeaderMap,
    pub body: Bytes,
}

/// What came back.
pub enum Answer {
    /// Most of its body is still to come.
    Good(Begun),
    /// An error of the provider, read whole.
    Bad {
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
    },
    /// No answer.
    None(String),
}

/// An answer that began well.
pub struct Begun {
    pub upstream: Response,
    /// What of its body was read.
    pub first: Bytes,
    pub is_stream: bool,
}

impl Answer {
    /// Whether another provider may do better: this one is overloaded, at a limit, or away.
    pub fn is_missed(&self) -> bool {
        let is_limit = |status: &StatusCode| *status == StatusCode::TOO_MANY_REQUESTS;
        self.is_failure() || matches!(self, Self::Bad { status, .. } if is_limit(status))
    }

    /// Whether it speaks against the provider's health: what the agent did wrong does not, nor does a limit.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Good(_) => false,
            Self::Bad { status, .. } => is_failure(*status),
            Self::None(_) => true,
        }
    }
}

/// Calls until there is an answer to pass on. Every try that speaks against the provider's health is reported, and a provider that is left
/// alone from then on is not tried again.
pub async fn call(models: &Models, place: &Place, call: &Call<'_>) -> (Answer, u32) {
    let mut tries = 0;
    loop {
        tries += 1;
        let answer = once(&models.http, call).await;
        let may_go_on = !answer.is_failure() || models.report(place, false).await;
        let next = match &answer {
            Answer::Good(_) => None,
            Answer::Bad {
                status,
                headers,
                body,
            } => {
                let text = |name| {
                    headers
                        .get(name)
                        .and_then(|value: &HeaderValue| value.to_str().ok())
                };
                let failure = Failure::Status {
                    status: status.as_u16(),
                    headers: Hints {
                        retry_after_ms: text("retry-after-ms"),
                        retry_after: text("retry-after"),
                        should_retry: text("x-should-retry"),
                    },
                    body,
                };
                pause(&failure, tries, models.patience, fastrand::f64())
            }
            Answer::None(_) => pause(&Failure::Away, tries, models.patience, fastrand::f64()),
        };
        match next.filter(|_| may_go_on) {
            Some(pause) => tokio::time::sleep(pause).await,
            None => return (answer, tries),
        }
    }
}

async fn once(http: &Client, call: &Call<'_>) -> Answer {
    let Call {
        provider,
        operation,
        headers,
        body,
    } = call;
    let method = if *operation == Operation::Models {
        Method::GET
    } else {
        Method::POST
    };
    let mut request = http.request(method.clone(), provider.url(*operation));
    for name in REQUEST_HEADERS {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    if let Some((name, value)) = provider.authorization() {
        request = request.header(HeaderName::from_static(name), value);
    }
    if method == Method::POST {
        request = request
            .header(CONTENT_TYPE, "application/json")
            .body(body.clone());
    }
    let response = match timeout(provider.timeout, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Answer::None(stagecraft_api::error::chain(&error.without_url())),
        Err(_) => return Answer::None(silence(provider.timeout)),
    };
    if response.status().is_success() {
        return begin(provider, response).await;
    }
    let (status, headers) = (response.status(), response.headers().clone());
    let body = timeout(provider.timeout, whole(response))
        .await
        .unwrap_or_default();
    Answer::Bad {
        status,
        headers,
        body,
    }
}

/// Reads on until there is something to pass on. A stream whose first word is an error is one: nothing of it was passed on.
async fn begin(provider: &Provider, mut upstream: Response) -> Answer {
    let is_stream = upstream
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let (mut first, mut events) = (Vec::new(), Events::default());
    loop {
        let chunk = match timeout(provider.timeout, upstream.chunk()).await {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(error)) => return Answer::None(stagecraft_api::error::chain(&error.without_url())),
            Err(_) => return Answer::None(silence(provider.timeout)),
        };
        let is_over = chunk.is_none();
        let chunk = chunk.unwrap_or_default();
        first.extend_from_slice(&chunk);
        let heard = events.feed(&chunk).into_iter().next();
        if let Some(event) = &heard
            && is_stream
            && let Word::Error(Complaint { status, body }) = word(provider.protocol, &event.data)
        {
            let mut headers = upstream.headers().clone();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Answer::Bad {
                status,
                headers,
                body: Bytes::from(body.to_string()),
            };
        }
        if is_over || heard.is_some() || !(is_stream || first.is_empty()) {
            return Answer::Good(Begun {
                upstream,
                first: Bytes::from(first),
                is_stream,
            });
        }
    }
}

/// The beginning of a body.
async fn whole(mut response: Response) -> Bytes {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= ERROR_BYTES {
            body.truncate(ERROR_BYTES);
            break;
        }
    }
    Bytes::from(body)
}

pub fn silence(limit: Duration) -> String {
    format!(
        "it was silent for {} s, the limit of the ModelProvider",
        limit.as_secs()
    )
}
