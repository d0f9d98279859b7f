//! The echo agent: writes files and outputs from its task, and misbehaves when its payload says so.

mod fault;

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::payload::{BuiltInPayload, EchoPayload, Payload};
use stagecraft_api::result::AgentResult;

use crate::task::{self, Places};

pub use fault::{LINGER, linger};

/// Does the task that the environment names.
pub fn main() -> ExitCode {
    task::finish(run)
}

fn run() -> anyhow::Result<ExitCode> {
    let places = Places::from_environment()?;
    let task = places.read_task()?;
    let payload = payload(&task)?;
    println!(
        "echo: stage {} of {}, attempt {}",
        task.attempt.stage, task.project.name, task.attempt.attempt
    );
    std::thread::sleep(Duration::from_millis(payload.sleep_millis));
    remove(&places.workspace, &payload)?;
    let files = write_files(&places.workspace, &task, &payload)?;
    let fields = serde_json::Map::from_iter([("files".to_owned(), json!(files.len()))]);
    places.tell("echo", &format!("wrote {} files", files.len()), fields);
    let result = AgentResult {
        summary: format!("echoed {} requirements", task.project.requirements.len()),
        outputs: outputs(&task, &payload, &files),
        ..AgentResult::default()
    };
    let active = payload
        .fault_until_attempt
        .is_none_or(|last| task.attempt.attempt <= last);
    match payload.fault.filter(|_| active) {
        None => {
            places.write_result(&result)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(fault) => fault::commit(fault, &places, result),
    }
}

/// An Agent of another name may run this program too; its payload then has the general form.
fn payload(task: &TaskEnvelope) -> anyhow::Result<EchoPayload> {
    match &task.payload {
        Payload::BuiltIn(BuiltInPayload::Echo(payload)) => Ok(payload.clone()),
        Payload::BuiltIn(other) => bail!("the task is for the agent {}", other.agent()),
        Payload::Other { payload, .. } => serde_json::from_value(Value::Object(payload.clone()))
            .context("the payload is not that of the echo agent"),
    }
}

/// `path` below the workspace.
fn below(workspace: &Path, field: &str, path: &str) -> anyhow::Result<PathBuf> {
    let relative = Path::new(path);
    if path.is_empty()
        || !relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
    {
        bail!("the path {path:?} in payload.{field} does not stay below the workspace");
    }
    Ok(workspace.join(relative))
}

fn remove(workspace: &Path, payload: &EchoPayload) -> anyhow::Result<()> {
    for path in &payload.remove {
        let file = below(workspace, "remove", path)?;
        let removed = match std::fs::symlink_metadata(&file) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&file),
            Ok(_) => std::fs::remove_file(&file),
            Err(error) => Err(error),
        };
        removed.with_context(|| format!("cannot remove {path:?}, which payload.remove names"))?;
    }
    Ok(())
}

fn write_files(workspace: &Path, task: &TaskEnvelope, payload: &EchoPayload) -> anyhow::Result<Vec<String>> {
    let mut files = payload.files.clone();
    if files.is_empty() {
        let lines = task
            .project
            .requirements
            .iter()
            .map(|requirement| format!("- {requirement}\n"));
        let text = format!(
            "# {}: {}\n\n{}",
            task.project.name,
            task.attempt.stage,
            lines.collect::<String>()
        );
        files.insert(format!("stages/{}.md", task.attempt.stage), text);
    }
    for (path, text) in &files {
        let file = below(workspace, "files", path)?;
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(files.into_keys().collect())
}

fn outputs(task: &TaskEnvelope, payload: &EchoPayload, files: &[String]) -> serde_json::Map<String, Value> {
    let previous: Vec<&String> = task.context.previous_outputs.keys().collect();
    let mut outputs = serde_json::Map::from_iter([
        ("echo".to_owned(), json!(task.project.name)),
        ("stage".to_owned(), json!(task.attempt.stage)),
        ("attempt".to_owned(), json!(task.attempt.attempt)),
        ("requirements".to_owned(), json!(task.project.requirements.len())),
        ("files".to_owned(), json!(files)),
        ("previous".to_owned(), json!(previous)),
    ]);
    outputs.extend(payload.outputs.clone());
    outputs
}
