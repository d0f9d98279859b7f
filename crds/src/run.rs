//! What a Workflow runs, resolved once when it is accepted and kept in an immutable ConfigMap: later edits of the
//! Workflow, its template or the Agents change no running Workflow.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::{AgentResources, EnvironmentVariable, Permission, WorkspaceAccess};
use crate::approval::StageApproval;
use crate::budget::Budget;
use crate::failure::RetryPolicy;
use crate::gate::Gate;
use crate::model::RunModel;
use crate::status::WorkflowPhase;
use crate::template::{Repair, StageInput};
use crate::workflow::Priority;

/// Entry of the ConfigMap that holds the run as JSON.
pub const RUN_ENTRY: &str = "run.json";

/// Name of the stage that records what was understood. It has no Job.
pub const INITIALIZE: &str = "initialize";

/// What a Workflow runs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Name of the template.
    pub template: String,
    /// What is to be made.
    pub project: RunProject,
    pub priority: Priority,
    /// Longest time of a run, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<u32>,
    /// The models that its agents may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<RunModel>,
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
    /// Every parameter of the template with its value.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// In the template's order, those of `finally` last; never empty.
    pub stages: Vec<RunStage>,
}

/// What is to be made, with defaults filled in and blank requirements left out.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunProject {
    pub name: String,
    pub description: String,
    /// Trimmed, none blank, never empty.
    pub requirements: Vec<String>,
}

/// One stage with everything that running it needs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunStage {
    pub name: String,
    pub needs: Vec<String>,
    /// Condition in CEL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whether it runs when the others are over.
    #[serde(default)]
    pub finally: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<StageApproval>,
    pub phase: WorkflowPhase,
    pub timeout_seconds: u32,
    pub retries: u32,
    #[serde(default)]
    pub retry_policy: RetryPolicy,
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,
    pub payload: Map<String, Value>,
    /// What the payload has to match once its references are resolved. None: it has none, and was checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_schema: Option<Map<String, Value>>,
    #[serde(default)]
    pub gates: Vec<Gate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repair>,
    #[serde(default)]
    pub inputs: Vec<StageInput>,
    pub agent: RunAgent,
}

/// An Agent as it was when the Workflow was accepted.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunAgent {
    pub name: String,
    pub version: String,
    /// None: the release's agent-runner image.
    pub image: Option<String>,
    pub command: Vec<String>,
    pub env: Vec<EnvironmentVariable>,
    pub resources: AgentResources,
    pub outputs_schema: Option<Map<String, Value>>,
    #[serde(default)]
    pub workspace: WorkspaceAccess,
    #[serde(default)]
    pub permissions: Vec<Permission>,
    /// Whether it works with the model of the Workflow.
    #[serde(default)]
    pub needs_model: bool,
    /// Whether it is of the Workflow's own namespace.
    #[serde(default)]
    pub own: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
}

impl Run {
    pub fn stage(&self, name: &str) -> Option<&RunStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}
