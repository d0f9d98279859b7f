//! One stage as it stands.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::Digest;
use crate::error::StructuredError;
use crate::failure::FailureClass;
use crate::gate::GateStatus;
use crate::moment::Moment;
use crate::schema::free_object;

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
    /// The round of repair that this began, by which the stages that are part of it count.
    pub round: u32,
    /// How often this stage sent the work back in this run.
    #[serde(default)]
    pub count: u32,
    /// Digest of the gates and findings.
    pub digest: Digest,
    /// The commit that was judged, from which the round begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceRef>,
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
    /// What the commit changes of what the Workflow began with. Absent where nobody has compared them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Changes>,
}

/// The difference of two commits.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// The commit that is compared with: 40 hexadecimal digits. Absent: everything is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40), regex(pattern = "^[0-9a-f]{40}$"))]
    pub base: Option<String>,
    /// Files that were added, modified or deleted.
    pub files: u64,
    /// Lines that were added. Lines of binary files, and of files over 1 MiB, are not counted.
    pub insertions: u64,
    /// Lines that were deleted, counted in the same way.
    pub deletions: u64,
    /// The files, those with the most lines first, a line for each: A, M or D, path, `+` and lines added, `-` and lines deleted. At most
    /// 512 bytes.
    #[serde(default)]
    #[schemars(length(max = 512))]
    pub stat: String,
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
pub(super) fn is_zero(number: &u32) -> bool {
    *number == 0
}
