//! What an attempt ends with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attempt::AttemptKey;
use crate::error::StructuredError;
use crate::moment::Moment;
use crate::status::{Artifact, Usage, WorkspaceRef};

/// What the agent writes to the file named by `STAGECRAFT_RESULT`. Every field may be left out: `{}` is a success
/// without outputs. Unknown fields are refused, so that a misspelt one is noticed.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AgentResult {
    /// What was done, in a sentence. At most 1024 bytes are kept.
    #[serde(default)]
    pub summary: String,
    /// What the stage produced. At most 8 KiB of JSON.
    #[serde(default)]
    pub outputs: Map<String, Value>,
    /// Files to keep as artifacts. At most 32.
    #[serde(default)]
    pub artifacts: Vec<ArtifactFile>,
    /// Set when the work failed; the attempt fails with it.
    #[serde(default)]
    pub error: Option<StructuredError>,
}

/// A file to keep as an artifact.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ArtifactFile {
    /// Name of the artifact, unique in the stage.
    pub name: String,
    /// Path below the directory.
    pub path: String,
    /// Where the path begins. Default: workspace.
    #[serde(default)]
    pub directory: ArtifactDirectory,
    /// Media type. Default: application/octet-stream.
    #[serde(default)]
    pub media_type: Option<String>,
}

/// Where an artifact's path begins.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum ArtifactDirectory {
    /// The workspace, `STAGECRAFT_WORKSPACE`.
    #[default]
    Workspace,
    /// The directory `STAGECRAFT_ARTIFACTS`, which is never committed.
    Artifacts,
}

/// What the runner reports to the gateway, and the gateway stores under the attempt key: first one wins.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AttemptResult {
    pub attempt: AttemptKey,
    pub started_at: Moment,
    pub finished_at: Moment,
    /// What the agent's container took, where its node tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How an attempt ended.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "outcome", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Outcome {
    Succeeded {
        summary: String,
        outputs: Map<String, Value>,
        workspace: Option<WorkspaceRef>,
        artifacts: Vec<Artifact>,
        /// What the runner measured from reports of tools, by name. Gates are judged by them.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        metrics: BTreeMap<String, f64>,
    },
    Failed {
        error: StructuredError,
    },
}

/// Something that a check found. The first ones stand in the outputs of the stage, under `findings`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Name of the check.
    pub check: String,
    /// Path below the workspace, where the finding is about a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// The tool's rule or error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    pub message: String,
}
