//! What agent and launcher reach on loopback. ARCHITECTURE.md, "A stage Pod", has the table.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde::Serialize;
use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use stagecraft_api::model::Protocol;
use stagecraft_api::protocol::{ErrorReply, EventKind};
use tracing::Instrument as _;

use super::events::Events;
use super::evidence::session::{Session, SessionError};
use super::image::{ImageError, Images};
use super::journal::{Journal, JournalError};
use super::models::{self, Models};
use crate::loopback::{Action, AgentMessage, ExitReport, Instruction, LONG_POLL, REPORT_BYTES};
use stagecraft_api::error::chain;

/// Longest body of a request.
const BODY_BYTES: usize = 64 * 1024;
/// Longest result that is handed in with evidence.
#[expect(clippy::cast_possible_truncation, reason = "it is a quarter of a mebibyte")]
const RESULT_BYTES: usize = limit::RESULT_FILE_BYTES as usize;
/// Longest end of output that is kept, in bytes of JSON.
const TAIL_BYTES: usize = 8 * 1024;

#[derive(Clone)]
pub struct Server {
    pub journal: Arc<Journal>,
    pub events: Events,
    pub images: Arc<Images>,
    pub session: Arc<Session>,
    pub models: Models,
}

/// The routes. What they log carries the span in which this is called.
pub fn router(server: Server) -> Router {
    let span = tracing::Span::current();
    // Whoever has no key is refused before a byte of what it sends is read.
    let evidence = Router::new()
        .route(
            "/v1/evidence/reports",
            post(report).layer(DefaultBodyLimit::max(REPORT_BYTES + BODY_BYTES)),
        )
        .route(
            "/v1/evidence/result",
            post(result).layer(DefaultBodyLimit::max(RESULT_BYTES)),
        )
        .route_layer(middleware::from_fn_with_state(server.clone(), admit));
    Router::new()
        .route("/v1/task", get(task))
        .route("/v1/events", post(progress))
        .route("/v1/images", post(image))
        .route("/v1/evidence", post(open_evidence))
        .merge(evidence)
        .route("/launcher/started", post(started))
        .route("/launcher/exited", post(exited))
        .route("/launcher/instruction", get(instruction))
        .route("/anthropic/{*path}", any(anthropic))
        .route("/openai/{*path}", any(openai))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            next.run(request).instrument(span.clone())
        }))
        .with_state(server)
}

async fn task(State(server): State<Server>) -> Response {
    match &server.journal.read().claim {
        Some(claim) => Json(&claim.reply.envelope).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "the task is not claimed yet\n").into_response(),
    }
}

/// Takes JSON whatever its content type says: shell scripts are agents too.
async fn progress(State(server): State<Server>, body: Bytes) -> Response {
    let message: AgentMessage = match serde_json::from_slice(&body) {
        Ok(message) => message,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    let status = if server
        .events
        .put(EventKind::Progress, &message.message, message.fields)
    {
        StatusCode::NO_CONTENT
    } else {
        StatusCode::TOO_MANY_REQUESTS
    };
    status.into_response()
}

/// Pushes an image that the agent made. Takes JSON whatever its content type says.
async fn image(State(server): State<Server>, body: Bytes) -> Response {
    let pushed = match serde_json::from_slice(&body) {
        Ok(request) => server.images.push(&request).await,
        Err(error) => Err(ImageError::Request(error)),
    };
    match pushed {
        Ok(reply) => Json(reply).into_response(),
        Err(error) => {
            let (status, error) = error.reply();
            tracing::warn!(%status, code = error.code, message = error.message, "the image was not pushed");
            (status, Json(ErrorReply { error })).into_response()
        }
    }
}

async fn open_evidence(State(server): State<Server>, body: Bytes) -> Response {
    evidence(server.session.open(&body))
}

async fn report(State(server): State<Server>, body: Bytes) -> Response {
    evidence(server.session.report(&body).await)
}

async fn result(State(server): State<Server>, body: Bytes) -> Response {
    evidence(server.session.result(&body))
}

async fn admit(State(server): State<Server>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(AUTHORIZATION);
    let admitted = server
        .session
        .admits(authorization.and_then(|value| value.to_str().ok()));
    match admitted {
        Ok(()) => next.run(request).await,
        Err(error) => evidence::<()>(Err(error)),
    }
}

fn evidence<T: Serialize>(taken: Result<T, SessionError>) -> Response {
    match taken {
        Ok(reply) => Json(reply).into_response(),
        Err(error) => {
            let (status, error) = error.reply();
            tracing::warn!(%status, code = error.code, message = error.message, "evidence was not taken");
            (status, Json(ErrorReply { error })).into_response()
        }
    }
}

async fn started(State(server): State<Server>) -> Response {
    let mut first = false;
    let written = server.journal.update(|progress| {
        first = !progress.launched;
        progress.launched = true;
    });
    if first && written.is_ok() {
        tracing::info!("the agent's command runs");
        server.events.runner("the agent's command runs");
    }
    answer(written)
}

async fn exited(State(server): State<Server>, Json(mut report): Json<ExitReport>) -> Response {
    report.output_tail = truncate(&report.output_tail, TAIL_BYTES);
    let exit_code = report.exit_code;
    let mut first = false;
    // The first report counts: after it only the launcher is left.
    let written = server.journal.update(|progress| {
        first = progress.exit.is_none();
        progress.launched = true;
        progress.exit.get_or_insert(report);
    });
    if first && written.is_ok() {
        tracing::info!(exit_code, "the agent's command ended");
        server
            .events
            .runner(&format!("the agent's command ended with status {exit_code}"));
    }
    answer(written)
}

async fn instruction(State(server): State<Server>) -> Json<Instruction> {
    let due = server.journal.wait(|progress| {
        let instruction = progress.instruction();
        (instruction.action != Action::Continue).then_some(instruction)
    });
    let waited = tokio::time::timeout(LONG_POLL, due).await;
    Json(waited.unwrap_or(Instruction {
        action: Action::Continue,
        exit_code: 0,
    }))
}

fn answer(written: Result<(), JournalError>) -> Response {
    match written {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => {
            tracing::error!(error = %chain(&error), "progress cannot be kept");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn anthropic(State(server): State<Server>, Path(path): Path<String>, request: Request) -> Response {
    model(&server, Protocol::Anthropic, &path, request).await
}

async fn openai(State(server): State<Server>, Path(path): Path<String>, request: Request) -> Response {
    model(&server, Protocol::Openai, &path, request).await
}

async fn model(server: &Server, protocol: Protocol, path: &str, request: Request) -> Response {
    let names_a_provider = {
        let progress = server.journal.read();
        let claim = progress.claim.as_ref();
        claim.is_some_and(|claim| claim.reply.envelope.model.is_some())
    };
    if names_a_provider {
        server.models.call(protocol, path, request).await
    } else {
        models::none(protocol)
    }
}
