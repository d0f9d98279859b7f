//! The task that an agent is given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attempt::AttemptKey;
use crate::moment::Moment;
use crate::run::RunProject;
use crate::status::WorkspaceRef;
use crate::workflow::Priority;

/// A task as it travels: in the annotation of the Job, in the task stream, in the reply to a claim, and in the file that
/// the agent reads. Everything that a stage needs to know is in it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct TaskEnvelope {
    /// `stagecraft.dev/v1alpha1`.
    pub api_version: String,
    /// Which attempt this is.
    pub attempt: AttemptKey,
    /// Name and namespace of the Workflow.
    pub workflow: WorkflowRef,
    /// W3C trace id of the Workflow.
    pub trace_id: String,
    pub priority: Priority,
    /// Failed attempts that counted so far, and how many may.
    pub retry_count: u32,
    pub retry_limit: u32,
    /// Longest time of this attempt, in seconds.
    pub timeout_seconds: u32,
    pub created_at: Moment,
    /// When the attempt is over, whatever it does.
    pub deadline: Moment,
    pub context: Context,
    pub project: RunProject,
    /// The commit to start from; none for an empty workspace.
    pub workspace: Option<WorkspaceRef>,
    /// Name of the agent with its input.
    #[serde(flatten)]
    pub payload: Payload,
    /// Program and arguments, for the launcher.
    pub command: Vec<String>,
    /// JSON Schema that `outputs` must match.
    pub outputs_schema: Option<Map<String, Value>>,
}

/// Name and namespace of a Workflow.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRef {
    pub namespace: String,
    pub name: String,
}

/// What went before.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    /// Outputs of the stages that succeeded so far, by name.
    pub previous_outputs: BTreeMap<String, Map<String, Value>>,
}

/// The agent's name and its input. Agents that Stagecraft knows have a type of their own.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(untagged)]
pub enum Payload {
    BuiltIn(BuiltInPayload),
    /// Any other agent, whose input only its `payloadSchema` describes.
    Other {
        agent: String,
        payload: Map<String, Value>,
    },
}

impl Payload {
    pub fn agent(&self) -> &str {
        match self {
            Self::BuiltIn(BuiltInPayload::Echo(_)) => "echo",
            Self::Other { agent, .. } => agent,
        }
    }
}

/// Input of the built-in agents.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "agent", content = "payload", rename_all = "camelCase")]
pub enum BuiltInPayload {
    Echo(EchoPayload),
}

/// Input of the echo agent: what it writes, and how it misbehaves when asked to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EchoPayload {
    /// Files to write into the workspace, from relative path to text. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub files: BTreeMap<String, String>,
    /// Fields to add to the outputs.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<String, Value>,
    /// Milliseconds to work before anything else. Default: 0.
    #[serde(default)]
    pub sleep_millis: u64,
    /// What to do instead of a proper end. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<EchoFault>,
    /// The fault happens in attempts up to this number only, so that a retry succeeds. Default: in every attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault_until_attempt: Option<u32>,
}

/// How the echo agent misbehaves.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EchoFault {
    /// Exits with status 3.
    Exit,
    /// Reports a failure in its result file and exits with status 0.
    Report,
    /// Never ends and ignores SIGTERM.
    Hang,
    /// Allocates memory until it is killed.
    LeakMemory,
    /// Ends well without a result file.
    NoResult,
    /// Writes a result file that is not JSON.
    MalformedResult,
    /// Writes a result file of 50 MB.
    HugeResult,
    /// Writes outputs of more than the limit.
    HugeOutputs,
    /// Leaves a child that ignores SIGTERM and keeps its output open; the result is proper.
    ForkChild,
    /// Sends SIGKILL to itself.
    KillSelf,
    /// Writes symbolic links that leave the workspace and a `.git` directory of its own; the result is proper.
    Escape,
}
