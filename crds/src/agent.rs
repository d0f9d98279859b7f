use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schema::{free_object, quantities};

/// A type of agent: the program that works in a stage, in any image, without any credential but for what `permissions` name.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stagecraft.dev",
    version = "v1alpha1",
    kind = "Agent",
    plural = "agents",
    shortname = "sag",
    category = "stagecraft",
    namespaced,
    derive = "PartialEq",
    doc = "A type of agent: the program that works in a stage, in any image, without any credential but for what `permissions` name.",
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Command", type_ = "string", json_path = ".spec.command", priority = 1),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit; choose a shorter or simpler name"),
)]
#[serde(rename_all = "camelCase")]
pub struct AgentSpec {
    /// What the agent does. Default: empty. At most 500 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 500))]
    pub description: String,

    /// Version of the agent, for people and the agent registry. Default: empty. At most 63 characters.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub version: String,

    /// Container image of the agent. Default: the release's agent-runner image, which holds the built-in agents. At most
    /// 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,

    /// Program and arguments, looked up in the image's PATH. They replace the image's entry point: Stagecraft wraps them
    /// with its launcher. At least one, at most 64 entries of 4096 characters.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 4096)))]
    pub command: Vec<String>,

    /// Further environment variables, beside those of the agent contract (STAGECRAFT_TASK, STAGECRAFT_WORKSPACE,
    /// STAGECRAFT_RESULT, HOME, TMPDIR, ANTHROPIC_BASE_URL, OPENAI_BASE_URL), which win. Default: none. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvironmentVariable>,

    /// CPU, memory and disk of the agent's container. A stage may ask for others.
    #[serde(default)]
    pub resources: AgentResources,

    /// JSON Schema of the stage's `payload`. A Workflow whose payload does not match is not accepted. Default: anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub payload_schema: Option<Map<String, Value>>,

    /// JSON Schema of the `outputs` in the agent's result. A result that does not match fails the attempt. Default:
    /// anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "free_object")]
    pub outputs_schema: Option<Map<String, Value>>,

    /// What becomes of the workspace. Default: write.
    #[serde(default)]
    pub workspace: WorkspaceAccess,

    /// What the agent may do in the Workflow's namespace, by a service account of its own. Counts for Agents in the
    /// release's namespace only, and is for agents that run no generated code. Default: nothing. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub permissions: Vec<Permission>,

    /// Most stages of this Agent that run at once, over all Workflows that were accepted with this limit, from 1 to 100000. Default: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_running: Option<u32>,

    /// What the installation must provide before a stage of this agent can run. Default: nothing. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub requires: Vec<Requirement>,

    /// What the agent works with where it is there, and does without where it is not. A Workflow with a model holds its stages back while that
    /// cannot be called, as those of agents that require one. Default: nothing. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub uses: Vec<Requirement>,
}

/// What becomes of the workspace of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WorkspaceAccess {
    /// What the agent leaves in it is committed.
    #[default]
    Write,
    /// Nothing is committed: the stage hands on the commit that it was given.
    Read,
}

/// Something that an agent may do in the Workflow's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Permission {
    /// Make and change Deployments and Services, and read what becomes of them.
    Deploy,
}

/// Something that the agent cannot work without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Requirement {
    /// An image registry that the nodes can pull from: the chart's `registry.host`.
    Registry,
    /// A provider of models: the Workflow's `spec.model`.
    Model,
}

/// One environment variable with a literal value.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentVariable {
    /// Name of the variable. At most 128 characters.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value. Never a secret: it stands in the Pod. Default: empty. At most 4096 characters.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// CPU, memory and disk of an agent's container, as Kubernetes quantities.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentResources {
    /// What is set aside on the node, by resource name (cpu, memory, ephemeral-storage), such as 250m or 512Mi. Default:
    /// that of the Agent for a stage; cpu 50m, memory 64Mi for an Agent. At most 8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub requests: BTreeMap<String, String>,
    /// What the agent cannot exceed, by resource name. Default: that of the Agent for a stage; memory 1Gi for an Agent. Over its memory
    /// an agent is killed and the attempt ends with category resource. At most 8.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    pub limits: BTreeMap<String, String>,
}

impl AgentResources {
    /// These, with another's of the names that they leave out.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let over = |mine, others: &BTreeMap<_, _>| others.clone().into_iter().chain(mine).collect();
        Self {
            requests: over(self.requests, &other.requests),
            limits: over(self.limits, &other.limits),
        }
    }

    /// These, with what an agent's container gets by default. A request over its limit would be refused: a small limit without a request
    /// means a small request.
    #[must_use]
    pub fn with_defaults(&self) -> Self {
        let over = |defaults: &[(&str, &str)], given: &BTreeMap<String, String>| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            let mut all: BTreeMap<String, String> = defaults.iter().map(own).collect();
            all.extend(given.clone());
            all
        };
        let mut requests = over(&[("cpu", "50m"), ("memory", "64Mi")], &self.limits);
        requests.extend(self.requests.clone());
        Self {
            requests,
            limits: over(&[("memory", "1Gi")], &self.limits),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}
