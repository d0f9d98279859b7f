//! The end of an integration: the branch moves to what was checked, or stays.

use std::fs;

use git2::Oid;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::{chain, truncate};
use stagecraft_api::payload::IntegrationPayload;
use stagecraft_api::protocol::{BranchEntry, BranchReply, MoveBranchRequest};
use stagecraft_api::result::Outcome;
use stagecraft_api::status::WorkspaceRef;
use stagecraft_api::{StructuredError, limit};

use super::outcome::{Kept, MergeOutputs, compose, findings, shortcomings};
use super::{IntegrateError, Integration, payload};
use crate::runner::collect::Collected;
use crate::runner::gateway::{Gateway, GatewayError};
use crate::runner::git::{self, bundle, changes};
use crate::runner::journal::Upload;
use crate::runner::layout::Layout;

/// Code of the gateway's refusal to move a branch for a stage that has moved it before.
const ALREADY_MOVED: &str = "AlreadyMoved";

/// Moves the branch to what was checked, if the checks found it good. What comes of other tasks is handed back as it is.
/// Doing it again after a death in the middle gives the same.
pub async fn finish(
    layout: &Layout,
    gateway: &Gateway,
    integration: Option<Integration>,
    task: &TaskEnvelope,
    collected: Collected,
) -> Result<Collected, StructuredError> {
    let Some(payload) = payload(task) else {
        return Ok(collected);
    };
    let moved = settle(layout, gateway, integration, task, payload, collected).await;
    moved.map_err(|error| {
        tracing::warn!(error = %chain(&error), "the branch is not moved");
        error.structured()
    })
}

async fn settle(
    layout: &Layout,
    gateway: &Gateway,
    integration: Option<Integration>,
    task: &TaskEnvelope,
    payload: &IntegrationPayload,
    collected: Collected,
) -> Result<Collected, IntegrateError> {
    let integration = integration.ok_or(IntegrateError::Unprepared)?;
    let Collected {
        outcome,
        mut uploads,
        skipped,
    } = collected;
    let Outcome::Succeeded {
        summary,
        outputs,
        artifacts,
        metrics,
        // Whatever the agent left in the workspace: what was checked is what was merged.
        workspace: _,
    } = outcome
    else {
        return Ok(Collected {
            outcome,
            uploads,
            skipped,
        });
    };
    let branch = &payload.target_branch;
    let mut reasons = shortcomings(&metrics);
    if !reasons.is_empty() {
        reasons.extend(findings(&outputs));
        return Err(IntegrateError::NotGood {
            branch: branch.clone(),
            commit: integration.commit,
            reasons,
        });
    }
    let kept = Kept {
        summary: summarize(&integration, payload, &summary),
        outputs: compose(outputs, &merge_outputs(&integration, payload))
            .map_err(|bytes| IntegrateError::Outputs { bytes })?,
        artifacts,
        metrics,
    };
    let (workspace, made) = bundled(layout, task, &integration).await?;
    uploads.extend(made);
    // Before the move: whoever takes it over finds all that it names.
    for Upload { digest, bytes } in &uploads {
        let file = layout.blobs().join(digest.hex());
        let uploaded = gateway.upload(digest, *bytes, &file).await;
        uploaded.map_err(IntegrateError::Upload)?;
    }
    if integration.already_merged {
        return Ok(Collected {
            outcome: kept.outcome(workspace),
            uploads: Vec::new(),
            skipped,
        });
    }
    let request = MoveBranchRequest {
        expected: integration.from,
        workspace,
        outputs: kept.fields().map_err(IntegrateError::Encode)?,
    };
    let entry = advance(gateway, branch, &request).await?;
    tracing::info!(
        branch,
        number = entry.number,
        commit = entry.workspace.commit,
        "the branch stands at the work"
    );
    Ok(Collected {
        skipped,
        ..take_over(branch, &entry)?
    })
}

/// The move of the stage: this one, or that of an earlier attempt which came to be since this one looked.
async fn advance(
    gateway: &Gateway,
    branch: &str,
    request: &MoveBranchRequest,
) -> Result<BranchEntry, IntegrateError> {
    let refused = match gateway.move_branch(branch, request).await {
        Ok(entry) => return Ok(entry),
        Err(error) => error,
    };
    if matches!(&refused, GatewayError::Refused { error, .. } if error.code == ALREADY_MOVED) {
        let BranchReply { own, .. } =
            gateway
                .branch(branch)
                .await
                .map_err(|source| IntegrateError::Fetch {
                    branch: branch.to_owned(),
                    source,
                })?;
        if let Some(own) = own {
            return Ok(own);
        }
    }
    Err(IntegrateError::Move {
        branch: branch.to_owned(),
        source: refused,
    })
}

/// The stage's end by a move that stands: all that it names was uploaded before.
pub(super) fn take_over(branch: &str, entry: &BranchEntry) -> Result<Collected, IntegrateError> {
    let kept = Kept::of(entry).map_err(|source| IntegrateError::Kept {
        branch: branch.to_owned(),
        source,
    })?;
    Ok(Collected {
        outcome: kept.outcome(entry.workspace.clone()),
        uploads: Vec::new(),
        skipped: Vec::new(),
    })
}

/// The merged commit with its history as a blob, and the upload that it takes; none when the gateway has it.
async fn bundled(
    layout: &Layout,
    task: &TaskEnvelope,
    integration: &Integration,
) -> Result<(WorkspaceRef, Option<Upload>), IntegrateError> {
    if let Some(input) = &task.workspace
        && input.commit == integration.commit
    {
        return Ok((input.clone(), None));
    }
    let (layout, commit, from) = (
        layout.clone(),
        integration.commit.clone(),
        integration.from.clone(),
    );
    let span = tracing::Span::current();
    let export =
        tokio::task::spawn_blocking(move || span.in_scope(|| export(&layout, &commit, from.as_deref())));
    let workspace = export.await??;
    let upload = Upload {
        digest: workspace.bundle.clone(),
        bytes: workspace.bytes,
    };
    Ok((workspace, Some(upload)))
}

/// The commit, and what it changes of where the branch stood.
fn export(layout: &Layout, commit: &str, from: Option<&str>) -> Result<WorkspaceRef, IntegrateError> {
    let repository = git::open(&layout.git())?;
    fs::create_dir_all(layout.blobs())?;
    let unfinished = layout.blobs().join("merged");
    let (id, from) = (Oid::from_str(commit)?, from.map(Oid::from_str).transpose()?);
    let written = bundle::export(&repository, id, &unfinished).map_err(IntegrateError::Bundle)?;
    if written.bytes > limit::BLOB_BYTES {
        return Err(IntegrateError::TooLarge { bytes: written.bytes });
    }
    fs::rename(unfinished, layout.blobs().join(written.digest.hex()))?;
    Ok(WorkspaceRef {
        commit: commit.to_owned(),
        bundle: written.digest,
        bytes: written.bytes,
        changes: Some(changes::since(&repository, from, id)?),
    })
}

fn merge_outputs<'merge>(
    integration: &'merge Integration,
    payload: &'merge IntegrationPayload,
) -> MergeOutputs<'merge> {
    MergeOutputs {
        branch: &payload.target_branch,
        strategy: payload.strategy.as_str(),
        from: integration.from.as_deref(),
        commit: &integration.commit,
        commits: integration.commits,
        conflicts: 0,
        already_merged: integration.already_merged,
    }
}

fn summarize(integration: &Integration, payload: &IntegrationPayload, agent: &str) -> String {
    let branch = &payload.target_branch;
    let done = match (integration.already_merged, integration.commits) {
        (true, _) => format!("{branch} had the work already"),
        (false, 1) => format!("1 commit brought to {branch}"),
        (false, commits) => format!("{commits} commits brought to {branch}"),
    };
    let whole = if agent.is_empty() {
        done
    } else {
        format!("{done}: {agent}")
    };
    truncate(&whole, limit::MESSAGE_BYTES)
}
