//! Collects what a good attempt leaves behind: the commit of its workspace and its artifacts, as files on the runner's own
//! volume that nobody changes any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use git2::Oid;
use rustix::fs::OFlags;
use stagecraft_api::agent::WorkspaceAccess;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::result::{AgentResult, ArtifactDirectory, ArtifactFile, Outcome};
use stagecraft_api::status::{Artifact, WorkspaceRef};
use stagecraft_api::{Category, StructuredError, limit};

use super::evidence::compose;
use super::evidence::session::Evidence;
use super::git::bundle::{self, BundleError, HashingWriter, Written};
use super::git::snapshot::{self, Limits, RegularFile, SnapshotError};
use super::git::{self, changes, commit};
use super::journal::Upload;
use super::layout::Layout;
use crate::loopback::Check;
use stagecraft_api::error::chain;

/// Where the names of reports begin.
const REPORTS: &str = "reports/";

/// Why nothing can be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("the workspace is not a directory that can be read")]
    Workspace(#[source] io::Error),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the workspace cannot be committed")]
    Commit(#[from] git2::Error),
    #[error("the commit cannot be bundled")]
    Bundle(#[from] BundleError),
    #[error(
        "the commit with its history has {bytes} bytes, over the limit of {} for a blob",
        limit::BLOB_BYTES
    )]
    BundleTooLarge { bytes: u64 },
    #[error("the directory for artifacts is not one that can be read")]
    Artifacts(#[source] io::Error),
    #[error(
        "the outputs with what was measured have {bytes} bytes as JSON, over the limit of {}",
        limit::OUTPUTS_BYTES
    )]
    Outputs { bytes: usize },
    #[error("{0}")]
    Artifact(String),
    #[error("the artifact {path:?} cannot be read")]
    ArtifactFile { path: String, source: io::Error },
    #[error(
        "the artifacts and the workspace have more than {} bytes together",
        limit::ATTEMPT_BLOB_BYTES
    )]
    TooLarge,
    #[error("the runner's volume cannot be written")]
    Volume(#[source] io::Error),
}

impl CollectError {
    pub fn structured(&self) -> StructuredError {
        let (code, category) = match self {
            Self::Workspace(_) | Self::Snapshot(SnapshotError::Unreadable { .. }) => {
                ("WorkspaceUnreadable", Category::Validation)
            }
            Self::Snapshot(SnapshotError::Objects(_)) | Self::Commit(_) | Self::Bundle(_) => {
                ("CommitFailed", Category::Unknown)
            }
            Self::Snapshot(_) | Self::BundleTooLarge { .. } => ("WorkspaceTooLarge", Category::Validation),
            Self::Outputs { .. } => ("OutputsTooLarge", Category::Validation),
            Self::Artifact(_) | Self::Artifacts(_) | Self::ArtifactFile { .. } => {
                ("ArtifactInvalid", Category::Validation)
            }
            Self::TooLarge => ("ArtifactsTooLarge", Category::Validation),
            Self::Volume(_) => ("CommitFailed", Category::Resource),
        };
        let error = StructuredError::new(code, category, chain(self));
        if code == "WorkspaceTooLarge" {
            error.suggest("have the agent remove dependencies, caches and build results from the workspace before it ends")
        } else {
            error
        }
    }
}

/// What was collected.
#[derive(Debug)]
pub struct Collected {
    pub outcome: Outcome,
    pub uploads: Vec<Upload>,
    /// Paths that could not be taken into the commit.
    pub skipped: Vec<String>,
}

/// Commits the workspace, where the agent may write to it, upon its input or upon `base`; copies the artifacts, and adds what
/// was measured.
pub fn collect(
    layout: &Layout,
    task: &TaskEnvelope,
    result: AgentResult,
    base: Option<&str>,
    evidence: Option<&Evidence>,
) -> Result<Collected, CollectError> {
    let mut blobs = Blobs::new(layout)?;
    let (commit, skipped) = match task.workspace_access {
        WorkspaceAccess::Write => {
            let workspace = layout.open_workspace().map_err(CollectError::Workspace)?;
            commit_workspace(layout, task, base, &workspace, &mut blobs)?
        }
        // Whatever became of the files: what was handed in is handed on.
        WorkspaceAccess::Read => (task.workspace.clone(), Vec::new()),
    };
    let artifacts = keep_artifacts(layout, &result.artifacts, evidence, &mut blobs)?;
    let (outputs, metrics) = match evidence {
        None => (result.outputs, BTreeMap::new()),
        Some(evidence) => (
            compose::outputs(result.outputs, evidence).map_err(|bytes| CollectError::Outputs { bytes })?,
            compose::metrics(evidence),
        ),
    };
    let outcome = Outcome::Succeeded {
        summary: result.summary,
        outputs,
        workspace: commit,
        artifacts,
        metrics,
    };
    Ok(Collected {
        outcome,
        uploads: blobs.uploads,
        skipped,
    })
}

fn commit_workspace(
    layout: &Layout,
    task: &TaskEnvelope,
    base: Option<&str>,
    workspace: &OwnedFd,
    blobs: &mut Blobs<'_>,
) -> Result<(Option<WorkspaceRef>, Vec<String>), CollectError> {
    let repository = git::open(&layout.git())?;
    let snapshot = snapshot::take(&repository, workspace, Limits::default())?;
    let parent = match &task.workspace {
        Some(input) => Some(input.commit.as_str()),
        None => base,
    };
    let parent = parent.map(Oid::from_str).transpose()?;
    // What the Workflow began with, as the stages before have handed it on. Unknown: nothing is compared.
    let began = match &task.workspace {
        Some(input) => input.changes.as_ref().map(|changes| changes.base.as_deref()),
        None => Some(base),
    };
    let made = match commit::commit(&repository, task, parent, &snapshot)? {
        commit::Outcome::New(id) => Some(id),
        commit::Outcome::Nothing => None,
        // What it follows upon is not stored for this attempt, unless it is the input.
        commit::Outcome::Unchanged => parent,
    };
    let commit = match made {
        None => None,
        Some(id) if parent == Some(id) && task.workspace.is_some() => task.workspace.clone(),
        Some(id) => {
            let written = bundle::export(&repository, id, &blobs.unfinished())?;
            if written.bytes > limit::BLOB_BYTES {
                return Err(CollectError::BundleTooLarge { bytes: written.bytes });
            }
            blobs.keep(&written)?;
            tracing::info!(commit = %id, bytes = written.bytes, "the workspace is committed");
            Some(WorkspaceRef {
                commit: id.to_string(),
                bundle: written.digest,
                bytes: written.bytes,
                changes: began
                    .map(|base| changes::since(&repository, base.map(Oid::from_str).transpose()?, id))
                    .transpose()?,
            })
        }
    };
    Ok((commit, snapshot.skipped))
}

/// The files that the result names, and the reports of the checks as they came.
fn keep_artifacts(
    layout: &Layout,
    files: &[ArtifactFile],
    evidence: Option<&Evidence>,
    blobs: &mut Blobs<'_>,
) -> Result<Vec<Artifact>, CollectError> {
    let reports: Vec<Check> = evidence
        .into_iter()
        .flat_map(|evidence| &evidence.checks)
        .filter(|checked| checked.ran)
        .map(|checked| checked.check)
        .collect();
    let count = files.len().saturating_add(reports.len());
    if count > limit::ARTIFACTS {
        let message = format!(
            "the result names {} artifacts, which with {} reports of checks is over the limit of {}",
            files.len(),
            reports.len(),
            limit::ARTIFACTS
        );
        return Err(CollectError::Artifact(message));
    }
    let mut names = BTreeSet::new();
    let mut artifacts = Vec::with_capacity(files.len());
    for check in reports {
        let source = fs::File::open(layout.report(check)).map_err(CollectError::Volume)?;
        let written = write(source, &blobs.unfinished()).map_err(CollectError::Volume)?;
        blobs.keep(&written)?;
        artifacts.push(Artifact {
            name: format!("{REPORTS}{}.json", check.as_str()),
            digest: written.digest,
            bytes: written.bytes,
            media_type: "application/json".to_owned(),
        });
    }
    for file in files {
        let media_type = file.media_type.as_deref().unwrap_or("application/octet-stream");
        if let Some(problem) = problem(file, media_type, &mut names) {
            return Err(CollectError::Artifact(problem));
        }
        let directory = match file.directory {
            ArtifactDirectory::Workspace => layout.open_workspace().map_err(CollectError::Workspace)?,
            ArtifactDirectory::Artifacts => layout.open_artifacts().map_err(CollectError::Artifacts)?,
        };
        let written = copy(&directory, &file.path, &blobs.unfinished())?;
        blobs.keep(&written)?;
        artifacts.push(Artifact {
            name: file.name.clone(),
            digest: written.digest,
            bytes: written.bytes,
            media_type: media_type.to_owned(),
        });
    }
    let json = serde_json::to_string(&artifacts).unwrap_or_default();
    let bytes = limit::stored_bytes(&json);
    if bytes > limit::ARTIFACTS_BYTES {
        let message = format!(
            "the list of artifacts has {bytes} bytes, over the limit of {}: give them shorter names",
            limit::ARTIFACTS_BYTES
        );
        return Err(CollectError::Artifact(message));
    }
    Ok(artifacts)
}

fn problem<'file>(
    file: &'file ArtifactFile,
    media_type: &str,
    names: &mut BTreeSet<&'file str>,
) -> Option<String> {
    let name = &file.name;
    if name.is_empty() || name.len() > limit::ARTIFACT_NAME_BYTES {
        return Some(format!(
            "an artifact's name has {} bytes, but from 1 to {} are allowed",
            name.len(),
            limit::ARTIFACT_NAME_BYTES
        ));
    }
    if media_type.len() > limit::MEDIA_TYPE_BYTES {
        return Some(format!(
            "the media type of the artifact {name:?} has {} bytes, over the limit of {}",
            media_type.len(),
            limit::MEDIA_TYPE_BYTES
        ));
    }
    if name.starts_with(REPORTS) {
        return Some(format!(
            "the artifact {name:?} has a name below {REPORTS}, where the reports of checks are: give it another"
        ));
    }
    (!names.insert(name)).then(|| format!("two artifacts have the name {name:?}"))
}

/// Copies a file that the agent left. Each part of its path is opened in the directory before it, and no link is followed.
fn copy(directory: &OwnedFd, path: &str, target: &Path) -> Result<Written, CollectError> {
    let failed = |source| CollectError::ArtifactFile {
        path: stagecraft_api::error::truncate(path, 256),
        source,
    };
    let source = open_beneath(directory, path).map_err(failed)?;
    let too_large = || {
        failed(io::Error::other(format!(
            "it has more than {} bytes",
            limit::BLOB_BYTES
        )))
    };
    if source.bytes > limit::BLOB_BYTES {
        return Err(too_large());
    }
    let written = write(source.file.take(limit::BLOB_BYTES + 1), target).map_err(failed)?;
    if written.bytes > limit::BLOB_BYTES {
        return Err(too_large());
    }
    Ok(written)
}

fn write(mut source: impl io::Read, target: &Path) -> io::Result<Written> {
    let mut writer = HashingWriter::new(fs::File::create(target)?);
    io::copy(&mut source, &mut writer)?;
    writer.finish()
}

/// Opens a regular file at a path below a directory, one part after the other, without following links.
pub(super) fn open_beneath(directory: &OwnedFd, path: &str) -> io::Result<RegularFile> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| *part != ".").collect();
    let outside = parts.iter().any(|part| part.is_empty() || *part == "..");
    let Some(last) = parts.pop().filter(|_| !outside) else {
        return Err(io::Error::other("it is not a path below that directory"));
    };
    let mut directory = directory.try_clone()?;
    for part in parts {
        directory = snapshot::open(&directory, part.as_bytes(), OFlags::DIRECTORY)?;
    }
    RegularFile::open(&directory, last.as_bytes())
}

/// Files that wait to be uploaded, named by their digests.
struct Blobs<'layout> {
    layout: &'layout Layout,
    uploads: Vec<Upload>,
}

impl<'layout> Blobs<'layout> {
    fn new(layout: &'layout Layout) -> Result<Self, CollectError> {
        // What an earlier try left is made again.
        let _ = fs::remove_dir_all(layout.blobs());
        fs::create_dir_all(layout.blobs()).map_err(CollectError::Volume)?;
        Ok(Self {
            layout,
            uploads: Vec::new(),
        })
    }

    fn unfinished(&self) -> std::path::PathBuf {
        self.layout.blobs().join("unfinished")
    }

    fn keep(&mut self, written: &Written) -> Result<(), CollectError> {
        let target = self.layout.blobs().join(written.digest.hex());
        fs::rename(self.unfinished(), target).map_err(CollectError::Volume)?;
        if self.uploads.iter().all(|upload| upload.digest != written.digest) {
            self.uploads.push(Upload {
                digest: written.digest.clone(),
                bytes: written.bytes,
            });
        }
        let total: u64 = self.uploads.iter().map(|upload| upload.bytes).sum();
        if total > limit::ATTEMPT_BLOB_BYTES {
            return Err(CollectError::TooLarge);
        }
        Ok(())
    }
}
