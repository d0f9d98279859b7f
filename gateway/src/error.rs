//! Why a request is refused, and how that looks on the wire.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use stagecraft_api::protocol::ErrorReply;
use stagecraft_api::{Category, Digest, StructuredError};

use crate::registry::RegistryError;
use crate::store::StoreError;

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("the request needs a bearer token of the audience stagecraft-gateway")]
    NoToken,
    #[error("the token was not accepted: {0}")]
    BadToken(String),
    #[error("too many failed authentications from this address")]
    TooManyFailures { wait: Duration },
    #[error("this part of the API is not for the caller")]
    NotForCaller,
    #[error("the Pod belongs to no attempt: {0}")]
    NoAttempt(String),
    #[error("the attempt is not the current one: {0}")]
    NotCurrent(String),
    #[error("another Pod is bound to this attempt")]
    OtherPod,
    #[error("attempt {granted} of this stage was granted since")]
    Fenced { granted: u32 },
    #[error("this Pod has not claimed its task")]
    NotClaimed,
    #[error("the blob {0} is neither in the task nor uploaded in this attempt")]
    NotOwn(Digest),
    #[error("there is nothing at this address")]
    NotFound,
    #[error("the blob {0} is not in the store")]
    NoBlob(Digest),
    #[error("there is no result of this attempt")]
    NoResult,
    #[error("{what} is over the limit of {bytes} bytes")]
    TooLarge { what: &'static str, bytes: u64 },
    #[error("{0}")]
    Invalid(String),
    #[error("the content has the digest {found}, not {stated}")]
    DigestMismatch { stated: Digest, found: Digest },
    #[error("the body ended early")]
    Aborted,
    #[error("too many {what}")]
    TooMany { what: &'static str, wait: Duration },
    #[error("the API server cannot be asked: {0}")]
    ApiServer(String),
    #[error("the store is out of reach")]
    Store(#[from] StoreError),
    #[error("the gateway is busy")]
    Busy,
    #[error("this is for attempts of the agent {wanted} alone, and the attempt is of {found}")]
    WrongAgent { wanted: &'static str, found: String },
    #[error("the branch {wanted} is not the one of the caller's task, which is {own}")]
    NotOwnBranch { wanted: String, own: String },
    #[error("there is no branch {0}")]
    NoBranch(String),
    #[error("the branch {branch} does not stand where the request says: {}", standing(tip.as_deref()))]
    BranchMoved { branch: String, tip: Option<String> },
    #[error("attempt {attempt} of this stage has moved the branch {branch} already, to {commit}")]
    AlreadyMoved {
        branch: String,
        attempt: u32,
        commit: String,
    },
    #[error("the installation has no image registry")]
    RegistryNotConfigured,
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Refusal {
    /// Stable identifier, for replies and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoToken => "NoToken",
            Self::BadToken(_) => "BadToken",
            Self::TooManyFailures { .. } => "TooManyFailures",
            Self::NotForCaller => "NotForCaller",
            Self::NoAttempt(_) => "NoAttempt",
            Self::NotCurrent(_) => "NotCurrent",
            Self::OtherPod => "OtherPod",
            Self::Fenced { .. } => "Fenced",
            Self::NotClaimed => "NotClaimed",
            Self::NotOwn(_) => "NotOwn",
            Self::NotFound => "NotFound",
            Self::NoBlob(_) => "NoBlob",
            Self::NoResult => "NoResult",
            Self::TooLarge { .. } => "TooLarge",
            Self::Invalid(_) => "Invalid",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::Aborted => "Aborted",
            Self::TooMany { .. } => "TooManyRequests",
            Self::ApiServer(_) => "ApiServerUnreachable",
            Self::Store(_) => "StoreUnreachable",
            Self::Busy => "Busy",
            Self::WrongAgent { .. } => "WrongAgent",
            Self::NotOwnBranch { .. } => "NotOwnBranch",
            Self::NoBranch(_) => "NoBranch",
            Self::BranchMoved { .. } => "BranchMoved",
            Self::AlreadyMoved { .. } => "AlreadyMoved",
            Self::RegistryNotConfigured => "RegistryNotConfigured",
            Self::Registry(RegistryError::Unavailable { .. }) => "RegistryUnavailable",
            Self::Registry(_) => "RegistryRefused",
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::BadToken(_) => StatusCode::UNAUTHORIZED,
            Self::NotForCaller
            | Self::NoAttempt(_)
            | Self::NotOwn(_)
            | Self::WrongAgent { .. }
            | Self::NotOwnBranch { .. } => StatusCode::FORBIDDEN,
            Self::NotFound | Self::NoBlob(_) | Self::NoResult | Self::NoBranch(_) => StatusCode::NOT_FOUND,
            Self::NotCurrent(_)
            | Self::OtherPod
            | Self::Fenced { .. }
            | Self::NotClaimed
            | Self::BranchMoved { .. }
            | Self::AlreadyMoved { .. } => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Invalid(_) | Self::DigestMismatch { .. } | Self::RegistryNotConfigured => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::Aborted => StatusCode::BAD_REQUEST,
            Self::TooManyFailures { .. } | Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::ApiServer(_)
            | Self::Store(_)
            | Self::Busy
            | Self::Registry(RegistryError::Unavailable { .. }) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Registry(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// Seconds after which it makes sense to ask again.
    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TooManyFailures { wait } | Self::TooMany { wait, .. } => Some(
                u32::try_from(wait.as_millis().div_ceil(1000))
                    .unwrap_or(60)
                    .max(1),
            ),
            Self::ApiServer(_) | Self::Store(_) | Self::Busy => Some(1),
            Self::Registry(RegistryError::Unavailable { .. }) => Some(5),
            _ => None,
        }
    }

    fn category(&self) -> Category {
        match self {
            Self::NoToken
            | Self::BadToken(_)
            | Self::NotForCaller
            | Self::NoAttempt(_)
            | Self::WrongAgent { .. }
            | Self::RegistryNotConfigured
            | Self::Registry(RegistryError::Denied { .. }) => Category::Configuration,
            Self::NotCurrent(_)
            | Self::OtherPod
            | Self::Fenced { .. }
            | Self::NotClaimed
            | Self::NotOwn(_)
            | Self::NotFound
            | Self::NoBlob(_)
            | Self::NoResult
            | Self::NotOwnBranch { .. }
            | Self::NoBranch(_)
            | Self::AlreadyMoved { .. }
            | Self::Invalid(_)
            | Self::DigestMismatch { .. } => Category::Validation,
            Self::TooManyFailures { .. } | Self::TooLarge { .. } | Self::TooMany { .. } | Self::Busy => {
                Category::Resource
            }
            Self::Aborted | Self::ApiServer(_) => Category::Network,
            Self::Store(_) | Self::Registry(_) | Self::BranchMoved { .. } => Category::Dependency,
        }
    }

    /// What to do about it, where a person has to.
    fn remedy(&self) -> Option<String> {
        match self {
            Self::RegistryNotConfigured => Some(
                "name the registry that nodes pull from in the chart's registry.host, for example --set registry.host=registry.example.com"
                    .to_owned(),
            ),
            Self::Registry(error) => Some(error.remedy()),
            Self::BranchMoved { .. } => Some(
                "merge the work with where the branch stands now, and move it from there: another attempt does".to_owned(),
            ),
            Self::AlreadyMoved { .. } => {
                Some("read the branch and take over the move that stands under `own`".to_owned())
            }
            _ => None,
        }
    }

    /// The same as it travels. The cause of a broken store or API server stays in the log.
    pub fn structured(&self) -> StructuredError {
        let error = StructuredError::new(self.code(), self.category(), self.to_string());
        let retry_after = self.retry_after();
        StructuredError {
            retryable: retry_after.is_some() || matches!(self, Self::Aborted),
            retry_after,
            suggested_action: self.remedy(),
            ..error
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        if status.is_server_error() {
            tracing::warn!(error = %stagecraft_api::error::chain(&self), code = self.code(), "request cannot be answered");
        } else {
            tracing::info!(error = %self, code = self.code(), status = status.as_u16(), "request refused");
        }
        let error = self.structured();
        let retry_after = error.retry_after;
        let mut response = (status, Json(ErrorReply { error })).into_response();
        if let Some(seconds) = retry_after {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(RefusalCode(self.code()));
        response
    }
}

/// Where a branch stands, in words.
fn standing(tip: Option<&str>) -> String {
    tip.map_or_else(
        || "it does not exist".to_owned(),
        |commit| format!("it stands at {commit}"),
    )
}

/// Left in a response for the metrics.
#[derive(Clone, Copy, Debug)]
pub struct RefusalCode(pub &'static str);
