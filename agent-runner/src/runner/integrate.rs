//! Brings the work of a Workflow to a branch of its project: merged before the agent starts, so that the agent checks what the
//! branch would hold, and moved there after, if the checks found it good.
//!
//! The branch moves at most once for a stage, whatever becomes of its attempts: an attempt that finds a move of its stage ends
//! with what was kept there. Of several that want to move it, the gateway lets one; the others merge anew.

mod error;
mod finish;
mod merge;
mod outcome;

use std::fs;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::payload::{BuiltInPayload, IntegrationPayload, Payload};
use stagecraft_api::protocol::{BranchEntry, BranchReply};

pub use self::error::IntegrateError;
pub use self::finish::finish;
use self::finish::take_over;
pub use self::merge::{Conflict, MergeError, Merged, merge};
use super::collect::Collected;
use super::gateway::Gateway;
use super::git::{self, bundle, checkout};
use super::layout::Layout;
use super::prepare::{self, PrepareError};

/// How often the bundle of a tip is fetched when the branch moves meanwhile.
const FETCHES: usize = 5;

/// A merge that waits for its checks, as the journal keeps it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Integration {
    /// What the workspace holds, and the branch would.
    pub commit: String,
    /// Where the branch stood; none when it did not exist.
    pub from: Option<String>,
    /// How many commits of the work the branch did not have.
    pub commits: u64,
    /// The branch need not move.
    pub already_merged: bool,
}

/// How an integration begins.
#[derive(Debug)]
pub enum Beginning {
    /// The merged result is checked out, and has to be checked.
    Merged(Integration),
    /// An earlier attempt of the stage has moved the branch: nothing is left to do.
    TakenOver(Box<Collected>),
}

/// The input of an integration agent; none for other tasks.
pub fn payload(task: &TaskEnvelope) -> Option<&IntegrationPayload> {
    match &task.payload {
        Payload::BuiltIn(BuiltInPayload::Integration(payload)) => Some(payload),
        _ => None,
    }
}

/// Merges the work with the branch and checks the result out. The workspace has to be empty.
pub async fn begin(
    layout: &Layout,
    gateway: &Gateway,
    task: &TaskEnvelope,
    payload: &IntegrationPayload,
) -> Result<Beginning, PrepareError> {
    let branch = &payload.target_branch;
    let fetch = |source| IntegrateError::Fetch {
        branch: branch.clone(),
        source,
    };
    let reply = gateway.branch(branch).await.map_err(fetch)?;
    if let Some(own) = reply.own {
        return Ok(Beginning::TakenOver(Box::new(take_over(branch, &own)?)));
    }
    let work = task.workspace.as_ref().ok_or_else(|| IntegrateError::NoWork {
        stage: task.attempt.stage.clone(),
        branch: branch.clone(),
    })?;
    let input = prepare::fetch(layout, gateway, work).await?;
    let tip = fetch_tip(layout, gateway, branch, reply).await?;
    let merging = Merging {
        layout: layout.clone(),
        task: task.clone(),
        payload: payload.clone(),
        input: (work.commit.clone(), input),
        tip,
    };
    let span = tracing::Span::current();
    let merged = tokio::task::spawn_blocking(move || span.in_scope(|| merging.run()));
    let merged = merged.await.map_err(IntegrateError::from)??;
    Ok(Beginning::Merged(merged))
}

/// Downloads what a branch stands at: its commit, and the file with its bundle. None when the branch does not exist.
async fn fetch_tip(
    layout: &Layout,
    gateway: &Gateway,
    branch: &str,
    mut reply: BranchReply,
) -> Result<Option<(String, PathBuf)>, PrepareError> {
    let fetch = |source| IntegrateError::Fetch {
        branch: branch.to_owned(),
        source,
    };
    let file = layout.state().join("tip.bundle");
    let mut fetches = 0;
    // What is fetched is the tip of that moment, which may be another one by now.
    while let Some(BranchEntry { workspace: tip, .. }) = &reply.tip {
        gateway
            .download_tip(branch, tip.bytes, &file)
            .await
            .map_err(fetch)?;
        match prepare::verify(tip, &file).await {
            Err(PrepareError::Different(_)) if fetches + 1 < FETCHES => fetches += 1,
            Err(PrepareError::Different(_)) => {
                let branch = branch.to_owned();
                return Err(IntegrateError::Restless { branch }.into());
            }
            outcome => {
                outcome?;
                break;
            }
        }
        reply = gateway.branch(branch).await.map_err(fetch)?;
    }
    Ok(reply.tip.map(|tip| (tip.workspace.commit, file)))
}

/// Takes what the branch stands at into the git directory, so that a new version of the project can follow upon it. Its commit;
/// none when the task begins no project, or the branch does not exist.
pub async fn base(
    layout: &Layout,
    gateway: &Gateway,
    task: &TaskEnvelope,
) -> Result<Option<String>, PrepareError> {
    let (Payload::BuiltIn(BuiltInPayload::Scaffold(payload)), None) = (&task.payload, &task.workspace) else {
        return Ok(None);
    };
    let branch = payload.base_branch.clone();
    let reply = gateway.branch(&branch).await;
    let reply = reply.map_err(|source| IntegrateError::Fetch {
        branch: branch.clone(),
        source,
    })?;
    let Some((commit, file)) = fetch_tip(layout, gateway, &branch, reply).await? else {
        return Ok(None);
    };
    let git = layout.git();
    let span = tracing::Span::current();
    let importing = tokio::task::spawn_blocking(move || {
        span.in_scope(|| {
            let imported = import(&git::open(&git)?, &branch, &file, &commit)?;
            tracing::info!(branch, commit, "the new version follows upon the branch");
            Ok(imported.to_string())
        })
    });
    importing.await.map_err(IntegrateError::from)?.map(Some)
}

fn import(repository: &Repository, branch: &str, file: &Path, commit: &str) -> Result<Oid, IntegrateError> {
    let imported = bundle::import(repository, file, commit).map_err(|source| IntegrateError::Corrupt {
        branch: branch.to_owned(),
        source,
    })?;
    fs::remove_file(file)?;
    Ok(imported)
}

/// Work and tip as commits in bundles.
struct Merging {
    layout: Layout,
    task: TaskEnvelope,
    payload: IntegrationPayload,
    input: (String, PathBuf),
    tip: Option<(String, PathBuf)>,
}

impl Merging {
    fn run(self) -> Result<Integration, PrepareError> {
        let repository = git::open(&self.layout.git())?;
        let (commit, file) = &self.input;
        let work = bundle::import(&repository, file, commit)?;
        fs::remove_file(file)?;
        let branch = &self.payload.target_branch;
        let tip = self
            .tip
            .map(|(commit, file)| import(&repository, branch, &file, &commit));
        let tip = tip.transpose()?;
        let merged = merge(&repository, &self.task, &self.payload, tip, work);
        let Merged {
            commit,
            commits,
            already,
        } = merged.map_err(|source| IntegrateError::Merge {
            branch: self.payload.target_branch.clone(),
            source,
        })?;
        let workspace = self.layout.open_workspace()?;
        checkout::checkout(&repository, commit, &workspace).map_err(IntegrateError::from)?;
        tracing::info!(
            branch = self.payload.target_branch,
            strategy = self.payload.strategy.as_str(),
            %commit,
            commits,
            already,
            "the work is merged"
        );
        Ok(Integration {
            commit: commit.to_string(),
            from: tip.map(|tip| tip.to_string()),
            commits: u64::try_from(commits).unwrap_or(u64::MAX),
            already_merged: already,
        })
    }
}
