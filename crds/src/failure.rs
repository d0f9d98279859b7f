//! What failed, and how often a stage is tried again for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{Category, StructuredError};

/// What an attempt failed of. It decides how often the stage is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum FailureClass {
    /// The cluster took the attempt away, or never began it: eviction, preemption, a lost node, a deleted Pod, no node or image.
    Infrastructure,
    /// Memory or disk ran out.
    Resource,
    /// The time of the attempt was over.
    Timeout,
    /// The agent ended badly, or its result was none.
    Agent,
    /// A model refused, was overloaded, or its budget was used up.
    Model,
    /// A gate failed: the work is not good enough.
    WrongResult,
}

/// Code of a failed gate.
pub const GATE_FAILED: &str = "GateFailed";
/// Code of an attempt whose Pod never began to work.
pub const POD_NOT_STARTED: &str = "PodNotStarted";
/// Code of an attempt whose runner was told to end, and does not know why.
pub const POD_TERMINATED: &str = "PodTerminated";

/// Code of an attempt that failed after its model had refused to go on.
pub const MODEL_REFUSED: &str = "ModelRefused";
/// How codes begin that are about a model.
const MODEL: &str = "Model";

/// Whether policy is chosen by a code, so that it is the operator's and the runner's to give, and no agent's.
pub fn is_reserved(code: &str) -> bool {
    [GATE_FAILED, POD_NOT_STARTED, POD_TERMINATED].contains(&code) || code.starts_with(MODEL)
}

impl FailureClass {
    pub const ALL: [Self; 6] = [
        Self::Infrastructure,
        Self::Resource,
        Self::Timeout,
        Self::Agent,
        Self::Model,
        Self::WrongResult,
    ];

    /// The class of an error. Codes of the model gateway begin with `Model`.
    pub fn of(error: &StructuredError) -> Self {
        match (error.code.as_str(), error.category) {
            (GATE_FAILED, _) => Self::WrongResult,
            (POD_NOT_STARTED, _) | (_, Category::Network) => Self::Infrastructure,
            (code, _) if code.starts_with(MODEL) => Self::Model,
            (_, Category::Resource) => Self::Resource,
            (_, Category::Timeout) => Self::Timeout,
            _ => Self::Agent,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Infrastructure => "infrastructure",
            Self::Resource => "resource",
            Self::Timeout => "timeout",
            Self::Agent => "agent",
            Self::Model => "model",
            Self::WrongResult => "wrongResult",
        }
    }
}

/// How often a stage is tried again, by what failed, and after which wait.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// After attempts that the cluster took away or never began: eviction, preemption, a lost node, a deleted Pod, no node or image.
    /// They cost none of `retries`. From 0 to 1000. Default: 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub infrastructure: Option<u32>,

    /// After memory or disk ran out. From 0 to 100. Default: `retries`, which all classes without a number of their own share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub resource: Option<u32>,

    /// After the time of an attempt was over. From 0 to 100. Default: `retries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub timeout: Option<u32>,

    /// After the agent ended badly, or its result was none. From 0 to 100. Default: `retries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub agent: Option<u32>,

    /// After a model refused, was overloaded, or its budget was used up. From 0 to 100. Default: `retries`, and 0 after a refusal, since
    /// the same would be asked again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub model: Option<u32>,

    /// After a gate failed. From 0 to 100. Default: 0, since the same work would be judged again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub wrong_result: Option<u32>,

    /// How long the stage waits before it is tried again. The first attempt that the cluster took away waits for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
}

impl RetryPolicy {
    /// The number of its own that a class has.
    pub fn limit(&self, class: FailureClass) -> Option<u32> {
        match class {
            FailureClass::Infrastructure => self.infrastructure,
            FailureClass::Resource => self.resource,
            FailureClass::Timeout => self.timeout,
            FailureClass::Agent => self.agent,
            FailureClass::Model => self.model,
            FailureClass::WrongResult => self.wrong_result,
        }
    }

    /// This one, with another's settings where it has none.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        Self {
            infrastructure: self.infrastructure.or(other.infrastructure),
            resource: self.resource.or(other.resource),
            timeout: self.timeout.or(other.timeout),
            agent: self.agent.or(other.agent),
            model: self.model.or(other.model),
            wrong_result: self.wrong_result.or(other.wrong_result),
            backoff: self.backoff.or(other.backoff),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Waits that grow: base, base times factor, and so on up to the cap, with up to a quarter on top.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// The first wait, in seconds, from 1 to 3600. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 3600))]
    pub base_seconds: u32,
    /// By how much each wait is longer than the one before, from 1 to 10. Default: 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub factor: u32,
    /// The longest wait, in seconds, from 1 to 86400. Default: 60.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub cap_seconds: u32,
}

fn one() -> u32 {
    1
}

fn two() -> u32 {
    2
}

fn sixty() -> u32 {
    60
}
