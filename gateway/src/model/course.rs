//! An answer on its way to the agent, and what it comes to.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http_body::Frame;
use http_body_util::StreamBody;
use stagecraft_api::model::{BROKEN, PROBLEM_HEADER, Problem, ProblemKind, Protocol, REFUSED};
use tokio::time::timeout;

use super::account::{Account, Outcome};
use super::denied::{Denied, no_answer};
use super::ending::{Word, word};
use super::ledgers::LONGEST_CALL;
use super::redact::Redactor;
use super::refused::is_refusal;
use super::sse::{Event, Events};
use super::upstream::{AFTER_AGENT, Answer, Begun, silence};
use super::usage::is_report_of_usage;

/// Longest answer that is no stream of which the usage is read, in bytes.
const METERED_BYTES: usize = 8 * 1024 * 1024;
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
pub fn pass(answered: Answer, account: Account, strip: bool) -> Result<Response, Denied> {
    let provider = account.provider.clone();
    match answered {
        Answer::Away(problem) | Answer::Lost(problem) => Err(no_answer(&problem)),
        Answer::GivenUp => Err(no_answer("the agent left")),
        Answer::Bad {
            status,
            headers,
            body,
        } => {
            let redactor = provider.redactor();
            let mut response = Response::new(Body::from(redactor.whole(body)));
            *response.status_mut() = status;
            copy(&headers, response.headers_mut(), &redactor);
            Ok(response)
        }
        Answer::Good(Begun {
            upstream,
            first,
            is_stream,
        }) => {
            let (status, headers) = (upstream.status(), upstream.headers().clone());
            let redactor = provider.redactor();
            let course = Course {
                redactor: redactor.clone(),
                upstream,
                first,
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
                is_whole: false,
                end: None,
                ended: false,
            };
            let mut response = Response::new(Body::new(StreamBody::new(course.frames())));
            *response.status_mut() = status;
            copy(&headers, response.headers_mut(), &redactor);
            let announced = HeaderValue::from_static(PROBLEM_HEADER);
            response.headers_mut().insert(header::TRAILER, announced);
            Ok(response)
        }
    }
}

fn copy(from: &HeaderMap, to: &mut HeaderMap, redactor: &Redactor) {
    for name in RESPONSE_HEADERS {
        let value = from
            .get(name)
            .map(|value| Bytes::copy_from_slice(value.as_bytes()));
        if let Some(Ok(value)) = value.map(|value| HeaderValue::from_maybe_shared(redactor.whole(value))) {
            to.insert(HeaderName::from_static(name), value);
        }
    }
}

/// An answer under way.
struct Course {
    upstream: reqwest::Response,
    /// What of it was read before it was passed on.
    first: Bytes,
    redactor: Redactor,
    account: Account,
    limit: Duration,
    protocol: Protocol,
    reading: Reading,
    /// Whether a stream said all that belongs to its answer.
    is_whole: bool,
    /// How the answer itself says that it ends, where it ends otherwise than well.
    end: Option<Outcome>,
    ended: bool,
}

/// How its usage is read.
enum Reading {
    Events { events: Events, strip: bool },
    Whole(Vec<u8>),
}

impl Course {
    /// The answer, and in a trailer whether the model refused, or the answer broke off.
    fn frames(self) -> impl stream::Stream<Item = Result<Frame<Bytes>, String>> + Send {
        stream::unfold(Some(Watched(Some(self))), |watched| async move {
            let mut watched = watched?;
            let course = watched.0.as_mut()?;
            while !course.ended {
                let chunk = course.next().await;
                if !chunk.as_ref().is_ok_and(Bytes::is_empty) {
                    return Some((chunk.map(Frame::data), Some(watched)));
                }
            }
            let code = match course.account.outcome {
                Outcome::Refused => HeaderValue::from_static(REFUSED),
                Outcome::Broken | Outcome::Interrupted => HeaderValue::from_static(BROKEN),
                _ => return None,
            };
            let name = HeaderName::from_static(PROBLEM_HEADER);
            Some((Ok(Frame::trailers(HeaderMap::from_iter([(name, code)]))), None))
        })
    }

    /// Reads the rest, of which nobody hears any more.
    async fn read_on(mut self) {
        let reading = async {
            while !self.ended {
                let _ = self.next().await;
            }
        };
        if timeout(AFTER_AGENT, reading).await.is_err() {
            self.account.is_hidden = true;
        }
    }

    /// What is passed on next; nothing of it where a piece completed no event that the agent is to see.
    async fn next(&mut self) -> Result<Bytes, String> {
        let first = std::mem::take(&mut self.first);
        if !first.is_empty() {
            return Ok(self.pass(first));
        }
        let left = LONGEST_CALL.saturating_sub(self.account.began.elapsed());
        match timeout(self.limit.min(left), self.upstream.chunk()).await {
            Ok(Ok(Some(chunk))) => Ok(self.pass(chunk)),
            Ok(Ok(None)) => self.finish(),
            Ok(Err(error)) => self.broke(&stagecraft_api::error::chain(&error.without_url())),
            Err(_) if left < self.limit => self.broke("it went on for too long"),
            Err(_) => self.broke(&silence(self.limit)),
        }
    }

    fn pass(&mut self, chunk: Bytes) -> Bytes {
        let taken = self.take(chunk);
        self.redactor.feed(taken)
    }

    fn take(&mut self, chunk: Bytes) -> Bytes {
        self.account.received = self.account.received.saturating_add(chunk.len() as u64);
        match &mut self.reading {
            Reading::Whole(body) => {
                if body.len() + chunk.len() <= METERED_BYTES {
                    body.extend_from_slice(&chunk);
                }
                chunk
            }
            Reading::Events { events, .. } => {
                // Only whole events: an error of the gateway's own may have to follow.
                let complete = events.feed(&chunk);
                let kept = complete.into_iter().filter(|event| self.hear(event));
                Bytes::from(kept.flat_map(|event| event.raw).collect::<Vec<u8>>())
            }
        }
    }

    /// Reads an event. False when it is for the gateway alone.
    fn hear(&mut self, event: &Event) -> bool {
        self.read(&event.data);
        let Reading::Events { strip: true, .. } = self.reading else {
            return true;
        };
        !is_report_of_usage(self.account.operation, &event.data)
    }

    fn read(&mut self, data: &[u8]) {
        self.account.meter.take(data);
        if is_refusal(self.protocol, data) {
            self.end = self.end.or(Some(Outcome::Refused));
        }
        match word(self.protocol, data) {
            Word::Other => {}
            Word::Whole => self.is_whole = true,
            Word::Last => {
                self.is_whole = true;
                self.account.outcome = self.end.unwrap_or(Outcome::Answered);
                self.account.settle();
            }
            Word::Error(complaint) if complaint.is_failure() => self.end = Some(Outcome::Broken),
            Word::Error(_) => self.end = Some(Outcome::Interrupted),
        }
    }

    /// The provider has said all.
    fn finish(&mut self) -> Result<Bytes, String> {
        let rest = match std::mem::replace(&mut self.reading, Reading::Whole(Vec::new())) {
            Reading::Whole(body) => {
                self.read(&body);
                self.is_whole = true;
                Bytes::new()
            }
            Reading::Events { events, strip } => {
                let last = events.finish();
                self.read(&last.data);
                if !self.is_whole && self.end.is_none_or(|end| end == Outcome::Refused) {
                    self.reading = Reading::Events {
                        events: Events::default(),
                        strip,
                    };
                    return self.broke("it ended before its last word");
                }
                Bytes::from(last.raw)
            }
        };
        self.ended = true;
        self.account.outcome = self.end.unwrap_or(Outcome::Answered);
        let rest = [self.redactor.feed(rest), self.redactor.finish()];
        Ok(Bytes::from(rest.concat()))
    }

    /// The answer ends in its middle. A stream says so by an event of its protocol, which an SDK raises as an error.
    fn broke(&mut self, problem: &str) -> Result<Bytes, String> {
        self.ended = true;
        self.account.outcome = Outcome::Broken;
        if matches!(self.reading, Reading::Whole(_)) {
            self.account.is_hidden = true;
            return Err(problem.to_owned());
        }
        let problem = Problem {
            kind: ProblemKind::Server,
            code: BROKEN,
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

/// An answer that is read to its end also when the agent does not: what it took is known there.
struct Watched(Option<Course>);

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(course) = self.0.take().filter(|course| !course.ended) {
            let background = course.account.gateway.background.clone();
            background.spawn(course.read_on());
        }
    }
}
