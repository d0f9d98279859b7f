//! What the operator asks for.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use stagecraft_api::AttemptKey;
use stagecraft_api::protocol::{ProviderReport, StoredWorkflows, UsageReply};
use stagecraft_api::result::AttemptResult;

use crate::blob;
use crate::error::Refusal;
use crate::router::{Gateway, Operator};

pub async fn result(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    Path((uid, stage, attempt)): Path<(String, String, String)>,
) -> Result<axum::Json<AttemptResult>, Refusal> {
    let key = AttemptKey {
        workflow_uid: named(uid)?,
        stage: named(stage)?,
        attempt: attempt
            .parse()
            .map_err(|_| Refusal::Invalid("the attempt is not a number".to_owned()))?,
    };
    let stored = gateway.store.result(&key).await?;
    stored.map(axum::Json).ok_or(Refusal::NoResult)
}

pub async fn blob(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    Path((uid, digest)): Path<(String, String)>,
) -> Result<Response, Refusal> {
    let digest = blob::parse(&digest)?;
    let found = gateway.store.blob(&named(uid)?, &digest).await?;
    let found = found.ok_or(Refusal::NoBlob(digest))?;
    Ok(blob::stream(found, &gateway.metrics))
}

pub async fn usage(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    Path(uid): Path<String>,
) -> Result<axum::Json<UsageReply>, Refusal> {
    let by = gateway.models.ledgers.of_workflow(&named(uid)?).await?;
    Ok(axum::Json(UsageReply { by }))
}

pub async fn provider(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<axum::Json<ProviderReport>, Refusal> {
    let place = (named(namespace)?, named(name)?);
    let report = gateway.models.report_on(&place).await;
    report.map(axum::Json).map_err(|error| {
        tracing::warn!(error = %stagecraft_api::error::chain(&error), "there is no report on a provider");
        Refusal::Busy
    })
}

pub async fn workflows(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
) -> Result<axum::Json<StoredWorkflows>, Refusal> {
    let uids = gateway.store.workflows().await?;
    Ok(axum::Json(StoredWorkflows { uids }))
}

/// A purge goes on when the operator stops waiting for it.
pub async fn purge(
    State(gateway): State<Arc<Gateway>>,
    _: Operator,
    Path(uid): Path<String>,
) -> Result<StatusCode, Refusal> {
    let uid = named(uid)?;
    let store = gateway.store.clone();
    let purge = gateway.background.spawn(async move {
        let outcome = store.purge(&uid).await;
        match &outcome {
            Ok(()) => tracing::info!(uid, "purged"),
            Err(error) => tracing::warn!(uid, error = %stagecraft_api::error::chain(error), "purge failed"),
        }
        outcome
    });
    purge.await.map_err(|_| Refusal::Busy)??;
    Ok(StatusCode::NO_CONTENT)
}

/// A UID or the name of a stage: nothing that could lead elsewhere in the store.
fn named(text: String) -> Result<String, Refusal> {
    let valid = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if valid {
        Ok(text)
    } else {
        Err(Refusal::Invalid(
            "a UID or stage is at most 63 letters, digits and dashes".to_owned(),
        ))
    }
}
