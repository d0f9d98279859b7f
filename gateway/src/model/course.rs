//! An answer on its way to the agent, and what it comes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use stagecraft_api::budget::{Amount, Tokens};
use stagecraft_api::model::{PROBLEM_HEADER, Problem, ProblemKind, Protocol, REFUSED};
use tokio::time::timeout;

use super::denied::Denied;
use super::ledgers::Reservation;
use super::models::{CallEnd, settle};
use super::provider::Provider;
use super::refused::is_refusal;
use super::request::Operation;
use super::sse::Events;
use super::upstream::{Answer, silence};
use super::usage::{Meter, cost, is_report_of_usage};
use crate::metrics::Metrics;
use crate::router::Gateway;

/// Longest answer that is no stream of which the usage is read, in bytes.
const METERED_BYTES: usize = 32 * 1024 * 1024;
/// Bytes of text that are taken for a token where the provider does not say how many there were.
pub const BYTES_OF_A_TOKEN: u64 = 4;
/// Headers of the provider that the agent gets to see.
const RESPONSE_HEADERS: [&str; 6] = [
    "content-type",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "x-should-retry",
];

/// The answer as the agent gets it.
pub fn pass(answered: Answer, mut account: Account, strip: bool) -> Result<Response, Denied> {
    let provider = account.provider.clone();
    let is_failure = answered.is_failure();
    match answered {
        Answer::None(problem) => {
            account.outcome = "no answer";
            let message = format!("the model provider did not answer: {problem}");
            let denied = Denied::new(
                StatusCode::BAD_GATEWAY,
                ProblemKind::Server,
                "model_provider_away",
                message,
            );
            Err(denied.later(Duration::from_secs(5)))
        }
        Answer::Bad {
            status,
            headers,
            body,
        } => {
            // Its tries were reported when they failed.
            account.outcome = if is_failure { "failed" } else { "error" };
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = status;
            copy(&headers, response.headers_mut());
            Ok(response)
        }
        Answer::Good(upstream) => {
            let is_stream = upstream
                .headers()
                .get(header::CONTENT_TYPE)
                .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
            let (status, headers) = (upstream.status(), upstream.headers().clone());
            let course = Course {
                upstream,
                account,
                limit: provider.timeout,
                protocol: provider.protocol,
                reading: if is_stream {
                    Reading::Events {
                        events: Events::default(),
                        strip,
                    }
                } else {
                    Reading::Whole(Vec::new())
                },
                refused: false,
                ended: false,
            };
            let mut response = Response::new(Body::new(StreamBody::new(course.frames())));
            *response.status_mut() = status;
            copy(&headers, response.headers_mut());
            let announced = HeaderValue::from_static(PROBLEM_HEADER);
            response.headers_mut().insert(header::TRAILER, announced);
            Ok(response)
        }
    }
}

fn copy(from: &HeaderMap, to: &mut HeaderMap) {
    for name in RESPONSE_HEADERS {
        if let Some(value) = from.get(name) {
            to.insert(HeaderName::from_static(name), value.clone());
        }
    }
}

/// An answer under way.
struct Course {
    upstream: reqwest::Response,
    account: Account,
    limit: Duration,
    protocol: Protocol,
    reading: Reading,
    /// Whether the model said that it does not go on.
    refused: bool,
    ended: bool,
}

/// How its usage is read.
enum Reading {
    Events { events: Events, strip: bool },
    Whole(Vec<u8>),
}

impl Course {
    /// The answer, and in a trailer whether the model refused.
    fn frames(self) -> impl stream::Stream<Item = Result<Frame<Bytes>, String>> + Send {
        stream::unfold(Some(self), |course| async move {
            let mut course = course?;
            while !course.ended {
                let chunk = course.next().await;
                if !chunk.as_ref().is_ok_and(Bytes::is_empty) {
                    return Some((chunk.map(Frame::data), Some(course)));
                }
            }
            let code = course.refused.then(|| HeaderValue::from_static(REFUSED))?;
            let name = HeaderName::from_static(PROBLEM_HEADER);
            Some((Ok(Frame::trailers(HeaderMap::from_iter([(name, code)]))), None))
        })
    }

    /// What is passed on next; nothing of it where a piece completed no event that the agent is to see.
    async fn next(&mut self) -> Result<Bytes, String> {
        match timeout(self.limit, self.upstream.chunk()).await {
            Ok(Ok(Some(chunk))) => Ok(self.take(chunk)),
            Ok(Ok(None)) => {
                self.ended = true;
                Ok(self.finish())
            }
            Ok(Err(error)) => self.broke(stagecraft_api::error::chain(&error.without_url())),
            Err(_) => self.broke(silence(self.limit)),
        }
    }

    fn take(&mut self, chunk: Bytes) -> Bytes {
        self.account.received = self.account.received.saturating_add(chunk.len() as u64);
        let meter = &mut self.account.meter;
        match &mut self.reading {
            Reading::Whole(body) => {
                if body.len() + chunk.len() <= METERED_BYTES {
                    body.extend_from_slice(&chunk);
                }
                chunk
            }
            Reading::Events { events, strip } => {
                let complete = events.feed(&chunk);
                for event in &complete {
                    meter.take(&event.data);
                    self.refused |= is_refusal(self.protocol, &event.data);
                }
                // Only whole events: an error of the gateway's own may have to follow.
                let is_own = |data: &[u8]| *strip && is_report_of_usage(self.account.operation, data);
                let kept = complete.into_iter().filter(|event| !is_own(&event.data));
                Bytes::from(kept.flat_map(|event| event.raw).collect::<Vec<u8>>())
            }
        }
    }

    /// The provider has said all.
    fn finish(&mut self) -> Bytes {
        let rest = match std::mem::replace(&mut self.reading, Reading::Whole(Vec::new())) {
            Reading::Whole(body) => {
                self.account.meter.take(&body);
                self.refused |= is_refusal(self.protocol, &body);
                Bytes::new()
            }
            Reading::Events { events, .. } => Bytes::from(events.finish()),
        };
        self.account.outcome = if self.refused { "refused" } else { "answered" };
        rest
    }

    /// The answer ends in its middle. A stream says so by an event of its protocol, which an SDK raises as an error.
    fn broke(&mut self, problem: String) -> Result<Bytes, String> {
        self.ended = true;
        self.account.outcome = "broken";
        if matches!(self.reading, Reading::Whole(_)) {
            return Err(problem);
        }
        let problem = Problem {
            kind: ProblemKind::Server,
            code: "model_stream_broken",
            message: format!("the answer of the model provider broke off: {problem}"),
        };
        let data = self.protocol.error(&problem);
        let event = match self.protocol {
            Protocol::Anthropic => format!("event: error\ndata: {data}\n\n"),
            Protocol::Openai => format!("data: {data}\n\n"),
        };
        Ok(Bytes::from(event))
    }
}

/// What a call comes to. It is settled however it ends: also when the agent hangs up.
pub struct Account {
    pub gateway: Arc<Gateway>,
    /// Namespace and name of the provider.
    pub place: (String, String),
    pub provider: Arc<Provider>,
    pub operation: Operation,
    pub model: String,
    pub meter: Meter,
    /// Of calls that are charged.
    pub reservation: Option<Reservation>,
    /// Sizes of what was sent and of what came back.
    pub sent: u64,
    pub received: u64,
    /// Most tokens that it may write.
    pub max_output: u64,
    /// Tokens that the limits by the minute reckoned with.
    pub expected: u64,
    pub tries: u32,
    pub began: Instant,
    pub outcome: &'static str,
}

impl Account {
    /// What the call took: as the provider reported it, or, where its answer broke off before, as much as was seen of it.
    fn tokens(&self) -> Tokens {
        let told = self.meter.tokens();
        if self.meter.is_final() {
            return told;
        }
        let seen = (self.received / BYTES_OF_A_TOKEN).min(self.max_output);
        let is_input_known = told.input + told.cache_read + told.cache_write > 0;
        Tokens {
            input: if is_input_known {
                told.input
            } else {
                self.sent.div_ceil(BYTES_OF_A_TOKEN)
            },
            output: told.output.max(seen),
            ..told
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let tokens = self.tokens();
        let amount = Amount {
            calls: 1,
            tokens,
            cost: cost(tokens, &self.provider.prices),
        };
        let was_taken = self.operation.is_charged()
            && matches!(self.outcome, "answered" | "refused" | "broken" | "hung up");
        if let Some(mut reservation) = self.reservation.take()
            && was_taken
        {
            reservation.note(amount);
        }
        let end = CallEnd {
            // Every try was reported when it failed; of a call that was given up nothing is known.
            good: match self.outcome {
                "broken" => Some(false),
                "answered" | "refused" | "error" => Some(true),
                _ => None,
            },
            expected: self.expected,
            used: if was_taken { amount } else { Amount::default() },
        };
        let limits = self.provider.limits.clone();
        settle(&self.gateway.models, self.place.clone(), limits, end);
        let metrics: &Metrics = &self.gateway.metrics;
        metrics.model_call(self.operation.path(), self.outcome, self.began.elapsed());
        if was_taken {
            metrics.model_used(amount);
        }
        tracing::info!(
            provider = self.place.1,
            model = self.model,
            operation = self.operation.path(),
            outcome = self.outcome,
            tries = self.tries,
            input_tokens = tokens.input,
            output_tokens = tokens.output,
            cache_write_tokens = tokens.cache_write,
            cache_read_tokens = tokens.cache_read,
            cost = amount.cost,
            is_final = self.meter.is_final(),
            seconds = self.began.elapsed().as_secs_f64(),
            "called a model"
        );
    }
}
