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
/// Permissions of the Agent, on Jobs and Pods of stages that have any; see [`PERMISSION_DEPLOY`].
pub const PERMISSIONS: &str = "stagecraft.dev/permissions";
/// Value of [`PERMISSIONS`] for stages that deploy.
pub const PERMISSION_DEPLOY: &str = "deploy";
/// Name of the project, on what was deployed for it. Such objects belong to no Workflow: they outlive it.
pub const PROJECT: &str = "stagecraft.dev/project";
/// Marks the Agents and templates that the operator installs.
pub const BUILT_IN: &str = "stagecraft.dev/built-in";
/// Annotation of a stage's Job: the task envelope as JSON. Written once with the Job; the gateway serves it from there.
pub const ENVELOPE: &str = "stagecraft.dev/envelope";
/// Annotation of a Secret: the hosts, with their ports where they have one, that its key may be sent to beside the provider's public one.
/// Separated by commas.
pub const ALLOWED_HOSTS: &str = "stagecraft.dev/allowed-hosts";
