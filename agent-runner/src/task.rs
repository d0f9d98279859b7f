//! What every built-in agent does around its work: find its places, read its task, tell people how far it is, and write
//! its result. It knows only what any third party knows: the environment variables of the contract.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::result::AgentResult;

use crate::loopback::AgentMessage;

/// How long progress may take before it is given up: it is for people only.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// Where an agent works.
#[derive(Clone, Debug)]
pub struct Places {
    /// The task envelope, `STAGECRAFT_TASK`.
    pub task: PathBuf,
    /// The directory whose content becomes the commit, `STAGECRAFT_WORKSPACE`.
    pub workspace: PathBuf,
    /// Where the result goes, `STAGECRAFT_RESULT`.
    pub result: PathBuf,
    /// The runner on loopback, `STAGECRAFT_RUNNER_URL`. None: nobody hears of progress.
    pub runner: Option<String>,
}

/// Ends the process as `work` ended. An error here is one of the agent's surroundings; a failure of the work itself belongs
/// in the result.
pub fn finish(work: impl FnOnce() -> anyhow::Result<ExitCode>) -> ExitCode {
    match work() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("stagecraft-agent: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The path in the environment variable `name`.
pub fn path_variable(name: &str) -> anyhow::Result<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("the variable {name} is not set"))
}

impl Places {
    /// The places that the environment names.
    pub fn from_environment() -> anyhow::Result<Self> {
        Ok(Self {
            task: path_variable("STAGECRAFT_TASK")?,
            workspace: path_variable("STAGECRAFT_WORKSPACE")?,
            result: path_variable("STAGECRAFT_RESULT")?,
            runner: std::env::var("STAGECRAFT_RUNNER_URL").ok(),
        })
    }

    /// Reads the task.
    pub fn read_task(&self) -> anyhow::Result<TaskEnvelope> {
        let text =
            std::fs::read(&self.task).with_context(|| format!("cannot read {}", self.task.display()))?;
        serde_json::from_slice(&text).context("the task is not understood")
    }

    /// Writes the result.
    pub fn write_result(&self, result: &AgentResult) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(result)?;
        std::fs::write(&self.result, text).with_context(|| format!("cannot write {}", self.result.display()))
    }

    /// Tells people how far `agent` is. Nothing depends on whether it is heard.
    pub fn tell(&self, agent: &str, message: &str, fields: Map<String, Value>) {
        let Some(runner) = &self.runner else { return };
        let message = AgentMessage {
            message: message.to_owned(),
            fields,
        };
        let http = ureq::Agent::config_builder()
            .proxy(None)
            .timeout_global(Some(PROGRESS_TIMEOUT))
            .build()
            .new_agent();
        if let Err(error) = http.post(format!("{runner}/v1/events")).send_json(&message) {
            eprintln!("{agent}: nobody heard of the progress: {error}");
        }
    }
}
