use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::error::StructuredError;
use crate::failure::FailureClass;
use crate::gate::GateStatus;
use crate::moment::Moment;
use crate::schema::free_object;

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

    /// Accepted, Progressing and Succeeded. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
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

/// One stage of a Workflow.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Name of the stage. At most 63 characters.
    #[schemars(length(max = 63))]
    pub name: String,

    /// Where the stage stands.
    #[serde(default)]
    pub phase: StagePhase,

    /// Agent that works in the stage. Empty for `initialize`. At most 63 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub agent: String,

    /// Number of the latest run that this stage was part of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub run: u32,

    /// Rounds of repair in this run that this stage was part of.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub round: u32,

    /// Number of the latest attempt; 0 before the first. Never used twice, not in a later run either.
    #[serde(default)]
    pub attempt: u32,

    /// Attempts that failed and counted against `retries`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,

    /// Attempts that the cluster took away; they cost no retry, and are bounded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub losses: u32,

    /// Attempts of this run that failed, by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "failed_by")]
    pub failed_by: BTreeMap<FailureClass, u32>,

    /// Name of the latest attempt's Job. At most 63 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub job: String,

    /// What the stage waits for or how its latest attempt ended. At most 1024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// When the first attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,

    /// When the latest attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_started_at: Option<Moment>,

    /// When the next attempt may begin, while it waits for its backoff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Moment>,

    /// When the stage ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Moment>,

    /// What the agent said it did, in a sentence. At most 1024 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub summary: String,

    /// What the stage produced, as the agent's `outputsSchema` says. At most 8 KiB of JSON.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub outputs: Map<String, Value>,

    /// The commit that the stage leaves behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceRef>,

    /// Further files that the stage leaves behind. At most 32, with 6 KiB of JSON in all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub artifacts: Vec<Artifact>,

    /// The stage's gates as they were judged. At most 12.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub gates: Vec<GateStatus>,

    /// What this stage judged when it last sent the work back to be repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<RepairStatus>,

    /// What the agent's container took in the latest attempt that reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,

    /// How the latest attempt failed, or why it is being ended. Absent while nothing is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StructuredError>,

    /// Earlier attempts that failed, newest last. At most 5; older ones are dropped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub history: Vec<AttemptSummary>,
}

/// Work that was sent back to be repaired. What was found stands in the stage's gates and outputs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepairStatus {
    /// How often it was sent back in this run.
    pub round: u32,
    /// Digest of the gates and findings.
    pub digest: Digest,
    /// The commit that was judged. 40 hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub commit: Option<String>,
}

/// What a container took of the machine.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Processor time, in milliseconds.
    pub cpu_millis: u64,
    /// The most memory at any time, in bytes; caches of files count. 0 where the node does not tell.
    pub peak_memory_bytes: u64,
}

/// Where a stage stands.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum StagePhase {
    /// Stages that it needs have not succeeded, or a limit holds it back.
    #[default]
    Pending,
    /// An attempt is under way.
    Running,
    /// The latest attempt failed and the next one waits for its backoff.
    Waiting,
    /// The stage is done.
    Succeeded,
    /// The stage used up its attempts.
    Failed,
    /// Its condition did not hold.
    Skipped,
}

impl StagePhase {
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Waiting => "Waiting",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Skipped => "Skipped",
        }
    }

    /// Whether stages that need this one may start.
    pub fn lets_others_start(self) -> bool {
        matches!(self, Self::Succeeded | Self::Skipped)
    }
}

/// One earlier attempt.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptSummary {
    /// Number of the attempt.
    pub attempt: u32,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// When it was judged.
    pub finished_at: Moment,
    /// Identifier of the error. At most 63 characters.
    #[schemars(length(max = 63))]
    pub code: String,
    /// Kind of the error.
    pub category: crate::error::Category,
    /// What happened. At most 256 bytes.
    #[schemars(length(max = 256))]
    pub message: String,
}

/// A commit of the workspace in the gateway's store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRef {
    /// Identifier of the commit: 40 hexadecimal digits.
    #[schemars(length(max = 40), regex(pattern = "^[0-9a-f]{40}$"))]
    pub commit: String,
    /// The blob that holds the commit with its whole history, as a git bundle.
    pub bundle: Digest,
    /// Size of the bundle, in bytes.
    pub bytes: u64,
}

/// A file in the gateway's store.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Name of the artifact, unique in the stage. At most 255 bytes.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// The blob that holds it.
    pub digest: Digest,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Media type. Default: application/octet-stream. At most 127 characters.
    #[serde(default = "octets")]
    #[schemars(length(max = 127))]
    pub media_type: String,
}

/// One number for each class of failure.
fn failed_by(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let number = schemars::json_schema!({"type": "integer", "format": "int64", "minimum": 0});
    schemars::json_schema!({"type": "object", "maxProperties": 6, "additionalProperties": number})
}

fn octets() -> String {
    "application/octet-stream".to_owned()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The standard condition type, with bounds that the published schema of it lacks.
fn conditions(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "description": "Accepted, Progressing and Succeeded. At most 8.",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 63,
                    "description": "Accepted, Progressing or Succeeded."
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "True, False or Unknown."
                },
                "reason": {
                    "type": "string", "maxLength": 63,
                    "description": "Why, in a word that programs may rely on."
                },
                "message": {
                    "type": "string", "maxLength": 4096,
                    "description": "Why, in a sentence: what is waited for, since when and until when."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64",
                    "description": "Generation of the spec that the condition speaks of."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When the status of the condition last changed."
                }
            }
        }
    })
}
