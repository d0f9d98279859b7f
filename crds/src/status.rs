use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::{Amount, ModelUsage};
use crate::digest::Digest;
use crate::moment::Moment;
use crate::schema::conditions;

mod stage;

use stage::is_zero;
pub use stage::{
    Artifact, AttemptSummary, Changes, RepairStatus, StagePhase, StageStatus, Usage, WorkspaceRef,
};

/// Where a Workflow stands. The stored status is the truth; everything else only makes it quick.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The Workflow in a word.
    #[serde(default)]
    pub phase: WorkflowPhase,

    /// The stage that works or is next, empty once the Workflow ended. At most 63 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub stage: String,

    /// Stages succeeded of stages in all, such as 2/5. At most 15 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 15))]
    pub progress: String,

    /// Why the Workflow is where it is: what it waits for, or how it ended. At most 1024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// Name of the template in use. At most 63 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub template: String,

    /// Number of the run: 1 once the Workflow is accepted, one more for each `spec.retry`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run: u32,

    /// What the Workflow runs, kept as it was when it was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_ref: Option<RunRef>,

    /// W3C trace id of everything that belongs to this Workflow. 32 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 32))]
    pub trace_id: String,

    /// When the latest run began; the first begins when the Workflow is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,

    /// When the Workflow ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Moment>,

    /// How the Workflow ends once the stages of `finally` are over. Absent before, and without such stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<Ending>,

    /// The stages in the template's order, after `initialize`, which records what was understood of the request. At
    /// most 21.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 21))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<StageStatus>,

    /// What calls of models cost in all runs, by the prices of their providers, in the account's currency: "0.0426". At most 31 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 31))]
    pub cost: String,

    /// What calls of models took in all runs. Absent without any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelTotals>,

    /// Accepted, Progressing and Succeeded. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// What calls of models took.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelTotals {
    /// All of them.
    #[serde(default)]
    pub total: Amount,
    /// By run, stage, provider and model; the oldest of more are summed up in one. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub by: Vec<ModelUsage>,
}

/// The Workflow in a word.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum WorkflowPhase {
    /// Not accepted yet, or waiting to begin.
    #[default]
    Pending,
    /// The request was understood and what runs is pinned.
    Initialized,
    /// A scaffold stage works.
    Scaffolding,
    /// A validation stage works.
    Validating,
    /// An end-to-end test stage works.
    Testing,
    /// An integration stage works.
    Integrating,
    /// A deployment stage works.
    Deploying,
    /// A stage without a phase of its own works.
    Running,
    /// A stage waits for a person to decide an Approval.
    AwaitingApproval,
    /// Every stage succeeded.
    Completed,
    /// The Workflow ended without success.
    Failed,
    /// The Workflow was ended by `spec.cancel`.
    Cancelled,
}

impl WorkflowPhase {
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Initialized => "Initialized",
            Self::Scaffolding => "Scaffolding",
            Self::Validating => "Validating",
            Self::Testing => "Testing",
            Self::Integrating => "Integrating",
            Self::Deploying => "Deploying",
            Self::Running => "Running",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}

/// Names the immutable ConfigMap with what a Workflow runs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRef {
    /// Name of the ConfigMap. At most 63 characters.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Digest of its entry `run.json`.
    pub digest: Digest,
}

/// How a Workflow ends.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// Completed, Failed or Cancelled.
    pub phase: WorkflowPhase,
    /// Why. At most 1024 bytes.
    #[schemars(length(max = 1024))]
    pub message: String,
}
