//! What each agent is asked to do.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
            Self::BuiltIn(payload) => payload.agent(),
            Self::Other { agent, .. } => agent,
        }
    }
}

/// Input of the built-in agents.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(tag = "agent", content = "payload", rename_all = "camelCase")]
pub enum BuiltInPayload {
    Echo(EchoPayload),
    Scaffold(ScaffoldPayload),
    Validation(ValidationPayload),
    E2e(E2ePayload),
    Integration(IntegrationPayload),
    Deployment(DeploymentPayload),
}

impl BuiltInPayload {
    pub fn agent(&self) -> &'static str {
        match self {
            Self::Echo(_) => "echo",
            Self::Scaffold(_) => "scaffold",
            Self::Validation(_) => "validation",
            Self::E2e(_) => "e2e",
            Self::Integration(_) => "integration",
            Self::Deployment(_) => "deployment",
        }
    }
}

/// Input of the scaffold agent: the project's name, description and requirements say what is made.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScaffoldPayload {
    /// What kind of work is wanted. Default: app.
    pub kind: WorkKind,
    /// Branch of the project that the new version follows upon, when it exists; its files are replaced. Default: main. At most
    /// 100 characters.
    #[schemars(
        length(min = 1, max = 100),
        regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    )]
    pub base_branch: String,
}

impl Default for ScaffoldPayload {
    fn default() -> Self {
        Self {
            kind: WorkKind::default(),
            base_branch: "main".to_owned(),
        }
    }
}

/// What kind of work is wanted: the built-in types of `spec.type`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WorkKind {
    /// A new web application.
    #[default]
    App,
    /// A new HTTP service.
    Service,
    /// A change to what a project does.
    Feature,
    /// The correction of a fault, with tests that show it is gone.
    Bugfix,
    /// A library or module that is added to a project.
    Capability,
}

impl WorkKind {
    pub const ALL: [Self; 5] = [
        Self::App,
        Self::Service,
        Self::Feature,
        Self::Bugfix,
        Self::Capability,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Service => "service",
            Self::Feature => "feature",
            Self::Bugfix => "bugfix",
            Self::Capability => "capability",
        }
    }
}

/// Input of the validation agent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ValidationPayload {
    /// Longest time of one check, in seconds, from 1 to 3600. Default: 120.
    #[schemars(range(min = 1, max = 3600))]
    pub check_timeout_seconds: u32,
}

impl Default for ValidationPayload {
    fn default() -> Self {
        Self {
            check_timeout_seconds: 120,
        }
    }
}

/// Input of the end-to-end test agent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct E2ePayload {
    /// Longest time of one check, in seconds, from 1 to 3600. Default: 180.
    #[schemars(range(min = 1, max = 3600))]
    pub check_timeout_seconds: u32,
    /// How often a failed test is tried again, from 0 to 5; one that passes then counts as flaky. Default: 1.
    #[schemars(range(min = 0, max = 5))]
    pub test_retries: u32,
}

impl Default for E2ePayload {
    fn default() -> Self {
        Self {
            check_timeout_seconds: 180,
            test_retries: 1,
        }
    }
}

/// Input of the integration agent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IntegrationPayload {
    /// Branch of the project that the work goes to; it is made when it does not exist. Default: main. At most 100
    /// characters.
    #[schemars(
        length(min = 1, max = 100),
        regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$")
    )]
    pub target_branch: String,
    /// How the work is brought in. Default: merge.
    pub strategy: MergeStrategy,
    /// Longest time of one check of the merged result, in seconds, from 1 to 3600. Default: 120.
    #[schemars(range(min = 1, max = 3600))]
    pub check_timeout_seconds: u32,
}

impl Default for IntegrationPayload {
    fn default() -> Self {
        Self {
            target_branch: "main".to_owned(),
            strategy: MergeStrategy::default(),
            check_timeout_seconds: 120,
        }
    }
}

/// How work is brought into a branch.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MergeStrategy {
    /// A commit with both sides as parents.
    #[default]
    Merge,
    /// One commit upon the branch with all changes.
    Squash,
    /// Each commit of the work again, upon the branch.
    Rebase,
    /// The branch moves to the work, which must contain it.
    FastForward,
}

impl MergeStrategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merge => "merge",
            Self::Squash => "squash",
            Self::Rebase => "rebase",
            Self::FastForward => "fastForward",
        }
    }
}

/// Input of the deployment agent.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeploymentPayload {
    /// Copies of the application that run, from 1 to 20. Default: 1.
    #[schemars(range(min = 1, max = 20))]
    pub replicas: u32,
    /// Path of the health check, which answers 200 when the application is well. Default: /. At most 500 characters.
    #[schemars(length(min = 1, max = 500), regex(pattern = "^/"))]
    pub health_path: String,
    /// How long the rollout may take until the application is available and well, in seconds, from 10 to 3600. Default: 120.
    #[schemars(range(min = 10, max = 3600))]
    pub rollout_timeout_seconds: u32,
}

impl Default for DeploymentPayload {
    fn default() -> Self {
        Self {
            replicas: 1,
            health_path: "/".to_owned(),
            rollout_timeout_seconds: 120,
        }
    }
}

/// Input of the echo agent: what it writes, and how it misbehaves when asked to.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EchoPayload {
    /// Files to write into the workspace, from relative path to text. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub files: BTreeMap<String, String>,
    /// Files and directories to remove from the workspace before anything is written, as relative paths. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub remove: Vec<String>,
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
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
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
