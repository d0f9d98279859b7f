//! A runner has an image pushed to the registry. Only the gateway holds the registry's credentials, and only it decides
//! where an image goes: the repository follows from the namespace and the project, never from the request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use axum::extract::State;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt as _;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifest, MediaType};
use stagecraft_api::payload::{BuiltInPayload, Payload};
use stagecraft_api::protocol::{PushImageReply, PushImageRequest};
use stagecraft_api::{AttemptKey, Digest, limit};
use tokio::sync::OwnedMutexGuard;
use tracing::Instrument as _;

use crate::authorize::Member;
use crate::body::Json;
use crate::error::Refusal;
use crate::identity::PodIdentity;
use crate::registry::{Registry, Target};
use crate::result::is_own;
use crate::router::{Gateway, StagePod};
use crate::store::StoreError;
use crate::telemetry;

/// Largest manifest and largest configuration, in bytes. Those of two layers have less than 2 KiB.
const DOCUMENT_BYTES: u64 = 64 * 1024;
/// Most layers of an image.
const LAYERS: usize = 16;

/// Pushes the image and answers what nodes pull. Doing it again does no harm: the registry keeps content by its digest.
pub async fn push(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Json(request): Json<PushImageRequest, { 4 * 1024 }>,
) -> Result<axum::Json<PushImageReply>, Refusal> {
    let seen = gateway.chain.live(&caller).await?;
    telemetry::identify(&seen.member);
    let member = seen.current()?.clone();
    let Payload::BuiltIn(BuiltInPayload::Deployment(_)) = &member.envelope.payload else {
        return Err(Refusal::WrongAgent {
            wanted: "deployment",
            found: member.envelope.payload.agent().to_owned(),
        });
    };
    gateway.held(&member).await?;
    let registry = gateway.registry.clone().ok_or(Refusal::RegistryNotConfigured)?;
    let image = Image::read(&gateway, &member, request.manifest).await?;
    let target = target(&registry, &member)?;
    let carrying = carry(gateway.clone(), registry, caller, member, image, target).in_current_span();
    // Goes on when the runner hangs up: it comes again, and then finds that much more done.
    let carried = gateway.background.spawn(carrying).await;
    let reference = carried.map_err(|_| Refusal::Busy)??;
    Ok(axum::Json(PushImageReply { reference }))
}

async fn carry(
    gateway: Arc<Gateway>,
    registry: Arc<Registry>,
    caller: PodIdentity,
    member: Arc<Member>,
    image: Image,
    target: Target,
) -> Result<String, Refusal> {
    let _turn = gateway.images.take(&member.key).await;
    let started = Instant::now();
    let mut session = registry.session(target);
    let mut pushed = 0;
    for Piece { digest, bytes } in &image.pieces {
        if session.has(digest).await? {
            continue;
        }
        let blob = gateway.store.blob(&member.key.workflow_uid, digest).await?;
        let blob = blob.ok_or_else(|| Refusal::NoBlob(digest.clone()))?;
        session.put_blob(digest, blob).await?;
        pushed += bytes;
    }
    // Transfers take their time, and a tag is moved by the manifest: asked again at the last moment.
    gateway.chain.live(&caller).await?.current()?;
    gateway.held(&member).await?;
    session.put_manifest(&image.manifest, MANIFEST_TYPE).await?;
    let reference = session.pinned(&image.digest);
    tracing::info!(
        reference,
        bytes = pushed,
        seconds = started.elapsed().as_secs_f64(),
        "image pushed"
    );
    Ok(reference)
}

/// One push at a time for each attempt: a runner that asks again finds what the push before it has done, instead of doing
/// the same beside it.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<AttemptKey, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for the push before.
    async fn take(&self, key: &AttemptKey) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let known = turns.get(key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let turn = Arc::default();
                turns.insert(key.clone(), Arc::downgrade(&turn));
                turn
            })
        };
        turn.lock_owned().await
    }
}

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// The commit is the tag, so that people find the image of a commit; where there is none, the attempt.
fn target(registry: &Registry, member: &Member) -> Result<Target, Refusal> {
    let tag = match &member.envelope.workspace {
        Some(workspace) => workspace.commit.clone(),
        None => format!("attempt-{}-{}", member.key.workflow_uid, member.key.attempt),
    };
    let project = &member.envelope.project.name;
    registry.target(&member.namespace, project, &tag).ok_or_else(|| {
        Refusal::Invalid(format!(
            "the namespace {} and the project {project} make no name of a repository: choose a project.name of lower-case \
             letters, digits and dashes",
            member.namespace
        ))
    })
}

/// An image whose parts are all in the store.
struct Image {
    digest: Digest,
    manifest: Bytes,
    /// Configuration and layers.
    pieces: Vec<Piece>,
}

/// A blob that an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    digest: Digest,
    bytes: u64,
}

impl Image {
    async fn read(gateway: &Gateway, member: &Member, digest: Digest) -> Result<Self, Refusal> {
        let manifest = document(gateway, member, "the manifest", &digest).await?;
        let pieces = pieces(&manifest).map_err(Refusal::Invalid)?;
        for Piece { digest, bytes } in &pieces {
            require(gateway, member, digest, *bytes).await?;
        }
        if let Some((configuration, layers)) = pieces.split_first() {
            let configuration = document(
                gateway,
                member,
                "the image's configuration",
                &configuration.digest,
            )
            .await?;
            check_configuration(&configuration, layers.len()).map_err(Refusal::Invalid)?;
        }
        Ok(Self {
            digest,
            manifest,
            pieces,
        })
    }
}

/// A small blob of the attempt's own.
async fn document(
    gateway: &Gateway,
    member: &Member,
    what: &'static str,
    digest: &Digest,
) -> Result<Bytes, Refusal> {
    let found = gateway.store.blob(&member.key.workflow_uid, digest).await?;
    let blob = found.ok_or_else(|| Refusal::Invalid(format!("{what} {digest} is not in the store")))?;
    if blob.bytes > DOCUMENT_BYTES {
        return Err(Refusal::TooLarge {
            what,
            bytes: DOCUMENT_BYTES,
        });
    }
    require(gateway, member, digest, blob.bytes).await?;
    let pieces: BytesMut = blob.content.try_collect().await.map_err(StoreError::from)?;
    Ok(pieces.freeze())
}

/// The blob is in the store with that size, and the attempt's own. An attempt that knows only a digest must not come to
/// read the blob by way of the registry.
async fn require(gateway: &Gateway, member: &Member, digest: &Digest, bytes: u64) -> Result<(), Refusal> {
    let found = gateway.store.blob_bytes(&member.key.workflow_uid, digest).await?;
    if found != Some(bytes) {
        return Err(Refusal::Invalid(format!(
            "the image names the blob {digest} of {bytes} bytes, which is not in the store: upload it first"
        )));
    }
    if is_own(gateway, member, digest, bytes).await? {
        Ok(())
    } else {
        Err(Refusal::NotOwn(digest.clone()))
    }
}

/// Configuration and layers of a manifest, or the rule that it breaks.
pub fn pieces(manifest: &[u8]) -> Result<Vec<Piece>, String> {
    let manifest: ImageManifest = serde_json::from_slice(manifest)
        .map_err(|error| format!("the manifest is not understood: {error}"))?;
    if manifest.schema_version() != 2 || manifest.media_type() != &Some(MediaType::ImageManifest) {
        return Err(format!(
            "the manifest is not of schema version 2 and media type {MANIFEST_TYPE}"
        ));
    }
    if manifest.artifact_type().is_some() || manifest.subject().is_some() {
        return Err("the manifest is that of an artifact, not of an image".to_owned());
    }
    if manifest.config().media_type() != &MediaType::ImageConfig {
        let found = manifest.config().media_type();
        return Err(format!("the configuration has media type {found}"));
    }
    let layers = manifest.layers();
    if layers.is_empty() || layers.len() > LAYERS {
        return Err(format!(
            "the image has {} layers, but from 1 to {LAYERS} are allowed",
            layers.len()
        ));
    }
    let is_layer = |layer: &&Descriptor| {
        matches!(
            layer.media_type(),
            MediaType::ImageLayer | MediaType::ImageLayerGzip
        )
    };
    if let Some(layer) = layers.iter().find(|layer| !is_layer(layer)) {
        return Err(format!("a layer has media type {}", layer.media_type()));
    }
    std::iter::once(manifest.config())
        .chain(layers)
        .map(piece)
        .collect()
}

fn piece(descriptor: &Descriptor) -> Result<Piece, String> {
    let digest: Digest = descriptor
        .digest()
        .to_string()
        .parse()
        .map_err(|error: stagecraft_api::digest::DigestError| error.to_string())?;
    if descriptor.urls().is_some() {
        return Err(format!("the blob {digest} is to come from another place"));
    }
    let bytes = descriptor.size();
    if bytes > limit::BLOB_BYTES {
        return Err(format!(
            "the blob {digest} has {bytes} bytes, over the limit of {}",
            limit::BLOB_BYTES
        ));
    }
    Ok(Piece { digest, bytes })
}

/// Knows the configuration as many layers as there are?
pub fn check_configuration(configuration: &[u8], layers: usize) -> Result<(), String> {
    let configuration: ImageConfiguration = serde_json::from_slice(configuration)
        .map_err(|error| format!("the image's configuration is not understood: {error}"))?;
    let known = configuration.rootfs().diff_ids().len();
    if known == layers {
        Ok(())
    } else {
        Err(format!(
            "the image has {layers} layers, but its configuration knows {known}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn manifest() -> Value {
        let digest = Digest::of(b"x");
        json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 1},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 1}]})
    }

    fn read(manifest: &Value) -> Result<Vec<Piece>, String> {
        pieces(manifest.to_string().as_bytes())
    }

    #[test]
    fn a_manifest_names_its_configuration_first() {
        assert_eq!(read(&manifest()).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_image_of_this_gateway_is_refused_with_its_reason() {
        let digest = Digest::of(b"x");
        let layer = manifest()["layers"][0].clone();
        let cases = [
            ("/schemaVersion", json!(1), "schema version 2"),
            (
                "/mediaType",
                json!("application/vnd.oci.image.index.v1+json"),
                "media type",
            ),
            ("/artifactType", json!("application/x"), "artifact"),
            ("/subject", layer.clone(), "artifact"),
            ("/config/mediaType", json!("application/json"), "configuration"),
            ("/layers", json!([]), "0 layers"),
            ("/layers", json!(vec![layer; 17]), "17 layers"),
            ("/layers/0/mediaType", json!("application/zip"), "application/zip"),
            ("/layers/0/urls", json!(["http://elsewhere"]), "another place"),
            ("/layers/0/size", json!(limit::BLOB_BYTES + 1), "over the limit"),
            (
                "/layers/0/digest",
                json!(format!("sha512:{}", digest.hex().repeat(2))),
                "not a digest",
            ),
            ("/config", json!(7), "not understood"),
        ];
        for (pointer, value, reason) in cases {
            let mut manifest = manifest();
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            match manifest.pointer_mut(parent).unwrap() {
                Value::Array(list) => list[field.parse::<usize>().unwrap()] = value,
                object => object[field] = value,
            }
            let problem = read(&manifest).unwrap_err();
            assert!(problem.contains(reason), "{pointer}: {problem}");
        }
    }

    #[tokio::test]
    async fn pushes_of_an_attempt_come_one_after_the_other_and_are_forgotten() {
        let turns = Turns::default();
        let key = |attempt| AttemptKey {
            workflow_uid: "uid".into(),
            stage: "deploy".into(),
            attempt,
        };
        let one = key(1);
        let first = turns.take(&one).await;
        let mut second = Box::pin(turns.take(&one));
        assert!(futures::poll!(second.as_mut()).is_pending());
        let other = turns.take(&key(2)).await;
        drop(first);
        drop(second.await);
        drop(other);
        drop(turns.take(&key(3)).await);
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_configuration_knows_each_layer() {
        let configuration = json!({"architecture": "amd64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(b"x")]}});
        let text = configuration.to_string();
        assert_eq!(check_configuration(text.as_bytes(), 1), Ok(()));
        assert!(
            check_configuration(text.as_bytes(), 2)
                .unwrap_err()
                .contains("knows 1")
        );
        assert!(
            check_configuration(b"{}", 1)
                .unwrap_err()
                .contains("not understood")
        );
    }
}
