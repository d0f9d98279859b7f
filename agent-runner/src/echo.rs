//! The echo agent: writes files and outputs from its task, and misbehaves when its payload says so. It knows only what any
//! third party knows: the environment variables of the contract.

mod fault;

use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use stagecraft_api::envelope::{BuiltInPayload, EchoPayload, Payload, TaskEnvelope};
use stagecraft_api::result::AgentResult;

use crate::loopback::AgentMessage;

pub use fault::{LINGER, linger};

/// How long progress may take before it is given up: it is for people only.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// Does the task that the environment names.
pub fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stagecraft-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the agent works.
struct Places {
    task: PathBuf,
    workspace: PathBuf,
    result: PathBuf,
    runner: Option<String>,
}

fn run() -> anyhow::Result<ExitCode> {
    let places = Places::from_environment()?;
    let text =
        std::fs::read(&places.task).with_context(|| format!("cannot read {}", places.task.display()))?;
    let task: TaskEnvelope = serde_json::from_slice(&text).context("the task is not understood")?;
    let payload = payload(&task)?;
    println!(
        "echo: stage {} of {}, attempt {}",
        task.attempt.stage, task.project.name, task.attempt.attempt
    );
    std::thread::sleep(Duration::from_millis(payload.sleep_millis));
    let files = write_files(&places.workspace, &task, &payload)?;
    tell_progress(&places, files.len());
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
            write_result(&places.result, &result)?;
            Ok(ExitCode::SUCCESS)
        }
        Some(fault) => fault::commit(fault, &places, result),
    }
}

impl Places {
    fn from_environment() -> anyhow::Result<Self> {
        let path = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .with_context(|| format!("the variable {name} is not set"))
        };
        Ok(Self {
            task: path("STAGECRAFT_TASK")?,
            workspace: path("STAGECRAFT_WORKSPACE")?,
            result: path("STAGECRAFT_RESULT")?,
            runner: std::env::var("STAGECRAFT_RUNNER_URL").ok(),
        })
    }
}

/// An Agent of another name may run this program too; its payload then has the general form.
fn payload(task: &TaskEnvelope) -> anyhow::Result<EchoPayload> {
    match &task.payload {
        Payload::BuiltIn(BuiltInPayload::Echo(payload)) => Ok(payload.clone()),
        Payload::Other { payload, .. } => serde_json::from_value(Value::Object(payload.clone()))
            .context("the payload is not that of the echo agent"),
    }
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
        let relative = Path::new(path);
        if !relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
        {
            bail!("the path {path:?} in payload.files does not stay below the workspace");
        }
        let file = workspace.join(relative);
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

fn tell_progress(places: &Places, files: usize) {
    let Some(runner) = &places.runner else { return };
    let message = AgentMessage {
        message: format!("wrote {files} files"),
        fields: serde_json::Map::from_iter([("files".to_owned(), json!(files))]),
    };
    let http = ureq::Agent::config_builder()
        .proxy(None)
        .timeout_global(Some(PROGRESS_TIMEOUT))
        .build()
        .new_agent();
    if let Err(error) = http.post(format!("{runner}/v1/events")).send_json(&message) {
        eprintln!("echo: nobody heard of the progress: {error}");
    }
}

fn write_result(path: &Path, result: &AgentResult) -> anyhow::Result<()> {
    let text = serde_json::to_vec_pretty(result)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
