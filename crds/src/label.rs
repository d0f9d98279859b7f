//! Labels and annotations that Stagecraft puts on what it owns.

/// Standard label; on every Job and Pod of a stage.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Value of [`MANAGED_BY`].
pub const MANAGED_BY_VALUE: &str = "stagecraft";
/// Name of the Workflow.
pub const WORKFLOW: &str = "stagecraft.dev/workflow";
/// UID of the Workflow.
pub const WORKFLOW_UID: &str = "stagecraft.dev/workflow-uid";
/// Name of the stage.
pub const STAGE: &str = "stagecraft.dev/stage";
/// Number of the attempt.
pub const ATTEMPT: &str = "stagecraft.dev/attempt";
/// Name of the Agent that works in the stage.
pub const AGENT: &str = "stagecraft.dev/agent";
/// Marks the Agents and templates that the operator installs.
pub const BUILT_IN: &str = "stagecraft.dev/built-in";
/// Annotation of a stage's Job: the task envelope as JSON. Written once with the Job; the gateway serves it from there.
pub const ENVELOPE: &str = "stagecraft.dev/envelope";
