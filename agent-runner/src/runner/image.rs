//! Hands an image that the deployment agent made over to the gateway. The agent's volume is read with the same distrust as
//! everywhere: each name is opened beneath the directory before it, and what is uploaded is a copy that nobody changes.

use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use backon::{ExponentialBuilder, Retryable as _};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use stagecraft_api::error::chain;
use stagecraft_api::payload::{BuiltInPayload, Payload};
use stagecraft_api::protocol::PushImageReply;
use stagecraft_api::{Category, Digest, StructuredError, limit};

use super::collect;
use super::gateway::{Gateway, GatewayError};
use super::git::bundle::HashingWriter;
use super::git::snapshot;
use super::journal::{Journal, Upload};
use super::layout::Layout;
use crate::loopback::ImageRequest;

/// Largest index, manifest and configuration, in bytes; the gateway takes no larger ones.
const DOCUMENT_BYTES: u64 = 64 * 1024;
/// Most layers; the gateway takes no more.
const LAYERS: usize = 16;
/// Name of the agent's directory on the volume.
const ARTIFACTS: &[u8] = b"artifacts";
/// Code of a registry that may be there again in a moment.
const UNAVAILABLE: &str = "RegistryUnavailable";

/// Why no image was pushed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("the request is not {{\"layout\": DIRECTORY}}")]
    Request(#[source] serde_json::Error),
    #[error("the task is not claimed yet")]
    NotClaimed,
    #[error("only the agent deployment may push images, and the task is for {0}")]
    WrongAgent(String),
    #[error("the image layout is not what it should be: {0}")]
    Layout(String),
    #[error("{path} of the image layout cannot be read")]
    Unreadable { path: String, source: io::Error },
    #[error("the runner's volume cannot be written")]
    Volume(#[source] io::Error),
    #[error("the gateway did not push the image")]
    Gateway(#[from] GatewayError),
    #[error("the work was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl ImageError {
    /// How the agent hears of it. What the gateway said is passed on as it is.
    pub fn reply(self) -> (StatusCode, StructuredError) {
        let of = |status, code, category| {
            let error = StructuredError::new(code, category, chain(&self));
            (status, error)
        };
        match self {
            Self::Gateway(GatewayError::Refused { status, error }) => (status, *error),
            Self::NotClaimed => of(
                StatusCode::SERVICE_UNAVAILABLE,
                "NotClaimed",
                Category::Dependency,
            ),
            Self::WrongAgent(_) => {
                let (status, error) = of(StatusCode::FORBIDDEN, "WrongAgent", Category::Configuration);
                (status, error.fatal())
            }
            Self::Request(_) | Self::Layout(_) | Self::Unreadable { .. } => of(
                StatusCode::UNPROCESSABLE_ENTITY,
                "ImageInvalid",
                Category::Validation,
            ),
            Self::Volume(_) => of(
                StatusCode::INTERNAL_SERVER_ERROR,
                "ImageNotKept",
                Category::Resource,
            ),
            Self::Gateway(_) => of(
                StatusCode::BAD_GATEWAY,
                "GatewayUnavailable",
                Category::Dependency,
            ),
            Self::Interrupted(_) => of(
                StatusCode::INTERNAL_SERVER_ERROR,
                "ImageNotKept",
                Category::Unknown,
            ),
        }
    }
}

/// Pushes images of the attempt, one after the other.
pub struct Images {
    layout: Layout,
    journal: Arc<Journal>,
    gateway: Arc<Gateway>,
    turn: tokio::sync::Mutex<()>,
}

impl Images {
    pub fn new(layout: Layout, journal: Arc<Journal>, gateway: Arc<Gateway>) -> Self {
        Self {
            layout,
            journal,
            gateway,
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Copies the image, uploads its parts and has the gateway push it.
    pub async fn push(&self, request: &ImageRequest) -> Result<PushImageReply, ImageError> {
        self.permit()?;
        let _turn = self.turn.lock().await;
        let (layout, name) = (self.layout.clone(), request.layout.clone());
        let span = tracing::Span::current();
        let copying = tokio::task::spawn_blocking(move || span.in_scope(|| copy(&layout, &name)));
        let Copied { manifest, uploads } = copying.await??;
        for Upload { digest, bytes } in &uploads {
            let file = directory(&self.layout).join(digest.hex());
            self.gateway.upload(digest, *bytes, &file).await?;
        }
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_secs(1))
            .with_max_times(3)
            .with_jitter();
        let pushing = || self.gateway.push_image(&manifest);
        let reply = pushing
            .retry(backoff)
            .when(|error| matches!(error, GatewayError::Refused { error, .. } if error.code == UNAVAILABLE))
            .notify(
                |error, pause| tracing::warn!(error = %error, ?pause, "the registry is away, trying again"),
            )
            .await?;
        // The store has it now, and the registry.
        let _ = fs::remove_dir_all(directory(&self.layout));
        tracing::info!(reference = reply.reference, "the image is pushed");
        Ok(reply)
    }

    fn permit(&self) -> Result<(), ImageError> {
        let progress = self.journal.read();
        let claim = progress.claim.as_ref().ok_or(ImageError::NotClaimed)?;
        match &claim.reply.envelope.payload {
            Payload::BuiltIn(BuiltInPayload::Deployment(_)) => Ok(()),
            other => Err(ImageError::WrongAgent(other.agent().to_owned())),
        }
    }
}

/// Where the copies wait to be uploaded.
fn directory(layout: &Layout) -> PathBuf {
    layout.state().join("image")
}

/// An image as files on the runner's own volume, named by their digests.
#[derive(Debug)]
struct Copied {
    manifest: Digest,
    /// Layers, configuration and manifest.
    uploads: Vec<Upload>,
}

fn copy(layout: &Layout, name: &str) -> Result<Copied, ImageError> {
    let target = directory(layout);
    // What an earlier push left is made again.
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).map_err(ImageError::Volume)?;
    let source = Source::open(layout, name)?;
    let index: ImageIndex = source.document("index.json")?;
    let [descriptor] = index.manifests().as_slice() else {
        let found = index.manifests().len();
        return Err(ImageError::Layout(format!(
            "its index names {found} images, not one"
        )));
    };
    if descriptor.media_type() != &MediaType::ImageManifest {
        let found = descriptor.media_type();
        return Err(ImageError::Layout(format!("its index names a {found}")));
    }
    let manifest = source.blob(descriptor, DOCUMENT_BYTES, &target)?;
    let text = fs::read(target.join(manifest.digest.hex())).map_err(ImageError::Volume)?;
    let parsed: ImageManifest = parse("the manifest", &text)?;
    if parsed.layers().len() > LAYERS {
        let found = parsed.layers().len();
        return Err(ImageError::Layout(format!(
            "it has {found} layers, over the limit of {LAYERS}"
        )));
    }
    let mut uploads = Vec::new();
    for layer in parsed.layers() {
        uploads.push(source.blob(layer, limit::BLOB_BYTES, &target)?);
    }
    uploads.push(source.blob(parsed.config(), DOCUMENT_BYTES, &target)?);
    uploads.push(manifest.clone());
    let sum: u64 = uploads.iter().map(|upload| upload.bytes).sum();
    if sum > limit::ATTEMPT_BLOB_BYTES {
        return Err(ImageError::Layout(format!(
            "its parts have {sum} bytes together, over the limit of {}",
            limit::ATTEMPT_BLOB_BYTES
        )));
    }
    Ok(Copied {
        manifest: manifest.digest,
        uploads,
    })
}

/// The layout on the agent's volume.
struct Source {
    artifacts: OwnedFd,
    name: String,
}

impl Source {
    fn open(layout: &Layout, name: &str) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Unreadable {
            path: "the directory".to_owned(),
            source,
        };
        let work = fs::File::open(layout.work()).map_err(failed)?;
        let artifacts = snapshot::open(&work, ARTIFACTS, OFlags::DIRECTORY)
            .map_err(io::Error::from)
            .map_err(failed)?;
        Ok(Self {
            artifacts,
            name: name.to_owned(),
        })
    }

    fn file(&self, path: &str) -> Result<snapshot::RegularFile, ImageError> {
        let whole = format!("{}/{path}", self.name);
        collect::open_beneath(&self.artifacts, &whole).map_err(|source| ImageError::Unreadable {
            path: stagecraft_api::error::truncate(&whole, 256),
            source,
        })
    }

    fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T, ImageError> {
        let mut text = Vec::new();
        let read = self
            .file(path)?
            .file
            .take(DOCUMENT_BYTES + 1)
            .read_to_end(&mut text);
        read.map_err(|source| ImageError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        if text.len() as u64 > DOCUMENT_BYTES {
            return Err(ImageError::Layout(format!(
                "{path} has more than {DOCUMENT_BYTES} bytes"
            )));
        }
        parse(path, &text)
    }

    /// Copies what a descriptor names, and checks that it is that.
    fn blob(&self, descriptor: &Descriptor, most: u64, target: &Path) -> Result<Upload, ImageError> {
        let digest: Digest =
            descriptor.digest().to_string().parse().map_err(
                |error: stagecraft_api::digest::DigestError| ImageError::Layout(error.to_string()),
            )?;
        let path = format!("blobs/sha256/{}", digest.hex());
        let bytes = descriptor.size();
        if bytes > most {
            return Err(ImageError::Layout(format!(
                "{path} has {bytes} bytes, over the limit of {most}"
            )));
        }
        let file = self.file(&path)?.file;
        let copy = fs::File::create(target.join(digest.hex())).map_err(ImageError::Volume)?;
        let mut writer = HashingWriter::new(copy);
        io::copy(&mut file.take(bytes + 1), &mut writer).map_err(|source| ImageError::Unreadable {
            path: path.clone(),
            source,
        })?;
        let written = writer.finish().map_err(ImageError::Volume)?;
        if written.digest == digest && written.bytes == bytes {
            Ok(Upload { digest, bytes })
        } else {
            Err(ImageError::Layout(format!(
                "{path} is not the blob of {bytes} bytes with that digest"
            )))
        }
    }
}

fn parse<T: DeserializeOwned>(what: &str, text: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(text)
        .map_err(|error| ImageError::Layout(format!("{what} is not understood: {error}")))
}
