use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::agent::AgentResources;
use crate::approval::StageApproval;
use crate::budget::Budget;
use crate::failure::RetryPolicy;
use crate::gate::Gate;
use crate::schema::{free_object, free_value};
use crate::status::WorkflowPhase;

/// A reusable graph of stages. Editing a template changes no Workflow that runs.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stagecraft.dev",
    version = "v1alpha1",
    kind = "WorkflowTemplate",
    plural = "workflowtemplates",
    shortname = "swft",
    category = "stagecraft",
    namespaced,
    derive = "PartialEq",
    doc = "A reusable graph of stages that Workflows run. Editing a template changes no Workflow that already runs.",
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit; choose a shorter or simpler name"),
)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowTemplateSpec {
    /// What the template is for. Default: empty. At most 500 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 500))]
    pub description: String,

    /// What a Workflow can set in `spec.parameters`. Default: nothing. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub parameters: Vec<Parameter>,

    /// The stages, at least one and at most 20 with those of `finally`. A stage starts when everything in its `needs` has
    /// succeeded or was skipped.
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<StageSpec>,

    /// Stages that run when the others are over, however they ended: completed, failed, cancelled, or out of time. They run side by
    /// side; `needs` of one can name others of them. When one of them fails, a Workflow that had completed has failed. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 19))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub finally: Vec<StageSpec>,
}

/// A value that a Workflow hands to its template.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// Name of the parameter: a letter, then letters, digits and underscores, at most 63 characters. Expressions read it as
    /// `parameters.NAME`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z][A-Za-z0-9_]*$"))]
    pub name: String,

    /// What it is for. Default: empty. At most 500 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 500))]
    pub description: String,

    /// JSON Schema of its value. Default: any value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub schema: Option<Map<String, Value>>,

    /// Its value where the Workflow sets none. Default: the Workflow has to set one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_value")]
    pub default: Option<Value>,
}

/// One stage of a template.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageSpec {
    /// Name of the stage, unique in the template. A DNS label of at most 63 characters; `initialize` is taken.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Agent that works in the stage, from the Workflow's own namespace or else the release's.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub agent: String,

    /// Stages that must have succeeded or been skipped before this one starts. The workspace comes from the last of them. Default:
    /// the stage before this one in the list, and none in `finally`; an empty list starts the stage at once. At most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 63)))]
    pub needs: Option<Vec<String>>,

    /// A condition in CEL over `parameters`, `stages` (phase and outputs of those that this one needs, directly or not) and `workflow`
    /// (name, namespace; in `finally` also ending: Completed, Failed or Cancelled), such as
    /// `parameters.deploy && stages.validate.outputs.tests > 0`. Where it does not hold when the stage is about to start, the stage is
    /// skipped, and those that need it go on. Default: none. At most 1024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,

    /// That a person has to agree or answer before this stage starts. Default: nobody has to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<StageApproval>,

    /// What `status.phase` of the Workflow says while this stage works. Default: Running.
    #[serde(default = "running")]
    pub phase: WorkflowPhase,

    /// Longest time of one attempt, in seconds, from 1 to 86400. Default: 600.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,

    /// How many further attempts follow a failed one, from 0 to 10. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: u32,

    /// How often the stage is tried again for each class of failure, and after which wait. Default: none of the classes has a number of its own.
    #[serde(default, skip_serializing_if = "RetryPolicy::is_empty")]
    pub retry_policy: RetryPolicy,

    /// CPU, memory and disk of the agent's container, laid over those of the Agent name by name. Default: the Agent's.
    #[serde(default, skip_serializing_if = "AgentResources::is_empty")]
    pub resources: AgentResources,

    /// Most that calls of models may use in this stage, all its attempts in a run together. Default: no limit.
    #[serde(default, skip_serializing_if = "Budget::is_unlimited")]
    pub budget: Budget,

    /// Input for the agent, as its `payloadSchema` says. `${{ stages.NAME.outputs.FIELD }}` in a text stands for what the expression
    /// comes to when the stage starts. Default: empty.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "free_object")]
    pub payload: Map<String, Value>,

    /// What must hold of what was measured in this stage, or it has failed. Default: none. At most 12.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 12))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["metric".into()]))]
    pub gates: Vec<Gate>,

    /// Where the work goes back to when a gate of this stage failed. Default: nowhere; the stage has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repair: Option<Repair>,

    /// Artifacts of earlier stages that the agent finds below the directory STAGECRAFT_INPUTS, as STAGE/ARTIFACT. Each such
    /// stage must be among those that this one needs, directly or not. Default: none. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub inputs: Vec<StageInput>,
}

/// Sends work that is not good enough back to the stage that can make it better, with what was found.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// The stage that works on it once more, one that is needed, directly or not. It and all that follows upon it run anew; its agent
    /// finds in the task under `context.repair` what was found, and expressions of its payload read it as `repair`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub stage: String,

    /// Most rounds, from 1 to 10. It ends sooner when a round changes neither the work nor what is found. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 10))]
    pub max_rounds: u32,
}

/// An artifact of an earlier stage.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageInput {
    /// Name of the stage that leaves it behind. A DNS label of at most 63 characters.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub stage: String,
    /// Name of the artifact. At most 255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub artifact: String,
}

fn running() -> WorkflowPhase {
    WorkflowPhase::Running
}

fn ten_minutes() -> u32 {
    600
}

fn three() -> u32 {
    3
}
