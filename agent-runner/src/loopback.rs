//! What launcher and runner say to each other on 127.0.0.1. ARCHITECTURE.md, "A stage Pod", is its description.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use stagecraft_api::status::Usage;

/// Where the runner listens.
pub const ADDRESS: &str = "127.0.0.1:9411";
/// The same as a URL, for a launcher that is told nothing else.
pub const URL: &str = "http://127.0.0.1:9411";
/// Longest report of a check, in bytes.
pub const REPORT_BYTES: usize = 8 * 1024 * 1024;
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

/// An agent asks for an image to be pushed. The answer is `PushImageReply`, or `ErrorReply`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRequest {
    /// Directory of an OCI image layout with one image, as a path below `STAGECRAFT_ARTIFACTS`.
    pub layout: String,
}

/// A check of a project, run by the toolchain image's `checks/NAME.mjs`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    /// Dependencies, from the lock file.
    Install,
    /// Types.
    Typescript,
    /// Lint rules.
    Eslint,
    /// Unit tests, and the lines that they cover.
    Tests,
    /// The production build.
    Build,
    /// Tests in a browser.
    E2e,
}

impl Check {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Typescript => "typescript",
            Self::Eslint => "eslint",
            Self::Tests => "tests",
            Self::Build => "build",
            Self::E2e => "e2e",
        }
    }
}

/// Opens the evidence session of an attempt, for the first who asks. Another key than the first gets 409; the same one may come
/// again, after an answer that was lost.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceSession {
    /// What reports and the result then carry, as `Authorization: Bearer KEY`: [`KEY_DIGITS`] hexadecimal digits at random.
    pub key: String,
}

/// Length of a key: 256 bits.
pub const KEY_DIGITS: usize = 64;

/// One check as its driver saw it.
#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckReport {
    pub check: Check,
    /// How long it took.
    pub seconds: f64,
    /// The tool's report, as it came out of the pipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<RawValue>>,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_run: Option<String>,
}

/// What a check comes to.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CheckReply {
    /// Nothing speaks against the work.
    pub passed: bool,
    /// In a few words.
    pub words: String,
}

/// Progress that an agent tells.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentMessage {
    pub message: String,
    #[serde(default)]
    pub fields: Map<String, Value>,
}
