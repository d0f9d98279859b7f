//! What launcher and runner say to each other on 127.0.0.1. ARCHITECTURE.md, "A stage Pod", is its description.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stagecraft_api::status::Usage;

/// Where the runner listens.
pub const ADDRESS: &str = "127.0.0.1:9411";
/// The same as a URL, for a launcher that is told nothing else.
pub const URL: &str = "http://127.0.0.1:9411";
/// Longest wait for an instruction before the runner answers `continue`.
pub const LONG_POLL: Duration = Duration::from_secs(20);

/// How the agent's command ended.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ExitReport {
    /// 128 plus the signal when a signal ended it, as shells have it; 126 and 127 when it could not be started.
    pub exit_code: i32,
    #[serde(default)]
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for want of memory since the command started.
    #[serde(default)]
    pub oom_killed: bool,
    /// The Pod was told to go before the command ended.
    #[serde(default)]
    pub terminating: bool,
    /// What the container took until then.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The last 2 KiB of the command's output, standard error included.
    #[serde(default)]
    pub output_tail: String,
}

/// What the launcher is to do.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Instruction {
    pub action: Action,
    /// What the launcher exits with when it is released.
    #[serde(default)]
    pub exit_code: i32,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    Continue,
    Stop,
    Release,
}

/// Progress that an agent tells.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentMessage {
    pub message: String,
    #[serde(default)]
    pub fields: Map<String, Value>,
}
