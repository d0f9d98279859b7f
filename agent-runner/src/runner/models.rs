//! Calls of models: the agent speaks to loopback as to a provider, and the gateway hears who it is.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use stagecraft_api::error::{chain, truncate};
use stagecraft_api::failure::MODEL_REFUSED;
use stagecraft_api::model::{
    BUDGET_EXHAUSTED, Operation, PROBLEM_HEADER, Problem, ProblemKind, Protocol, REFUSED,
};
use stagecraft_api::{Category, Moment, StructuredError};

use super::gateway::Gateway;
use super::journal::Journal;

/// The SDKs of both providers try again on 501 unless this says no.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Headers of the agent that are passed on. Keys are not: those that it has are made up.
const REQUEST_HEADERS: [&str; 6] = [
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "content-type",
    "openai-beta",
    "user-agent",
];
/// Headers of connections, which end here.
const OF_CONNECTION: [&str; 4] = ["connection", "content-length", "trailer", "transfer-encoding"];

/// Longest body of an answer that the gateway itself made, in bytes.
const PROBLEM_BYTES: usize = 64 * 1024;
/// How long an agent may go on after its budget is used up, to end by itself.
pub const EXHAUSTED_GRACE: Duration = Duration::from_secs(30);

/// Why the agent's last call of a model came to nothing. An attempt that fails after it failed of it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ModelTrouble {
    /// When it began.
    pub since: Moment,
    pub kind: TroubleKind,
    /// For a person.
    pub message: String,
    /// Seconds after which it may be over.
    pub retry_after: Option<u32>,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum TroubleKind {
    /// A budget is used up.
    Exhausted,
    /// The provider is overloaded, away, or left alone.
    Away,
    /// The model refused to go on.
    Refused,
}

impl ModelTrouble {
    /// When the agent is stopped; none while it may go on.
    pub fn stops_at(&self) -> Option<Moment> {
        let grace = u64::try_from(EXHAUSTED_GRACE.as_millis()).unwrap_or(0);
        (self.kind == TroubleKind::Exhausted).then(|| self.since.plus_millis(grace))
    }

    /// What an attempt failed of that failed because of it.
    pub fn structured(&self) -> StructuredError {
        match self.kind {
            TroubleKind::Exhausted => {
                let error = StructuredError::new("ModelBudgetExhausted", Category::Resource, &self.message);
                StructuredError { retryable: false, ..error }
                    .suggest("see status.models for what was used; give a new Workflow a larger budget, or begin a new run with spec.retry")
            }
            TroubleKind::Away => {
                let message = format!(
                    "the agent gave up because its model could not be called: {}",
                    self.message
                );
                let error = StructuredError::new("ModelUnavailable", Category::Dependency, message);
                StructuredError {
                    retry_after: self.retry_after,
                    ..error
                }
                .suggest("see the status of the ModelProvider; the stage is tried again")
            }
            TroubleKind::Refused => {
                let error = StructuredError::new(MODEL_REFUSED, Category::Dependency, &self.message);
                StructuredError {
                    retryable: false,
                    ..error
                }
                .suggest("see what the stage asks of its model; retryPolicy.model has it asked again, spec.model names another model")
            }
        }
    }
}

/// The way to models.
#[derive(Clone)]
pub struct Models {
    pub gateway: Arc<Gateway>,
    pub journal: Arc<Journal>,
}

impl Models {
    /// Passes a call on and its answer back, both as they come. `path` is what stands below the base URL of the agent's SDK.
    pub async fn call(&self, protocol: Protocol, path: &str, request: Request) -> Response {
        let (head, body) = request.into_parts();
        // The rest of the gateway is the runner's alone: no path of the agent's leads there.
        let Some(operation) = Operation::of(protocol, head.method.as_str(), path) else {
            return unknown(protocol, head.method.as_str(), path);
        };
        let kept = REQUEST_HEADERS.iter().filter_map(|name| {
            let value = head.headers.get(*name)?.clone();
            Some((HeaderName::from_static(name), value))
        });
        let headers: HeaderMap = kept.collect();
        let body = reqwest::Body::wrap_stream(body.into_data_stream());
        let path = format!("{}/{}", protocol.as_str(), operation.path());
        match self.gateway.call_model(head.method, &path, headers, body).await {
            Ok(answer) => self.pass(answer).await,
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a call of a model did not reach the gateway");
                let message = "the gateway of Stagecraft cannot be reached at the moment";
                self.note(Some((TroubleKind::Away, message.to_owned(), Some(2))));
                let problem = Problem {
                    kind: ProblemKind::Server,
                    code: "gateway_away",
                    message: message.to_owned(),
                };
                let mut response =
                    (StatusCode::SERVICE_UNAVAILABLE, Json(protocol.error(&problem))).into_response();
                response
                    .headers_mut()
                    .insert(RETRY_AFTER, HeaderValue::from_static("2"));
                response
            }
        }
    }

    async fn pass(&self, answer: reqwest::Response) -> Response {
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let problem = headers.remove(PROBLEM_HEADER);
        for name in OF_CONNECTION {
            headers.remove(name);
        }
        let is_away = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let after = headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        let body = if let Some(code) = problem {
            // The gateway's own words, and short.
            let words = axum::body::to_bytes(Body::from_stream(answer.bytes_stream()), PROBLEM_BYTES).await;
            let words = words.unwrap_or_default();
            if code == BUDGET_EXHAUSTED {
                self.note(Some((TroubleKind::Exhausted, message(&words), None)));
            } else if is_away {
                self.note(Some((TroubleKind::Away, message(&words), after)));
            }
            Body::from(words)
        } else {
            let trouble = is_away.then(|| {
                (
                    TroubleKind::Away,
                    format!("the provider answered with status {status}"),
                    after,
                )
            });
            if trouble.is_some() || status.is_success() {
                self.note(trouble);
            }
            let models = self.clone();
            let body = axum::http::Response::from(answer).into_body();
            Body::new(body.map_frame(move |frame| {
                let trailer = frame
                    .trailers_ref()
                    .and_then(|trailers| trailers.get(PROBLEM_HEADER));
                if trailer.is_some_and(|code| code == REFUSED) {
                    let message = "the agent gave up after its model had refused to go on";
                    models.note(Some((TroubleKind::Refused, message.to_owned(), None)));
                }
                frame
            }))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Keeps what the last call told. A budget that is used up stays so.
    fn note(&self, trouble: Option<(TroubleKind, String, Option<u32>)>) {
        let kind = |known: &Option<ModelTrouble>| known.as_ref().map(|trouble| trouble.kind);
        let known = kind(&self.journal.read().model_trouble);
        let is_new = known != trouble.as_ref().map(|(kind, ..)| *kind);
        if !is_new || known == Some(TroubleKind::Exhausted) {
            return;
        }
        let written = self.journal.update(|progress| {
            progress.model_trouble = trouble.map(|(kind, message, retry_after)| ModelTrouble {
                since: Moment::now(),
                kind,
                message,
                retry_after,
            });
        });
        if let Err(error) = written {
            tracing::error!(error = %chain(&error), "progress cannot be kept");
        }
    }
}

/// The message of an error's body; both protocols have it in the same place.
fn message(body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let message = value
        .pointer("/error/message")
        .and_then(serde_json::Value::as_str);
    message.unwrap_or("no reason was given").to_owned()
}

/// The answer to what no provider is asked for.
fn unknown(protocol: Protocol, method: &str, path: &str) -> Response {
    let problem = Problem {
        kind: ProblemKind::NotFound,
        code: "not_found",
        message: format!(
            "Stagecraft passes no {method} {} on to a provider",
            truncate(path, 200)
        ),
    };
    let body = Json(protocol.error(&problem));
    (StatusCode::NOT_FOUND, [(SHOULD_RETRY, "false")], body).into_response()
}

/// The answer where the Workflow names no provider.
pub fn none(protocol: Protocol) -> Response {
    let problem = Problem {
        kind: ProblemKind::Server,
        code: "no_model_provider",
        message: "the Workflow names no model provider: set spec.model.provider to a ModelProvider of its namespace".to_owned(),
    };
    let body = Json(protocol.error(&problem));
    (StatusCode::NOT_IMPLEMENTED, [(SHOULD_RETRY, "false")], body).into_response()
}
