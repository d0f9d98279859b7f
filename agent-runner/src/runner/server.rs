//! What agent and launcher reach on loopback. ARCHITECTURE.md, "A stage Pod", has the table.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use serde_json::json;
use stagecraft_api::error::truncate;
use stagecraft_api::protocol::EventKind;
use tracing::Instrument as _;

use super::events::Events;
use super::journal::{Journal, JournalError};
use crate::loopback::{Action, AgentMessage, ExitReport, Instruction, LONG_POLL};
use stagecraft_api::error::chain;

/// Longest body of a request.
const BODY_BYTES: usize = 64 * 1024;
/// Longest end of output that is kept, in bytes of JSON.
const TAIL_BYTES: usize = 8 * 1024;
/// The SDKs of both providers try again on 501 unless this says no.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
const NO_PROVIDER: &str = "no model provider is connected to this Stagecraft installation";

#[derive(Clone)]
pub struct Server {
    pub journal: Arc<Journal>,
    pub events: Events,
}

/// The routes. What they log carries the span in which this is called.
pub fn router(server: Server) -> Router {
    let span = tracing::Span::current();
    Router::new()
        .route("/v1/task", get(task))
        .route("/v1/events", post(progress))
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

async fn anthropic() -> Response {
    let body = json!({"type": "error", "error": {"type": "api_error", "message": NO_PROVIDER}});
    (StatusCode::NOT_IMPLEMENTED, [(SHOULD_RETRY, "false")], Json(body)).into_response()
}

async fn openai() -> Response {
    let body = json!({"error": {
        "message": NO_PROVIDER,
        "type": "server_error",
        "param": null,
        "code": "no_model_provider",
    }});
    (StatusCode::NOT_IMPLEMENTED, [(SHOULD_RETRY, "false")], Json(body)).into_response()
}
