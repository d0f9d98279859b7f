use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body as ResponseBody;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{AFTER, BEFORE, Fate, Process};
use crate::api_server::{Answer, Call, Changes, Outcome, bookmark_line, error_line, line};
use crate::world::sleep;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// The transport of a kube client.
#[derive(Clone)]
pub struct ApiLink(pub Arc<Process>);

impl tower::Service<Request<Body>> for ApiLink {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Self::Response, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let process = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await?;
            match Call::parse(&head) {
                Ok(call) => transact(process, call, body).await,
                Err(answer) => Ok(refusal(&answer)),
            }
        })
    }
}

async fn transact(process: Arc<Process>, call: Call, body: Bytes) -> Result<Response<ResponseBody>, Error> {
    let (world, what) = (&process.world, kind(&call));
    let sent = world.journal.step();
    let fate = process.send(&what).await;
    if fate == Fate::Lost {
        return Err("connection reset before the request was sent".into());
    }
    let is_write = call.method != Method::GET;
    if is_write && fate == Fate::Late {
        let (process, delay) = (process.clone(), process.generator.millis(9_000, 60_000));
        let late = process.clone();
        tokio::spawn(async move {
            sleep(delay).await;
            if is_told(&call) {
                late.world.note(|| format!("{}: {call} lands late", late.name));
            }
            serve(&late, &call, &body, sent);
        });
        sleep(process.generator.millis(9_000, 20_000)).await;
        process.pass(&what, AFTER).await;
        return Err("the request timed out".into());
    }
    let may_conflict = call.method == Method::PATCH && call.is_status() && world.is_rough();
    if may_conflict {
        world.counts.count(STATUS_PATCHES);
    }
    if may_conflict && process.generator.percent(world.conflicts) {
        world.counts.count(CONFLICTS);
        process.receive(&what).await;
        return Ok(refusal(&Answer::new(
            409,
            "Conflict",
            "another writer was quicker",
        )));
    }
    let outcome = serve(&process, &call, &body, sent);
    if is_write && is_told(&call) {
        world.note(|| format!("{}: {call}: {}", process.name, summary(&outcome, fate)));
    }
    if fate == Fate::ReplyLost {
        return Err("connection reset before the reply came".into());
    }
    process.receive(&what).await;
    Ok(match outcome {
        Outcome::Reply { code, body } => response(code, ResponseBody::from(body)),
        Outcome::Watch {
            resource,
            changes,
            time,
            bookmarks,
        } => {
            let watch = Watch {
                ended: false,
                until: Instant::now() + time,
                bookmark: bookmarks.then_some(resource),
                process,
                changes,
            };
            response(200, ResponseBody::from_stream(watch.lines()))
        }
    })
}

/// Serves a request, and takes down who wrote the status of a Workflow.
fn serve(process: &Process, call: &Call, body: &Bytes, sent: u64) -> Outcome {
    let (server, journal) = (&process.world.server, &process.world.journal);
    let before = server.revision();
    let outcome = server.serve(call, body);
    let revision = server.revision();
    if revision > before && call.resource.kind == "Workflow" {
        journal.wrote(&process.name, sent, revision);
    }
    outcome
}

/// Status patches while it is rough, and those of them that meet a conflict without a reason.
pub const STATUS_PATCHES: &str = "status patches in rough weather";
pub const CONFLICTS: &str = "conflicts";

/// What a request does, whatever its object: `PATCH workflows/status`.
fn kind(call: &Call) -> String {
    let status = if call.is_status() { "/status" } else { "" };
    format!("{} {}{status}", call.method, call.resource.plural)
}

/// Events and the built-ins tell nobody anything.
fn is_told(call: &Call) -> bool {
    !matches!(call.resource.kind, "Event" | "Agent" | "WorkflowTemplate")
}

/// An answer, for people.
fn summary(outcome: &Outcome, fate: Fate) -> String {
    let Outcome::Reply { code, body } = outcome else {
        return String::new();
    };
    let object: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |path: &str| object.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let stages = object.pointer("/status/stages").and_then(Value::as_array);
    let stages: Vec<String> = stages.into_iter().flatten().map(stage).collect();
    let fate = if fate == Fate::Good {
        String::new()
    } else {
        format!(" ({fate:?})")
    };
    format!(
        "{code}{fate} {} {} {} {}",
        text("/metadata/name"),
        text("/metadata/resourceVersion"),
        text("/status/phase"),
        stages.join(", ")
    )
}

/// `name run.round.attempt phase`.
fn stage(stage: &Value) -> String {
    let text = |field: &str| {
        stage
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let number = |field: &str| stage.get(field).and_then(Value::as_u64).unwrap_or(0);
    let (run, round, attempt) = (number("run"), number("round"), number("attempt"));
    format!("{} {run}.{round}.{attempt} {}", text("name"), text("phase"))
}

fn refusal(answer: &Answer) -> Response<ResponseBody> {
    response(answer.code, ResponseBody::from(answer.status().to_string()))
}

fn response(code: u16, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

/// An open watch. What it tells is late by a lag of its own, and it may tell it twice, or end.
struct Watch {
    process: Arc<Process>,
    changes: Changes,
    until: Instant,
    bookmark: Option<&'static crate::api_server::Resource>,
    ended: bool,
}

impl Watch {
    fn lines(self) -> BoxStream<'static, Result<Bytes, Error>> {
        stream::unfold(self, |mut watch| async move {
            let lines = watch.next().await?;
            Some((lines, watch))
        })
        .boxed()
    }

    /// What is to be told next; none when the watch has ended.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.ended {
            return None;
        }
        let Ok(change) = timeout_at(self.until, self.changes.next()).await else {
            self.ended = true;
            let revision = self.process.world.server.revision();
            return self
                .bookmark
                .map(|resource| Ok(bookmark_line(resource, revision)));
        };
        let (process, world) = (&self.process, &self.process.world);
        let lag = match (world.is_rough(), process.generator.below(100)) {
            (true, 0) => process.generator.millis(5_000, 30_000),
            (true, 1..15) => process.generator.millis(200, 5_000),
            _ => process.generator.millis(0, 50),
        };
        sleep(lag).await;
        process.pass("an event of a watch", BEFORE).await;
        if world.strikes(&process.generator, 3) {
            world.counts.count("watches broken");
            self.ended = true;
            return process
                .generator
                .percent(50)
                .then(|| Err("the connection was reset".into()));
        }
        let mut lines = Vec::new();
        let mut next = change.map(Some);
        loop {
            match next {
                Ok(Some(change)) => {
                    let line = line(&change);
                    lines.extend_from_slice(&line);
                    if world.strikes(&process.generator, 4) {
                        world.counts.count("watch events repeated");
                        lines.extend_from_slice(&line);
                    }
                }
                Ok(None) => break,
                Err(answer) => {
                    world.counts.count("watches answered with 410");
                    lines.extend_from_slice(&error_line(&answer));
                    self.ended = true;
                    break;
                }
            }
            next = self.changes.known();
        }
        Some(Ok(Bytes::from(lines)))
    }
}
