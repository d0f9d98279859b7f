//! What a stored result says of its attempt. It came from outside: what the status could not hold is a failure here, or
//! the API server would refuse every patch of the Workflow.

use serde::Serialize;
use serde_json::{Map, Value};
use stagecraft_api::error::{Category, StructuredError, truncate};
use stagecraft_api::limit;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::RunStage;
use stagecraft_api::status::{Artifact, Changes, WorkspaceRef};

use crate::schema::validator;

/// The result if the stage succeeded with it, or why it did not.
pub fn judge_result(result: &AttemptResult, run: &RunStage) -> Result<AttemptResult, StructuredError> {
    match &result.outcome {
        Outcome::Failed { error } => Err(error.clone().bounded()),
        Outcome::Succeeded {
            summary: _,
            outputs,
            workspace,
            artifacts,
            metrics: _,
        } => {
            check_outputs(outputs, run)?;
            workspace.iter().try_for_each(check_workspace)?;
            check_artifacts(artifacts)?;
            Ok(result.clone())
        }
    }
}

fn check_outputs(outputs: &Map<String, Value>, run: &RunStage) -> Result<(), StructuredError> {
    let bytes = stored_bytes(outputs);
    if bytes > limit::OUTPUTS_BYTES {
        let message = format!(
            "outputs have {bytes} bytes; the limit is {}",
            limit::OUTPUTS_BYTES
        );
        return Err(
            StructuredError::new("OutputsTooLarge", Category::Validation, message)
                .suggest("keep large data as artifacts"),
        );
    }
    let outputs = Value::Object(outputs.clone());
    let depth = limit::depth(&outputs);
    if depth > limit::DEPTH {
        let message = format!("outputs are nested {depth} deep; the limit is {}", limit::DEPTH);
        return Err(
            StructuredError::new("OutputsTooDeep", Category::Validation, message)
                .suggest("keep deeply nested data as artifacts"),
        );
    }
    let Some(schema) = &run.agent.outputs_schema else {
        return Ok(());
    };
    let validator = validator(schema).map_err(|error| {
        StructuredError::new(
            "OutputsSchemaInvalid",
            Category::Configuration,
            format!(
                "outputsSchema of Agent {} is not a JSON Schema: {error}",
                run.agent.name
            ),
        )
        .suggest("correct the Agent and start the Workflow anew")
        .fatal()
    })?;
    let problems: Vec<String> = validator
        .iter_errors(&outputs)
        .take(5)
        .map(|error| {
            format!(
                "outputs{}: {}",
                error.instance_path(),
                truncate(&error.to_string(), 200)
            )
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    let message = format!(
        "outputs do not match outputsSchema of Agent {}: {}",
        run.agent.name,
        problems.join("; ")
    );
    Err(
        StructuredError::new("OutputsInvalid", Category::Validation, message)
            .suggest("correct the agent, or its outputsSchema"),
    )
}

fn check_workspace(workspace: &WorkspaceRef) -> Result<(), StructuredError> {
    let WorkspaceRef {
        commit,
        bundle: _,
        bytes,
        changes,
    } = workspace;
    check_commit("workspace.commit", commit)?;
    check_size("the workspace", *bytes)?;
    let Some(Changes {
        base,
        files,
        insertions,
        deletions,
        stat,
    }) = changes
    else {
        return Ok(());
    };
    base.iter()
        .try_for_each(|base| check_commit("workspace.changes.base", base))?;
    let count = *files.max(insertions).max(deletions);
    if count > limit::COUNT {
        return Err(invalid(format!(
            "workspace.changes counts {count}; the limit is {}",
            limit::COUNT
        )));
    }
    // With its quotes.
    let bytes = stored_bytes(stat);
    if bytes > limit::STAT_BYTES + 2 {
        return Err(invalid(format!(
            "workspace.changes.stat has {bytes} bytes; the limit is {}",
            limit::STAT_BYTES
        )));
    }
    Ok(())
}

fn check_commit(field: &str, commit: &str) -> Result<(), StructuredError> {
    let hexadecimal = commit
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if commit.len() != 40 || !hexadecimal {
        let commit = truncate(commit, 80);
        return Err(invalid(format!("{field} {commit:?} is not a commit")));
    }
    Ok(())
}

fn check_artifacts(artifacts: &[Artifact]) -> Result<(), StructuredError> {
    if artifacts.len() > limit::ARTIFACTS {
        return Err(too_many(format!(
            "there are {} artifacts; the limit is {}",
            artifacts.len(),
            limit::ARTIFACTS
        )));
    }
    for artifact in artifacts {
        let Artifact {
            name,
            digest: _,
            bytes,
            media_type,
        } = artifact;
        if !(1..=limit::ARTIFACT_NAME_BYTES).contains(&name.len()) {
            return Err(invalid(format!(
                "the name of artifact {:?} has {} bytes; it needs 1 to {}",
                truncate(name, 40),
                name.len(),
                limit::ARTIFACT_NAME_BYTES
            )));
        }
        if media_type.len() > limit::MEDIA_TYPE_BYTES {
            return Err(invalid(format!(
                "the media type of artifact {name:?} has {} bytes; the limit is {}",
                media_type.len(),
                limit::MEDIA_TYPE_BYTES
            )));
        }
        check_size(name, *bytes)?;
    }
    let bytes = stored_bytes(artifacts);
    if bytes > limit::ARTIFACTS_BYTES {
        return Err(too_many(format!(
            "the list of artifacts has {bytes} bytes; the limit is {}",
            limit::ARTIFACTS_BYTES
        )));
    }
    Ok(())
}

fn check_size(what: &str, bytes: u64) -> Result<(), StructuredError> {
    if bytes > limit::ATTEMPT_BLOB_BYTES {
        let limit = limit::ATTEMPT_BLOB_BYTES;
        return Err(invalid(format!("{what} has {bytes} bytes; the limit is {limit}")));
    }
    Ok(())
}

fn invalid(message: String) -> StructuredError {
    StructuredError::new("ResultInvalid", Category::Validation, message)
}

fn too_many(message: String) -> StructuredError {
    StructuredError::new("ArtifactsTooLarge", Category::Validation, message)
        .suggest("name fewer artifacts, or shorter names; many small files fit into one archive")
}

fn stored_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    serde_json::to_string(value).map_or(usize::MAX, |json| limit::stored_bytes(&json))
}
