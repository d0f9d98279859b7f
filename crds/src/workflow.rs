use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::AgentResources;
use crate::budget::Budget;
use crate::failure::RetryPolicy;
use crate::gate::Gate;
use crate::schema::free_object;
use crate::status::WorkflowStatus;
use crate::template::WorkflowTemplateSpec;

/// One run from a written requirement to working software. Stagecraft takes it through the stages of a template; each
/// stage is one Kubernetes Job in which an agent works, and what a stage produced stands in `status.stages`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stagecraft.dev",
    version = "v1alpha1",
    kind = "Workflow",
    plural = "workflows",
    shortname = "swf",
    category = "stagecraft",
    namespaced,
    status = "WorkflowStatus",
    derive = "PartialEq",
    doc = "One run from a written requirement to working software. Stagecraft takes it through the stages of a template; each stage is one Kubernetes Job in which an agent works, and what a stage produced stands in status.stages.",
    printcolumn(name = "Type", type_ = "string", json_path = ".status.template"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".status.stage"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Cost", type_ = "string", json_path = ".status.cost"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.project.name", priority = 1),
    validation = Rule::new("size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit; choose a shorter or simpler name"),
    validation = Rule::new(format!("{KEEPS_RETRY} || {ENDED}"))
        .message("spec.retry begins a new run once the Workflow has ended: wait for that, or end it with spec.cancel"),
    validation = Rule::new(format!("{KEEPS_RETRY} || !{ENDED} || self.spec.retry.run == {NEXT_RUN}"))
        .message("spec.retry.run is the number of the new run: set it to one more than status.run"),
    validation = Rule::new(format!("{KEEPS_RETRY} || !{ENDED} || (has(self.status.stages) && self.status.stages.exists(s, s.name == self.spec.retry.from && s.name != 'initialize'))"))
        .message("spec.retry.from names no stage of the Workflow: choose one of status.stages other than initialize"),
    validation = Rule::new(format!("{KEEPS_RETRY} || !(has(self.spec.cancel) && self.spec.cancel)"))
        .message("the new run would be cancelled at once: set spec.cancel to false together with spec.retry"),
    validation = Rule::new(format!("!(has(oldSelf.spec.cancel) && oldSelf.spec.cancel) || (has(self.spec.cancel) && self.spec.cancel) || !{KEEPS_RETRY}"))
        .message("spec.cancel cannot be withdrawn: set spec.retry together with it to begin a new run once the Workflow has ended"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.type), has(self.templateRef), has(self.template)].filter(is, is).size() <= 1")
        .message("set only one of type (a built-in template), templateRef (one of your own) and template (stages of this Workflow alone): remove the others"),
    validation = Rule::new("has(self.type) || has(self.templateRef) || has(self.template)")
        .message("set type (for example: app), templateRef.name or template.stages, so that Stagecraft knows which stages to run"),
)]
pub struct WorkflowSpec {
    /// The kind of work, which is the name of a built-in template: `kubectl get workflowtemplates -A` lists them.
    /// Exactly one of `type`, `templateRef` and `template` is set. A DNS label of at most 63 characters.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub type_: Option<String>,

    /// The template to run, from the Workflow's own namespace or else the release's. Exactly one of `type`,
    /// `templateRef` and `template` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<TemplateRef>,

    /// The template itself, for a Workflow of its own kind. Exactly one of `type`, `templateRef` and `template` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<WorkflowTemplateSpec>,

    /// Values for the template's parameters, by name. Default: those of the template.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub parameters: Map<String, Value>,

    /// What is to be made.
    #[serde(default)]
    pub project: Project,

    /// Where the models come from that its agents may call. Default: none; agents use what is built into them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,

    /// Most that calls of models may use in a run, all stages together. A new run begins with nothing used. Default: no limit.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,

    /// Changes to single stages of the template, by name. Default: none. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<StageOverride>,

    /// How urgent the work is: where a limit holds stages back, the more urgent go first. It rises by one class each ten minutes that a
    /// stage waits (chart value operator.agingSeconds). Default: medium.
    #[serde(default)]
    pub priority: Priority,

    /// Who asks for the Workflow: the name of the user who creates it, as `kubectl auth whoami` says it. Templates that forbid
    /// self-approval need it. Default: nobody says so. At most 253 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub requested_by: Option<String>,

    /// Lets one Workflow of a key run at a time. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,

    /// Begins no attempt while it is true; attempts that run go on to their end. Set it to false to go on. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub suspend: bool,

    /// Ends the Workflow as Cancelled: running agents are told to stop and are killed after their grace, nothing else begins, and
    /// what was done stays. It cannot be withdrawn but by `retry`. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel: bool,

    /// Whether `cancel` ends the stages of `finally`, too: those that run are stopped in the same way, and none begins. Without it they run
    /// to their end. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancel_finally: bool,

    /// Begins a new run of a Workflow that has ended, from a stage on. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,

    /// Longest time of a run, in seconds, from 1 to 2592000 (30 days); after it the Workflow ends as Failed. It passes while the
    /// Workflow is suspended, too. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub deadline_seconds: Option<u32>,

    /// How long after its end the Workflow is deleted with everything that it owns, in seconds, from 0 to 31536000 (365 days).
    /// Default: it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<u32>,
}

/// Which models the agents of a Workflow may call.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelChoice {
    /// Name of a ModelProvider in the Workflow's namespace. A DNS label of at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub provider: String,
    /// The model that agents get when they ask for none, or for `default`. Default: the provider's. At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub model: Option<String>,
}

/// Holds where an update leaves `spec.retry` as it is, or takes it away.
const KEEPS_RETRY: &str =
    "(!has(self.spec.retry) || (has(oldSelf.spec.retry) && self.spec.retry == oldSelf.spec.retry))";
/// Holds of a Workflow that has ended.
const ENDED: &str = "(has(self.status) && has(self.status.phase) && self.status.phase in ['Completed', 'Failed', 'Cancelled'])";
/// Of a Workflow with a status.
const NEXT_RUN: &str = "(has(self.status.run) ? self.status.run + 1 : 2)";

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Lets one Workflow of a key run at a time, within a namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// The key, such as the name of what is deployed. At most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// What happens where an older Workflow of the key has not ended. Default: queue.
    #[serde(default)]
    pub when_taken: WhenTaken,
}

/// What happens where an older Workflow of the same key has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenTaken {
    /// This one waits for the end of the one that runs.
    #[default]
    Queue,
    /// Older ones are cancelled, and this one runs when they are over.
    CancelOlder,
}

/// Runs a Workflow that has ended once more.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Stage to begin with. It is run anew, and so is each stage that follows upon it or has not succeeded; others are kept with
    /// what they produced. A DNS label of at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub from: String,

    /// Number of the new run, which is one more than `status.run`: so a request counts once, however often it is sent. From 2
    /// to 1000.
    #[schemars(range(min = 2, max = 1000))]
    pub run: u32,
}

/// Names a WorkflowTemplate.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// Name of the WorkflowTemplate. A DNS label of at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
}

/// What is to be made.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// Name of the project. Default: the Workflow's name. A DNS label of at most 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: Option<String>,

    /// One paragraph about the project. Default: empty. At most 500 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 500))]
    pub description: String,

    /// What the software has to do, one requirement an entry. At least one entry that is not blank; a Workflow
    /// without any ends as Failed. At most 64 entries of 1000 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 1000)))]
    pub requirements: Vec<String>,
}

/// Changes to one stage of the template. What is absent stays as the template has it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageOverride {
    /// Name of the stage in the template. A DNS label of at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Agent that works in the stage. Default: the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub agent: Option<String>,

    /// Longest time of one attempt, in seconds, from 1 to 86400. Default: the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<u32>,

    /// How many further attempts follow a failed one, from 0 to 10. Default: the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<u32>,

    /// How often the stage is tried again for each class of failure, and after which wait. It is laid over the template's, field by field. Default: the template's.
    #[serde(default, skip_serializing_if = "RetryPolicy::is_empty")]
    pub retry_policy: RetryPolicy,

    /// CPU, memory and disk of the agent's container, laid over the template's name by name. Default: the template's.
    #[serde(default, skip_serializing_if = "AgentResources::is_empty")]
    pub resources: AgentResources,

    /// Most that calls of models may use in this stage, all its attempts in a run together. Default of each limit: the template's.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,

    /// Input for the agent, as its `payloadSchema` says. It is laid over the template's payload, field by field at the
    /// top level. Default: the template's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub payload: Option<Map<String, Value>>,

    /// Gates that replace the template's of the same metric, or come on top. Default: the template's. At most 12.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    pub gates: Vec<Gate>,
}

/// How urgent the work is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before everything else.
    Critical,
    /// Before the usual.
    High,
    /// The usual.
    #[default]
    Medium,
    /// When nothing else waits.
    Low,
}
