//! Why a call is not made, as the agent's SDK is told.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use stagecraft_api::error::truncate;
use stagecraft_api::model::{BUDGET_EXHAUSTED, PROBLEM_HEADER, Problem, ProblemKind, Protocol};

use super::confine::Confined;
use super::content::Reach;
use super::crowd::{BODY_BYTES, Unread};
use super::ledger::Exhausted;
use super::ledgers::BudgetError;
use super::models::NotNow;
use super::provider::ProviderError;
use crate::error::Refusal;

/// The SDKs of both providers obey it.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Tells the runner.
const PROBLEM: HeaderName = HeaderName::from_static(PROBLEM_HEADER);

/// Longest message, in bytes: texts of the agent may be part of it.
const MESSAGE_BYTES: usize = 1024;

/// What keeps a call from being made.
pub struct Denied {
    status: StatusCode,
    problem: Problem,
    /// When it makes sense to ask again; never without it.
    after: Option<Duration>,
}

impl Denied {
    pub fn new(
        status: StatusCode,
        kind: ProblemKind,
        code: &'static str,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            problem: Problem {
                kind,
                code,
                message: truncate(&message.into(), MESSAGE_BYTES),
            },
            after: None,
        }
    }

    #[must_use]
    pub fn later(self, after: Duration) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }

    pub fn code(&self) -> &'static str {
        self.problem.code
    }

    pub fn respond(self, protocol: Protocol) -> Response {
        let Self {
            status,
            problem,
            after,
        } = self;
        tracing::info!(
            status = status.as_u16(),
            code = problem.code,
            message = problem.message,
            "no call of a model"
        );
        let mut response = (status, axum::Json(protocol.error(&problem))).into_response();
        let headers = response.headers_mut();
        headers.insert(
            SHOULD_RETRY,
            HeaderValue::from_static(if after.is_some() { "true" } else { "false" }),
        );
        headers.insert(PROBLEM, HeaderValue::from_static(problem.code));
        if let Some(after) = after {
            let seconds = after.as_millis().div_ceil(1000).clamp(1, 3600);
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(u64::try_from(seconds).unwrap_or(1)),
            );
        }
        response
    }
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        let error = refusal.structured();
        let status = refusal.status();
        let kind = match status.as_u16() {
            403 => ProblemKind::Permission,
            429 => ProblemKind::Limit,
            500.. => ProblemKind::Server,
            _ => ProblemKind::Request,
        };
        Self {
            after: error
                .retry_after
                .map(|seconds| Duration::from_secs(seconds.into())),
            ..Self::new(status, kind, refusal.code(), error.message)
        }
    }
}

impl From<ProviderError> for Denied {
    fn from(error: ProviderError) -> Self {
        let message = error.to_string();
        match error {
            ProviderError::ApiServer(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ProblemKind::Server,
                "api_server_unreachable",
                message,
            )
            .later(Duration::from_secs(1)),
            ProviderError::Missing(_) | ProviderError::BuiltIn(_) | ProviderError::Unusable { .. } => {
                Self::new(
                    StatusCode::FORBIDDEN,
                    ProblemKind::Permission,
                    "model_provider_unusable",
                    message,
                )
            }
        }
    }
}

impl From<BudgetError> for Denied {
    fn from(error: BudgetError) -> Self {
        let message = match &error {
            BudgetError::Exhausted(Exhausted { is_daily: true, .. }) => {
                format!(
                    "{error}; it begins anew at 00:00 UTC, or the administrator raises models.dailyBudgets of the chart"
                )
            }
            BudgetError::Exhausted(_) => {
                format!("{error}; raise it in a new Workflow, or begin a new run with spec.retry")
            }
            BudgetError::Full(_) => format!("{error}; ask again when some of them have ended"),
            BudgetError::Store(_) | BudgetError::Busy => {
                tracing::warn!(error = %stagecraft_api::error::chain(&error), "a call of a model cannot be reckoned");
                "the gateway cannot reckon what the call would use".to_owned()
            }
        };
        match error {
            BudgetError::Exhausted(_) => Self::new(
                StatusCode::PAYMENT_REQUIRED,
                ProblemKind::Budget,
                BUDGET_EXHAUSTED,
                message,
            ),
            BudgetError::Full(_) => {
                let (status, kind) = (StatusCode::TOO_MANY_REQUESTS, ProblemKind::Limit);
                Self::new(status, kind, "budget_reserved", message).later(Duration::from_secs(5))
            }
            BudgetError::Store(_) | BudgetError::Busy => {
                let denied = Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    ProblemKind::Server,
                    "ledger_away",
                    message,
                );
                denied.later(Duration::from_secs(2))
            }
        }
    }
}

/// The Workflow names none.
pub fn no_provider() -> Denied {
    Denied::new(
        StatusCode::NOT_IMPLEMENTED,
        ProblemKind::Server,
        "no_model_provider",
        "the Workflow names no model provider: set spec.model.provider to a ModelProvider of its namespace",
    )
}

/// The attempt has as many calls under way as it may.
pub fn too_many_calls(most: usize) -> Denied {
    let message =
        format!("the attempt has {most} calls of models under way, which is the most: wait for one of them");
    let (status, kind) = (StatusCode::TOO_MANY_REQUESTS, ProblemKind::Limit);
    Denied::new(status, kind, "too_many_calls", message).later(Duration::from_secs(1))
}

/// The request could not be read.
pub fn unread(reason: Unread) -> Denied {
    match reason {
        Unread::NoMemory => {
            let message = "requests of other calls take all the memory that the gateway has for them";
            let (status, kind) = (StatusCode::SERVICE_UNAVAILABLE, ProblemKind::Server);
            Denied::new(status, kind, "gateway_busy", message).later(Duration::from_secs(2))
        }
        Unread::TooLarge | Unread::Aborted => {
            let message = format!("the request ended early, or has more than {BODY_BYTES} bytes");
            let (status, kind) = (StatusCode::PAYLOAD_TOO_LARGE, ProblemKind::Request);
            Denied::new(status, kind, "request_too_large", message)
        }
    }
}

/// The provider was asked, or could not be, and did not answer.
pub fn no_answer(problem: &str) -> Denied {
    let message = format!("the model provider did not answer: {problem}");
    let (status, kind) = (StatusCode::BAD_GATEWAY, ProblemKind::Server);
    Denied::new(status, kind, "model_provider_away", message).later(Duration::from_secs(5))
}

/// The request has its provider reach beyond it.
pub fn confined(provider: &str, error: &Confined) -> Denied {
    match error {
        Confined::Reaches(Reach { name, .. }) => {
            let message = format!(
                "{error}, which ModelProvider {provider} does not allow: leave it out, or add {name:?} to spec.serverTools of \
                 ModelProvider {provider}"
            );
            let (status, kind) = (StatusCode::FORBIDDEN, ProblemKind::Permission);
            Denied::new(status, kind, "server_tool_not_allowed", message)
        }
        Confined::Unreadable(_) => {
            let (status, kind) = (StatusCode::BAD_REQUEST, ProblemKind::Request);
            Denied::new(status, kind, "invalid_request", error.to_string())
        }
    }
}

/// The provider is left alone, or enough was sent to it.
pub fn not_now(provider: &str, reason: NotNow) -> Denied {
    match reason {
        NotNow::Open(wait) => {
            let seconds = wait.as_millis().div_ceil(1000);
            let message =
                format!("ModelProvider {provider} failed too often and is left alone for {seconds} s");
            let (status, kind) = (StatusCode::SERVICE_UNAVAILABLE, ProblemKind::Server);
            Denied::new(status, kind, "model_provider_down", message).later(wait)
        }
        NotNow::Limit(what, wait) => {
            let seconds = wait.as_millis().div_ceil(1000);
            let message = format!(
                "the limit of {what} a minute of ModelProvider {provider} is reached; there is room in {seconds} s"
            );
            let (status, kind) = (StatusCode::TOO_MANY_REQUESTS, ProblemKind::Limit);
            Denied::new(status, kind, "model_limit_reached", message).later(wait)
        }
    }
}
