//! One call of a provider, made again where that may help.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::account::{Account, Outcome};
use super::crowd::Memory;
use super::ending::{Complaint, Word, is_failure, word};
use super::provider::Provider;
use super::request::Operation;
use super::retry::{Failure, Hints, Patience, pause};
use super::sse::Events;

/// Longest body of an error that is read, in bytes.
const ERROR_BYTES: usize = 256 * 1024;

/// How long an answer is read on when the agent has left, for its report of usage.
pub const AFTER_AGENT: Duration = Duration::from_secs(15);
/// A connection that ends this soon after a request was sent had been closed before: nobody has worked on it.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Headers of the agent that the provider gets to see.
const REQUEST_HEADERS: [&str; 5] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "openai-beta",
    "user-agent",
];

/// What is to be sent.
pub struct Call {
    pub provider: Arc<Provider>,
    pub operation: Operation,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub memory: Option<Arc<Memory>>,
    pub patience: Patience,
}

/// What of the agent's headers the provider gets to see.
pub fn kept(headers: &HeaderMap) -> HeaderMap {
    let kept = REQUEST_HEADERS.into_iter().filter_map(|name| {
        let value = headers.get(name)?.clone();
        Some((HeaderName::from_static(name), value))
    });
    kept.collect()
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
    /// Nothing was sent, or to nobody.
    Away(String),
    /// It was sent, and no answer came. The provider may have worked on it.
    Lost(String),
    /// The agent left before there was an answer.
    GivenUp,
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
    fn is_failure(&self) -> bool {
        match self {
            Self::Good(_) | Self::GivenUp => false,
            Self::Bad { status, .. } => is_failure(*status),
            Self::Away(_) | Self::Lost(_) => true,
        }
    }

    /// How the call ended by it; of a good one it is not known before its own end.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Good(_) | Self::GivenUp => Outcome::HungUp,
            Self::Bad { status, .. } => Outcome::of(*status),
            Self::Away(_) => Outcome::NoAnswer,
            Self::Lost(_) => Outcome::Lost,
        }
    }

    /// The pause before the next try; none when there is none. What was sent and lost is not sent again: it would be paid twice.
    fn pause(&self, tries: u32, patience: Patience) -> Option<Duration> {
        match self {
            Self::Good(_) | Self::Lost(_) | Self::GivenUp => None,
            Self::Away(_) => pause(&Failure::Away, tries, patience, fastrand::f64()),
            Self::Bad {
                status,
                headers,
                body,
            } => {
                let text = |name| {
                    let value: &HeaderValue = headers.get(name)?;
                    value.to_str().ok()
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
                pause(&failure, tries, patience, fastrand::f64())
            }
        }
    }
}

/// Calls until there is an answer to pass on. Every try that speaks against the provider's health is reported, and a provider that is left
/// alone from then on is not tried again. When the agent leaves, the try under way is waited for, for a while.
pub async fn call(call: &Call, account: &mut Account, agent_left: &CancellationToken) -> Answer {
    let models = account.gateway.models.clone();
    loop {
        account.tries += 1;
        account.sent_at = Some(Instant::now());
        let left = async {
            agent_left.cancelled().await;
            sleep(AFTER_AGENT).await;
        };
        let answer = tokio::select! {
            answer = once(&models.http, call) => answer,
            () = left => Answer::GivenUp,
        };
        account.is_hidden = matches!(answer, Answer::Lost(_) | Answer::GivenUp);
        let is_failure = answer.is_failure();
        let next = answer.pause(account.tries, call.patience);
        let may_go_on = match (is_failure, next) {
            (false, None) => false,
            _ => models.report(&account.place, is_failure.then_some(false)).await,
        };
        let Some(pause) = next.filter(|_| may_go_on) else {
            return answer;
        };
        let again = async {
            sleep(pause).await;
            // Every try counts for the limit of requests. Its tokens were counted with the first.
            let (limits, longest) = (&call.provider.limits, call.patience.longest);
            models.ask(&account.place, limits, 0, longest).await.is_ok()
        };
        tokio::select! {
            true = again => {}
            () = agent_left.cancelled() => return answer,
            else => return answer,
        }
    }
}

async fn once(http: &Client, call: &Call) -> Answer {
    let Call {
        provider,
        operation,
        headers,
        body,
        memory: _,
        patience: _,
    } = call;
    let method = if *operation == Operation::Models {
        Method::GET
    } else {
        Method::POST
    };
    let mut request = http
        .request(method.clone(), provider.url(*operation))
        .headers(headers.clone());
    if let Some((name, value)) = provider.authorization() {
        request = request.header(HeaderName::from_static(name), value);
    }
    if method == Method::POST {
        request = request
            .header(CONTENT_TYPE, "application/json")
            .body(body.clone());
    }
    let began = Instant::now();
    let response = match timeout(provider.timeout, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            let nobody = error.is_connect() || began.elapsed() < AT_ONCE;
            let problem = stagecraft_api::error::chain(&error.without_url());
            return if nobody {
                Answer::Away(problem)
            } else {
                Answer::Lost(problem)
            };
        }
        Err(_) => return Answer::Lost(silence(provider.timeout)),
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
            Ok(Err(error)) => return Answer::Lost(stagecraft_api::error::chain(&error.without_url())),
            Err(_) => return Answer::Lost(silence(provider.timeout)),
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
