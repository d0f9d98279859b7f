use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Amount;
use crate::moment::Moment;
use crate::schema::conditions;

/// Where models come from and what they may cost. Its key never leaves the gateway.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stagecraft.dev",
    version = "v1alpha1",
    kind = "ModelProvider",
    plural = "modelproviders",
    shortname = "smp",
    category = "stagecraft",
    namespaced,
    status = "ModelProviderStatus",
    derive = "PartialEq",
    doc = "Where models come from and what they may cost. Its key never leaves the gateway.",
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider"),
    printcolumn(name = "Model", type_ = "string", json_path = ".spec.model"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Breaker", type_ = "string", json_path = ".status.breaker"),
    printcolumn(name = "Calls-1h", type_ = "integer", json_path = ".status.lastHour.calls"),
    printcolumn(name = "Base-URL", type_ = "string", json_path = ".spec.baseUrl", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be a DNS label: at most 63 lower-case letters, digits and dashes, beginning and ending with a letter or digit; choose a shorter or simpler name"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.provider == 'builtin' || has(self.model)")
        .message("model is required for this provider: name the model that agents use by default"),
    validation = Rule::new("self.provider != 'builtin' || !(has(self.model) || has(self.baseUrl) || has(self.secretRef))")
        .message("the builtin provider calls no model: remove model, baseUrl and secretRef, or choose provider anthropic or openai"),
    validation = Rule::new("!has(self.fallback) || self.fallback.all(other, has(other.provider) || has(other.model))")
        .message("each entry of fallback names a provider, a model, or both"),
    validation = Rule::new("self.provider != 'anthropic' || has(self.secretRef)")
        .message("secretRef is required for provider anthropic: create a Secret that holds the API key and name it here"),
)]
pub struct ModelProviderSpec {
    /// The protocol that the provider speaks.
    pub provider: ProviderKind,

    /// The model that agents use unless they ask for another. Required but for builtin. At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub model: Option<String>,

    /// Base URL of the provider's API, without a user, a query or a fragment. Default: the provider's public one. At most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500), regex(pattern = "^https?://[^@?#]+$"))]
    pub base_url: Option<String>,

    /// Models that agents may ask for beside `model`. Default: none. At most 32 of 200 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 200)))]
    pub allowed_models: Vec<String>,

    /// The Secret in the same namespace that holds the API key. It is sent to the provider's public host, and to those hosts alone that
    /// the Secret's annotation `stagecraft.dev/allowed-hosts` lists: `HOST` or `HOST:PORT` over TLS, `http://HOST:PORT` in clear. Default: none, for providers without a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,

    /// Longest silence of the provider before its answer and within it, in seconds, from 1 to 3600. Default: 300.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_seconds: u32,

    /// Most tokens that a call writes which sets no maximum itself; it is sent as the maximum of such a call, and budgets reckon with it. Models
    /// that cannot write so much refuse it: then lower it. From 1 to 1000000. Default: 32000.
    #[serde(default = "much_output")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_output_tokens: u32,

    /// What is called instead, the first that can be, where a call of this provider cannot be made or fails before anything of an answer was
    /// passed on: it is left alone, at a limit, overloaded or away. Default: nothing. At most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub fallback: Vec<ModelFallback>,

    /// Whether that comes first, too, where the cost budget has no room for the most that a call of this provider may cost. Default: false, by
    /// which a call is made while anything of the budget is left.
    #[serde(default)]
    pub fallback_on_budget: bool,

    /// What agents may have the provider do with things outside of their requests; a hijacked agent has a way out by each. Names of tools that the
    /// provider runs (`web_search`, `web_fetch`, `code_execution`, `mcp`...), of fields (`mcp_servers`, `container`, `web_search_options`, `background`,
    /// `conversation`, `previous_response_id`, `prompt`, `store`), of features by beta header (`mcp-client`), without the date of a version; `url` for
    /// images and documents that the provider fetches, `file` and `item_reference` for what it has kept. The refusal of a call names what to add. What
    /// such tools take beside tokens is in no budget. Default: nothing. At most 32 of 100 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 100)))]
    pub server_tools: Vec<String>,

    /// Limits of what is sent to the provider.
    #[serde(default)]
    pub limits: ProviderLimits,

    /// What a million tokens cost, by class. Default: free.
    #[serde(default)]
    pub prices: Prices,
}

fn much_output() -> u32 {
    32_000
}

fn five_minutes() -> u32 {
    300
}

/// Another model, or another provider of the same protocol.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelFallback {
    /// Name of a ModelProvider in the same namespace. One that speaks another protocol is passed over; what it falls back on itself does not
    /// count. Default: the provider that falls back. A DNS label of at most 63 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub provider: Option<String>,
    /// The model. Default: that of the provider. At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub model: Option<String>,
}

/// The protocol that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// No model and no network: agents use what is built into them, and say so.
    Builtin,
    /// Anthropic Messages.
    Anthropic,
    /// OpenAI Chat Completions and Responses, and everything that is compatible.
    Openai,
}

/// Names one entry of a Secret.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret. At most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Entry of the Secret. Default: apiKey. At most 253 characters.
    #[serde(default = "api_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn api_key() -> String {
    "apiKey".to_owned()
}

/// Limits of what is sent to a provider.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderLimits {
    /// Requests a minute, from 1. Default: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_per_minute: Option<u32>,
    /// Tokens a minute, in and out, from 1. Default: unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub tokens_per_minute: Option<u32>,
}

/// Prices in micro-units of the account's currency for a million tokens: 3000000 is 3.00.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// Tokens read. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000_000_i64))]
    pub input: i64,
    /// Tokens written. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000_000_i64))]
    pub output: i64,
    /// Tokens written to the prompt cache. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000_000_i64))]
    pub cache_write: i64,
    /// Tokens read from the prompt cache. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10_000_000_000_i64))]
    pub cache_read: i64,
}

/// How a provider does. The operator writes it, by what the gateways know.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ModelProviderStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready` is True while stages that call models may start. False says what holds them back, and until when where that is known. At most 8.
    #[serde(default)]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,

    /// Whether calls are let through. Default: closed.
    #[serde(default)]
    pub breaker: BreakerState,

    /// When an open breaker lets a first call through again. Absent unless it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_until: Option<Moment>,

    /// What calls of all the namespace's Workflows took in the last hour.
    #[serde(default)]
    pub last_hour: Amount,
}

/// State of a circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BreakerState {
    /// Calls go through.
    #[default]
    Closed,
    /// No call goes through: the provider failed too often.
    Open,
    /// One call at a time goes through, to find out.
    HalfOpen,
}
