//! The task that an agent is given.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::WorkspaceAccess;
use crate::attempt::AttemptKey;
use crate::budget::Budgets;
use crate::digest::Digest;
use crate::model::RunModel;
use crate::moment::Moment;
use crate::payload::Payload;
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
    /// Whether what is in the workspace at the end is committed.
    #[serde(default)]
    pub workspace_access: WorkspaceAccess,
    /// Files of earlier stages, which the runner puts below STAGECRAFT_INPUTS as STAGE/NAME.
    #[serde(default)]
    pub inputs: Vec<InputFile>,
    /// Inputs that the stages before did not leave behind, as STAGE/NAME: with one of them missing the attempt fails.
    #[serde(default)]
    pub missing_inputs: Vec<String>,
    /// Number of the run.
    #[serde(default)]
    pub run: u32,
    /// What calls of models may use.
    #[serde(default, skip_serializing_if = "Budgets::is_unlimited")]
    pub budgets: Budgets,
    /// The models that the agent may call; none without a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<RunModel>,
    /// Name of the agent with its input.
    #[serde(flatten)]
    pub payload: Payload,
    /// Program and arguments, for the launcher.
    pub command: Vec<String>,
    /// JSON Schema that `outputs` must match.
    pub outputs_schema: Option<Map<String, Value>>,
}

/// A file that an earlier stage left behind.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct InputFile {
    pub stage: String,
    pub name: String,
    pub digest: Digest,
    pub bytes: u64,
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
    /// What is to be made better, when the work was sent back to this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairTask>,
}

/// Work that was sent back.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RepairTask {
    /// The stage that sent it back.
    pub stage: String,
    /// Which round this is, from 1.
    pub round: u32,
    /// Gates that failed and the first findings, in a sentence.
    pub message: String,
    /// What its checks found, as in its outputs.
    pub findings: Vec<Value>,
}
