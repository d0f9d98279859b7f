//! A runner reports how its attempt ended.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use stagecraft_api::protocol::ResultReply;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::{Digest, Moment};

use crate::authorize::{Denial, Member};
use crate::body::Json;
use crate::branch;
use crate::error::Refusal;
use crate::router::{Gateway, StagePod};
use crate::store::Put;
use crate::telemetry;
use crate::verify::{self, NamedBlob};

/// Stores the result, announces it, and only then answers: whoever has the answer need not ask again.
pub async fn report(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Json(result): Json<AttemptResult, { 128 * 1024 }>,
) -> Result<axum::Json<ResultReply>, Refusal> {
    let started = Instant::now();
    let seen = gateway.chain.live(&caller).await?;
    telemetry::identify(&seen.member);
    let member = match seen.current() {
        Ok(member) => member,
        Err(denial) => return repeated(&gateway, &seen.member, &result, denial).await,
    };
    gateway.held(member).await?;
    let blobs = verify::named_blobs(&member.key, &result).map_err(Refusal::Invalid)?;
    for blob in &blobs {
        require(&gateway, member, blob).await?;
    }
    let put = gateway.store.put_result(&member.key, &result).await?;
    let accepted_at = Moment::now();
    let counted = match &put {
        Put::Stored | Put::Same => &result,
        Put::Other(stored) => stored,
    };
    // Also when it was there: the gateway may have ended between storing and announcing. Entries too many are dropped.
    gateway.queue.announce(member, counted, accepted_at).await;
    let (outcome, stored) = match &put {
        Put::Stored => ("stored", true),
        Put::Same => ("repeated", true),
        Put::Other(_) => ("different", false),
    };
    gateway.metrics.result(outcome);
    tracing::info!(
        outcome,
        succeeded = matches!(counted.outcome, Outcome::Succeeded { .. }),
        accepted_at = %accepted_at,
        blobs = blobs.len(),
        seconds = started.elapsed().as_secs_f64(),
        "result accepted"
    );
    Ok(axum::Json(ResultReply { stored }))
}

/// A runner that missed the answer asks again when the Workflow has moved on already: the answer is the same.
async fn repeated(
    gateway: &Gateway,
    member: &Member,
    result: &AttemptResult,
    denial: Denial,
) -> Result<axum::Json<ResultReply>, Refusal> {
    let bound = gateway.store.binding(&member.key).await?;
    if bound.is_none_or(|binding| binding.pod_uid != member.pod.uid) {
        return Err(denial.into());
    }
    match gateway.store.result(&member.key).await? {
        Some(stored) => {
            gateway.metrics.result("repeated");
            Ok(axum::Json(ResultReply {
                stored: stored == *result,
            }))
        }
        None => Err(denial.into()),
    }
}

/// The blob is in the store, whole, and the attempt's own: in its envelope or uploaded by itself.
pub async fn require(gateway: &Gateway, member: &Member, blob: &NamedBlob) -> Result<(), Refusal> {
    let NamedBlob { name, digest, bytes } = blob;
    let found = gateway.store.blob_bytes(&member.key.workflow_uid, digest).await?;
    let Some(found) = found else {
        return Err(Refusal::Invalid(format!(
            "{name}: the blob {digest} is not in the store"
        )));
    };
    if found != *bytes {
        return Err(Refusal::Invalid(format!(
            "{name}: the blob {digest} has {found} bytes, not {bytes}"
        )));
    }
    if is_own(gateway, member, digest, found).await? {
        Ok(())
    } else {
        Err(Refusal::Invalid(format!(
            "{name}: the blob {digest} is neither in the task nor uploaded in this attempt"
        )))
    }
}

/// Whether the attempt may know the blob.
pub async fn is_own(
    gateway: &Gateway,
    member: &Member,
    digest: &Digest,
    bytes: u64,
) -> Result<bool, Refusal> {
    let envelope = &member.envelope;
    let workspace = envelope.workspace.iter().map(|workspace| &workspace.bundle);
    let inputs = envelope.inputs.iter().map(|input| &input.digest);
    let given = workspace.chain(inputs).any(|given| given == digest);
    Ok(given
        || gateway.store.uploaded(&member.key, digest, bytes).await?
        || branch::is_taken_over(gateway, member, digest, bytes).await?)
}
