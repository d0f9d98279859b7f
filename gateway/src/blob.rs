//! A runner puts blobs and gets those of its own.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use stagecraft_api::{Digest, limit};

use crate::authorize::Member;
use crate::error::Refusal;
use crate::metrics::Metrics;
use crate::router::{Gateway, StagePod};
use crate::store::Blob;
use crate::upload::{self, Uploaded};
use crate::{result, telemetry};

/// 201 for a new blob, 200 for one that was there, 422 when the content has another digest.
pub async fn upload(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Path(digest): Path<String>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let (member, digest) = begin(&gateway, &caller, &digest).await?;
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > limit::BLOB_BYTES) {
        return Err(Refusal::TooLarge {
            what: "the blob",
            bytes: limit::BLOB_BYTES,
        });
    }
    let body = request.into_body().into_data_stream();
    let Uploaded { created, bytes } = upload::receive(&gateway.store, &member.key, &digest, body).await?;
    gateway.metrics.blob_bytes("uploaded", bytes);
    tracing::info!(%digest, bytes, created, "blob uploaded");
    Ok(if created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    })
}

/// The blob, if it is the caller's own. Whether others exist is not told.
pub async fn download(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Path(digest): Path<String>,
) -> Result<Response, Refusal> {
    let (member, digest) = begin(&gateway, &caller, &digest).await?;
    let found = gateway.store.blob(&member.key.workflow_uid, &digest).await?;
    let bytes = found.as_ref().map_or(0, |blob| blob.bytes);
    if !result::is_own(&gateway, &member, &digest, bytes).await? {
        return Err(Refusal::NotOwn(digest));
    }
    let blob = found.ok_or(Refusal::NoBlob(digest))?;
    Ok(stream(blob, &gateway.metrics))
}

/// The blob as a body.
pub fn stream(blob: Blob, metrics: &Metrics) -> Response {
    let Blob { bytes, content } = blob;
    let metrics = metrics.clone();
    let content = content.inspect_ok(move |piece| metrics.blob_bytes("downloaded", piece.len() as u64));
    let headers = [
        (header::CONTENT_LENGTH, bytes.to_string()),
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
    ];
    (headers, Body::from_stream(content)).into_response()
}

pub fn parse(digest: &str) -> Result<Digest, Refusal> {
    digest
        .parse()
        .map_err(|error: stagecraft_api::digest::DigestError| Refusal::Invalid(error.to_string()))
}

async fn begin(
    gateway: &Gateway,
    caller: &crate::identity::PodIdentity,
    digest: &str,
) -> Result<(Arc<Member>, Digest), Refusal> {
    let digest = parse(digest)?;
    let seen = gateway.chain.recent(caller).await?;
    telemetry::identify(&seen.member);
    let member = seen.current()?.clone();
    gateway.held(&member).await?;
    Ok((member, digest))
}
