//! Bodies of JSON, with errors in the form of the protocol.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::error::Refusal;

/// A body of at most `LIMIT` bytes of JSON.
pub struct Json<T, const LIMIT: usize>(pub T);

/// Longest time that a caller may take to send it.
const TIMEOUT: Duration = Duration::from_secs(30);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Self, Refusal> {
        let body = read(request, LIMIT).await?;
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|error| Refusal::Invalid(format!("the body is not what it should be: {error}")))
    }
}

async fn read(request: Request, limit: usize) -> Result<Bytes, Refusal> {
    let reading = axum::body::to_bytes(request.into_body(), limit);
    match tokio::time::timeout(TIMEOUT, reading).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) if is_length_limit(&error) => Err(Refusal::TooLarge {
            what: "the body",
            bytes: limit as u64,
        }),
        Ok(Err(_)) | Err(_) => Err(Refusal::Aborted),
    }
}

/// axum keeps the type of this error to itself, but not its text.
fn is_length_limit(error: &axum::Error) -> bool {
    stagecraft_api::error::chain(error).contains("length limit exceeded")
}
