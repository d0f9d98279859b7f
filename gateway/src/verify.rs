//! Does a result keep the rules? Pure: whether its blobs are in the store is asked elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::status::{Artifact, Changes, WorkspaceRef};
use stagecraft_api::{AttemptKey, Digest, StructuredError, limit};

/// A blob that a result names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedBlob {
    /// What the result calls it, for messages.
    pub name: String,
    pub digest: Digest,
    pub bytes: u64,
}

/// The blobs that a result names, or the first rule that it breaks. The bounds are those of the status that the result
/// ends up in: the API server would refuse a status that breaks them, and the Workflow would be stuck.
pub fn named_blobs(key: &AttemptKey, result: &AttemptResult) -> Result<Vec<NamedBlob>, String> {
    if result.attempt != *key {
        return Err(format!(
            "the result is of attempt {}, but the caller is {key}",
            result.attempt
        ));
    }
    match &result.outcome {
        Outcome::Failed { error } => check_error(error).map(|()| Vec::new()),
        Outcome::Succeeded {
            summary,
            outputs,
            workspace,
            artifacts,
            metrics,
        } => {
            check_metrics(metrics)?;
            at_most("summary", text_bytes(summary), limit::MESSAGE_BYTES)?;
            at_most("outputs as JSON", json_bytes(outputs), limit::OUTPUTS_BYTES)?;
            let depth = outputs.values().map(limit::depth).max().unwrap_or(0) + 1;
            if depth > limit::DEPTH {
                return Err(format!(
                    "the outputs are nested {depth} deep, over the limit of {}",
                    limit::DEPTH
                ));
            }
            let mut blobs = Vec::new();
            if let Some(workspace) = workspace {
                blobs.push(check_workspace(workspace)?);
            }
            blobs.extend(check_artifacts(artifacts)?);
            Ok(blobs)
        }
    }
}

/// Names and numbers of gates end up in the status; what no gate asks for does not.
fn check_metrics(metrics: &BTreeMap<String, f64>) -> Result<(), String> {
    if metrics.len() > limit::METRICS {
        return Err(format!(
            "there are {} metrics, over the limit of {}",
            metrics.len(),
            limit::METRICS
        ));
    }
    match metrics.iter().find(|(_, number)| !number.is_finite()) {
        Some((name, number)) => Err(format!("the metric {name} is {number}, which is no number")),
        None => Ok(()),
    }
}

/// The blob of a workspace, if its commit is one.
pub fn check_workspace(workspace: &WorkspaceRef) -> Result<NamedBlob, String> {
    let WorkspaceRef {
        commit,
        bundle,
        bytes,
        changes,
    } = workspace;
    if !is_commit(commit) {
        return Err("workspace.commit is not 40 lower-case hexadecimal digits".to_owned());
    }
    if let Some(Changes { base, stat, .. }) = changes {
        if base.as_deref().is_some_and(|base| !is_commit(base)) {
            return Err("workspace.changes.base is not 40 lower-case hexadecimal digits".to_owned());
        }
        at_most("workspace.changes.stat", json_bytes(stat), limit::STAT_BYTES + 2)?;
    }
    Ok(NamedBlob {
        name: "workspace.bundle".to_owned(),
        digest: bundle.clone(),
        bytes: *bytes,
    })
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn check_artifacts(artifacts: &[Artifact]) -> Result<Vec<NamedBlob>, String> {
    if artifacts.len() > limit::ARTIFACTS {
        return Err(format!(
            "there are {} artifacts, over the limit of {}",
            artifacts.len(),
            limit::ARTIFACTS
        ));
    }
    at_most(
        "artifacts as JSON",
        json_bytes(&artifacts),
        limit::ARTIFACTS_BYTES,
    )?;
    let mut names = BTreeSet::new();
    let mut blobs = Vec::with_capacity(artifacts.len());
    for artifact in artifacts {
        let Artifact {
            name,
            digest,
            bytes,
            media_type,
        } = artifact;
        if name.is_empty() {
            return Err("an artifact has no name".to_owned());
        }
        at_most("the name of an artifact", name.len(), limit::ARTIFACT_NAME_BYTES)?;
        at_most(
            "the media type of an artifact",
            media_type.len(),
            limit::MEDIA_TYPE_BYTES,
        )?;
        if !names.insert(name) {
            return Err(format!("two artifacts have the name {name:?}"));
        }
        blobs.push(NamedBlob {
            name: format!("artifact {name:?}"),
            digest: digest.clone(),
            bytes: *bytes,
        });
    }
    Ok(blobs)
}

fn check_error(error: &StructuredError) -> Result<(), String> {
    if error.code.is_empty() {
        return Err("error.code is empty".to_owned());
    }
    at_most("error.code", error.code.len(), 63)?;
    at_most("error.message", text_bytes(&error.message), limit::MESSAGE_BYTES)?;
    let action = error.suggested_action.as_deref().unwrap_or_default();
    at_most("error.suggestedAction", text_bytes(action), limit::MESSAGE_BYTES)?;
    if error.retry_after.is_some_and(|seconds| seconds > 86_400) {
        return Err("error.retryAfter is over the limit of 86400 seconds".to_owned());
    }
    Ok(())
}

fn at_most(what: &str, bytes: usize, limit: usize) -> Result<(), String> {
    if bytes <= limit {
        Ok(())
    } else {
        Err(format!("{what} has {bytes} bytes, over the limit of {limit}"))
    }
}

/// Bytes that a value takes in the stored status.
fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |json| limit::stored_bytes(&json))
}

/// Bytes that a text takes in the stored status, without its quotes.
fn text_bytes(text: &str) -> usize {
    json_bytes(&text).saturating_sub(2)
}
