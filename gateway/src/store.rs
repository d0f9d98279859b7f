//! What must not be lost: bindings, results and blobs, behind `object_store`. Everything of a Workflow lies under one
//! prefix, so that a purge is the deletion of a prefix:
//!
//! ```text
//! workflows/UID/blobs/HEX                              a blob, named by its SHA-256
//! workflows/UID/stages/STAGE/bound/ATTEMPT.json        the Pod that claimed the attempt
//! workflows/UID/stages/STAGE/results/ATTEMPT.json      how the attempt ended
//! workflows/UID/stages/STAGE/uploads/ATTEMPT/HEX-BYTES the attempt has uploaded this blob
//! ```
//!
//! The fence is the highest number in `bound`: put-if-absent is all that it takes of the store, and what was granted
//! cannot be taken back. Any two claims are ordered because each writes before it lists.
//!
//! What outlives a Workflow lies under `projects`, see [`branches`], and for some days under `days`, see [`ledgers`].

pub mod branches;
pub mod ledgers;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use stagecraft_api::result::AttemptResult;
use stagecraft_api::{AttemptKey, Digest, Moment};

use crate::upload::Tallies;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the store failed")]
    Backend(#[from] Error),
    #[error("{path} in the store is not what was written there")]
    Corrupt { path: Path, source: serde_json::Error },
    #[error("the value cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    #[error("the directory {path} cannot be used")]
    Directory { path: PathBuf, source: std::io::Error },
}

/// The Pod that an attempt belongs to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    pub pod_uid: String,
    pub pod_name: String,
    pub node: String,
    pub at: Moment,
    /// Version of the runner, for the registry.
    pub version: String,
}

/// Whether a Pod holds an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It does since this call.
    First(Binding),
    /// It does, since before.
    Held(Binding),
    /// Another Pod does.
    Taken,
    /// Nobody does.
    Free,
    /// A higher attempt was granted.
    Fenced(u32),
}

/// What became of a result.
#[derive(Clone, Debug, PartialEq)]
pub enum Put {
    Stored,
    /// The same was stored before.
    Same,
    /// This one was stored before, and counts.
    Other(Box<AttemptResult>),
}

/// A blob as it is read.
pub struct Blob {
    pub bytes: u64,
    pub content: BoxStream<'static, Result<Bytes, Error>>,
}

#[derive(Clone)]
pub struct Store {
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) tallies: Arc<Tallies>,
    /// Size of what an upload writes at once.
    pub(crate) part_bytes: usize,
    /// Set for the local backend, whose directories outlive their content.
    directory: Option<PathBuf>,
}

impl Store {
    /// A store in a directory. Without `with_fsync` the local backend leaves it to the kernel when what it wrote reaches
    /// the disk; with it, file and directories are on disk before a put returns.
    pub fn open(directory: &FilePath) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Directory {
            path: directory.to_owned(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let directory = directory.canonicalize().map_err(failed)?;
        for root in ["workflows", "projects", "days"] {
            remove_staged(&directory.join(root)).map_err(failed)?;
        }
        let objects = LocalFileSystem::new_with_prefix(&directory)?.with_fsync(true);
        Ok(Self {
            part_bytes: 1024 * 1024,
            directory: Some(directory),
            ..Self::over(Arc::new(objects))
        })
    }

    /// A store in any backend that has put-if-absent and strong consistency.
    pub fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self {
            objects,
            tallies: Arc::default(),
            // Backends of the cloud take no smaller parts.
            part_bytes: 5 * 1024 * 1024,
            directory: None,
        }
    }

    /// Whether the store answers.
    pub async fn probe(&self) -> Result<(), StoreError> {
        if let Some(directory) = &self.directory {
            let readable = tokio::fs::metadata(directory).await;
            readable.map_err(|source| StoreError::Directory {
                path: directory.clone(),
                source,
            })?;
        }
        absent_as_none(self.objects.head(&Path::from("probe")).await)?;
        Ok(())
    }

    /// Binds the attempt to the Pod, unless another Pod has it or a higher attempt was granted.
    pub async fn claim(&self, key: &AttemptKey, binding: &Binding) -> Result<Grant, StoreError> {
        if let Some(fence) = self.fence_above(key).await? {
            return Ok(Grant::Fenced(fence));
        }
        let created = self.create(&bound(key), &encode(binding)?).await?;
        match self.holds(key, &binding.pod_uid).await? {
            Grant::Held(binding) if created => Ok(Grant::First(binding)),
            grant => Ok(grant),
        }
    }

    /// Whether the Pod holds the attempt. Asked again at each effect.
    pub async fn holds(&self, key: &AttemptKey, pod_uid: &str) -> Result<Grant, StoreError> {
        if let Some(fence) = self.fence_above(key).await? {
            return Ok(Grant::Fenced(fence));
        }
        Ok(match self.binding(key).await? {
            Some(binding) if binding.pod_uid == pod_uid => Grant::Held(binding),
            Some(_) => Grant::Taken,
            None => Grant::Free,
        })
    }

    pub async fn binding(&self, key: &AttemptKey) -> Result<Option<Binding>, StoreError> {
        self.read(&bound(key)).await
    }

    /// Stores how an attempt ended; the first result wins.
    pub async fn put_result(&self, key: &AttemptKey, result: &AttemptResult) -> Result<Put, StoreError> {
        if self.create(&result_path(key), &encode(result)?).await? {
            return Ok(Put::Stored);
        }
        Ok(match self.result(key).await? {
            Some(stored) if stored == *result => Put::Same,
            Some(stored) => Put::Other(Box::new(stored)),
            // Purged in between: the Workflow is gone, and nobody will ask.
            None => Put::Stored,
        })
    }

    pub async fn result(&self, key: &AttemptKey) -> Result<Option<AttemptResult>, StoreError> {
        self.read(&result_path(key)).await
    }

    /// Size of a blob, none when it is not there.
    pub async fn blob_bytes(&self, uid: &str, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let found = absent_as_none(self.objects.head(&blob(uid, digest)).await)?;
        Ok(found.map(|meta| meta.size))
    }

    pub async fn blob(&self, uid: &str, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let found = absent_as_none(self.objects.get(&blob(uid, digest)).await)?;
        Ok(found.map(|found| Blob {
            bytes: found.meta.size,
            content: found.into_stream(),
        }))
    }

    /// Whether the attempt has uploaded this blob itself.
    pub async fn uploaded(&self, key: &AttemptKey, digest: &Digest, bytes: u64) -> Result<bool, StoreError> {
        let found = absent_as_none(self.objects.head(&upload(key, digest, bytes)).await)?;
        Ok(found.is_some())
    }

    /// UIDs of the Workflows of which anything is stored.
    pub async fn workflows(&self) -> Result<Vec<String>, StoreError> {
        let root = Path::from("workflows");
        let listed = absent_as_none(self.objects.list_with_delimiter(Some(&root)).await)?;
        let prefixes = listed.map(|listed| listed.common_prefixes).unwrap_or_default();
        Ok(prefixes
            .iter()
            .filter_map(Path::filename)
            .map(str::to_owned)
            .collect())
    }

    /// Deletes all that is stored of a Workflow, an object at a time.
    pub async fn purge(&self, uid: &str) -> Result<(), StoreError> {
        let prefix = workflow(uid);
        let locations = self
            .objects
            .list(Some(&prefix))
            .map_ok(|meta| meta.location)
            .boxed();
        let mut deleted = self.objects.delete_stream(locations);
        while let Some(outcome) = deleted.next().await {
            absent_as_none(outcome)?;
        }
        if let Some(directory) = &self.directory {
            let path = directory.join(prefix.as_ref());
            match tokio::fs::remove_dir_all(&path).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::Directory { path, source: error });
                }
                _ => (),
            }
        }
        Ok(())
    }

    /// Puts an object unless there is one. Answers whether it did.
    pub(crate) async fn create(&self, path: &Path, content: &[u8]) -> Result<bool, StoreError> {
        let options = PutOptions::from(PutMode::Create);
        let payload = Bytes::copy_from_slice(content).into();
        match self.objects.put_opts(path, payload, options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let Some(found) = absent_as_none(self.objects.get(path).await)? else {
            return Ok(None);
        };
        let content = found.bytes().await?;
        let value = serde_json::from_slice(&content).map_err(|source| StoreError::Corrupt {
            path: path.clone(),
            source,
        })?;
        Ok(Some(value))
    }

    /// Numbers of the objects directly below a prefix.
    async fn numbers(&self, prefix: &Path) -> Result<Vec<u64>, StoreError> {
        let listed = absent_as_none(self.objects.list_with_delimiter(Some(prefix)).await)?;
        let objects = listed.map(|listed| listed.objects).unwrap_or_default();
        Ok(objects.iter().filter_map(number).collect())
    }

    /// The highest attempt granted to this stage, if it is above this one.
    async fn fence_above(&self, key: &AttemptKey) -> Result<Option<u32>, StoreError> {
        let prefix = stage(key).join("bound");
        let listed = absent_as_none(self.objects.list_with_delimiter(Some(&prefix)).await)?;
        let objects = listed.map(|listed| listed.objects).unwrap_or_default();
        Ok(objects
            .iter()
            .filter_map(|meta| meta.location.filename()?.strip_suffix(".json")?.parse().ok())
            .filter(|attempt| *attempt > key.attempt)
            .max())
    }
}

/// The number that is the name of an object.
fn number(meta: &ObjectMeta) -> Option<u64> {
    let name = meta.location.filename()?;
    name.strip_suffix(".json").unwrap_or(name).parse().ok()
}

fn workflow(uid: &str) -> Path {
    Path::from_iter(["workflows", uid])
}

fn stage(key: &AttemptKey) -> Path {
    Path::from_iter(["workflows", &key.workflow_uid, "stages", &key.stage])
}

fn bound(key: &AttemptKey) -> Path {
    stage(key).join("bound").join(format!("{}.json", key.attempt))
}

fn result_path(key: &AttemptKey) -> Path {
    stage(key).join("results").join(format!("{}.json", key.attempt))
}

pub(crate) fn uploads(key: &AttemptKey) -> Path {
    stage(key).join("uploads").join(key.attempt.to_string())
}

pub(crate) fn upload(key: &AttemptKey, digest: &Digest, bytes: u64) -> Path {
    uploads(key).join(format!("{}-{bytes}", digest.hex()))
}

pub(crate) fn blob(uid: &str, digest: &Digest) -> Path {
    workflow(uid).join("blobs").join(digest.hex())
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(StoreError::Encode)
}

pub(crate) fn absent_as_none<T>(outcome: object_store::Result<T>) -> Result<Option<T>, StoreError> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The local backend stages what it writes in files whose names end in `#` and a number. A gateway that is killed leaves
/// them behind, and nothing lists them; no write is under way at the start, so they are all rubbish.
fn remove_staged(directory: &FilePath) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_staged(&entry.path())?;
        } else if is_staged(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_staged(name: &str) -> bool {
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}
