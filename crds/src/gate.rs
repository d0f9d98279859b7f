//! What must hold of what a stage measured.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition on one metric of a stage. A metric that was not measured fails it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Name of the metric, such as linesCovered. At most 40 characters.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z][A-Za-z0-9]*$"))]
    pub metric: String,
    /// How the metric is compared with the threshold.
    pub operator: Operator,
    /// What the metric is compared with, in the metric's own unit.
    pub threshold: f64,
    /// What it means when it does not hold. Default: blocking.
    #[serde(default, skip_serializing_if = "GateSeverity::is_blocking")]
    pub severity: GateSeverity,
}

/// What it means when a gate does not hold.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GateSeverity {
    /// The stage has failed.
    #[default]
    Blocking,
    /// It is told, and the stage goes on.
    Warning,
}

impl GateSeverity {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    fn is_blocking(&self) -> bool {
        *self == Self::Blocking
    }
}

/// A comparison.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
pub enum Operator {
    /// The metric is at least the threshold.
    #[serde(rename = ">=")]
    AtLeast,
    /// The metric is at most the threshold.
    #[serde(rename = "<=")]
    AtMost,
    /// The metric equals the threshold.
    #[serde(rename = "==")]
    Equal,
}

impl Operator {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeast => ">=",
            Self::AtMost => "<=",
            Self::Equal => "==",
        }
    }

    /// Whether `actual` compares with `threshold` as this says. Nothing holds of a value that is not a number.
    pub fn holds(self, actual: f64, threshold: f64) -> bool {
        match self {
            Self::AtLeast => actual >= threshold,
            Self::AtMost => actual <= threshold,
            Self::Equal => (actual - threshold).abs() < f64::EPSILON,
        }
    }
}

/// A gate as it was judged.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Name of the metric. At most 40 characters.
    #[schemars(length(max = 40))]
    pub metric: String,
    /// How the metric was compared with the threshold.
    pub operator: Operator,
    /// What it was compared with.
    pub threshold: f64,
    /// What was measured. Absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<f64>,
    /// Whether the gate holds.
    pub passed: bool,
    /// What it means when it does not. Default: blocking.
    #[serde(default, skip_serializing_if = "GateSeverity::is_blocking")]
    pub severity: GateSeverity,
}

impl GateStatus {
    /// Whether the stage has failed for it.
    pub fn blocks(&self) -> bool {
        !self.passed && self.severity == GateSeverity::Blocking
    }
}
