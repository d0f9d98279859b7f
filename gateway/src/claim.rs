//! A runner asks for its task.

use std::sync::Arc;

use axum::extract::State;
use stagecraft_api::Moment;
use stagecraft_api::error::truncate;
use stagecraft_api::protocol::{ClaimReply, ClaimRequest};

use crate::body::Json;
use crate::error::Refusal;
use crate::router::{Gateway, StagePod};
use crate::store::{Binding, Grant};
use crate::telemetry;

/// Longest version that is kept, in bytes.
const VERSION_BYTES: usize = 63;

/// Binds the attempt to the Pod and hands out its envelope. Repeating it changes nothing.
pub async fn claim(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Json(request): Json<ClaimRequest, 4096>,
) -> Result<axum::Json<ClaimReply>, Refusal> {
    let seen = gateway.chain.live(&caller).await?;
    telemetry::identify(&seen.member);
    let member = seen.current()?;
    let binding = Binding {
        pod_uid: member.pod.uid.clone(),
        pod_name: member.pod.name.clone(),
        node: member.pod.node.clone(),
        at: Moment::now(),
        version: truncate(&request.version, VERSION_BYTES),
    };
    let (outcome, binding) = match gateway.store.claim(&member.key, &binding).await? {
        Grant::First(binding) => ("first", binding),
        Grant::Held(binding) => ("repeated", binding),
        Grant::Taken | Grant::Free => return Err(Refusal::OtherPod),
        Grant::Fenced(granted) => return Err(Refusal::Fenced { granted }),
    };
    gateway.queue.claim(member, &binding.version).await;
    gateway.metrics.claim(outcome);
    tracing::info!(outcome, node = member.pod.node, "task claimed");
    Ok(axum::Json(ClaimReply {
        envelope: member.envelope.clone(),
        heartbeat_seconds: u32::try_from(gateway.heartbeat.as_secs()).unwrap_or(u32::MAX),
    }))
}
