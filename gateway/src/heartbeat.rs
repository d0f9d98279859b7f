//! A runner says that it lives, and hears whether to go on.

use std::sync::Arc;

use axum::extract::State;
use stagecraft_api::error::truncate;
use stagecraft_api::protocol::{HeartbeatReply, HeartbeatRequest};

use crate::authorize::Denial;
use crate::body::Json;
use crate::chain::ChainError;
use crate::error::Refusal;
use crate::router::{Gateway, StagePod};
use crate::telemetry;

/// Longest state that is kept, in bytes.
const STATE_BYTES: usize = 63;

/// An attempt that is over is told so in a good answer: the runner has to stop, not to try again.
pub async fn heartbeat(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Json(request): Json<HeartbeatRequest, 4096>,
) -> Result<axum::Json<HeartbeatReply>, Refusal> {
    let seen = match gateway.chain.recent(&caller).await {
        Ok(seen) => seen,
        Err(ChainError::Denied(Denial::NotCurrent(reason))) => return Ok(cancel(reason)),
        Err(error) => return Err(error.into()),
    };
    telemetry::identify(&seen.member);
    let member = match seen.current() {
        Ok(member) => member,
        Err(Denial::NotCurrent(reason)) => return Ok(cancel(reason)),
        Err(denial) => return Err(denial.into()),
    };
    let binding = match gateway.held(member).await {
        Ok(binding) => binding,
        Err(refusal @ Refusal::Fenced { .. }) => return Ok(cancel(refusal.to_string())),
        Err(refusal) => return Err(refusal),
    };
    let state = truncate(&request.state, STATE_BYTES);
    gateway.queue.heartbeat(member, &binding.version, &state).await;
    Ok(axum::Json(HeartbeatReply { cancel: None }))
}

fn cancel(reason: String) -> axum::Json<HeartbeatReply> {
    tracing::info!(reason, "the runner is told to stop");
    axum::Json(HeartbeatReply { cancel: Some(reason) })
}
