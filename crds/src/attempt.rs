use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names one attempt at one stage of one Workflow, for ever: an attempt number is never used again, also across runs
/// and repairs. Outside effects carry it, results are stored under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptKey {
    /// UID of the Workflow.
    pub workflow_uid: String,
    /// Name of the stage in the run.
    pub stage: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.workflow_uid, self.stage, self.attempt)
    }
}
