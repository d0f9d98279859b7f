//! The gateway's HTTP API, version 1: JSON over TLS, a service-account token of the gateway's audience as bearer.
//!
//! | method and path | caller | body | reply |
//! |---|---|---|---|
//! | `POST /v1/claim` | runner | [`ClaimRequest`] | [`ClaimReply`] |
//! | `POST /v1/heartbeat` | runner | [`HeartbeatRequest`] | [`HeartbeatReply`] |
//! | `POST /v1/events` | runner | [`EventsRequest`] | 204 |
//! | `POST /v1/result` | runner | `AttemptResult` | [`ResultReply`] |
//! | `PUT /v1/blobs/{digest}` | runner | bytes | 201, 200 when it was there |
//! | `GET /v1/blobs/{digest}` | runner | | bytes; only digests in the caller's own envelope |
//! | `GET /v1/operator/results/{uid}/{stage}/{attempt}` | operator | | `AttemptResult`, 404 when there is none |
//! | `GET /v1/operator/blobs/{uid}/{digest}` | operator | | bytes |
//! | `GET /v1/operator/workflows` | operator | | [`StoredWorkflows`] |
//! | `DELETE /v1/operator/workflows/{uid}` | operator | | 204, also when there was nothing |
//! | `GET /v1/branches/{branch}` | runner | | [`BranchReply`] |
//! | `POST /v1/branches/{branch}` | runner | [`MoveBranchRequest`] | [`BranchEntry`] |
//! | `GET /v1/branches/{branch}/bundle` | runner | | bytes: the bundle of the tip |
//! | `POST /v1/images` | runner | [`PushImageRequest`] | [`PushImageReply`] |
//!
//! Errors have a body [`ErrorReply`]. 401: the token is missing, malformed, of another audience or expired. 403: the token
//! is good but its Pod belongs to no attempt, or asks for what is not its own. 409: the attempt is not the current one, or
//! another Pod is bound to it. 413: over a limit. 422: the body breaks a rule. 429: too many requests, with `Retry-After`.
//! 503: the API server or the store is out of reach; try again.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attempt::AttemptKey;
use crate::budget::{Amount, ModelUsage};
use crate::digest::Digest;
use crate::envelope::TaskEnvelope;
use crate::error::StructuredError;
use crate::moment::Moment;
use crate::provider::BreakerState;
use crate::status::WorkspaceRef;

/// Audience of the tokens that the gateway accepts.
pub const AUDIENCE: &str = "stagecraft-gateway";

/// Port of the gateway's Service and container.
pub const GATEWAY_PORT: u16 = 8443;

/// The runner asks for the task of its Pod. Repeating it from the same Pod gives the same answer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRequest {
    /// Version of the runner, for the registry.
    pub version: String,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReply {
    pub envelope: TaskEnvelope,
    /// How often to send a heartbeat, in seconds.
    pub heartbeat_seconds: u32,
}

#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatRequest {
    /// What the runner does at the moment, in a word.
    pub state: String,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HeartbeatReply {
    /// Set when the attempt must stop: its Workflow is gone, ended, or past this attempt.
    pub cancel: Option<String>,
}

/// Progress for people; kept in Redis for a while, never needed to go on.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct EventsRequest {
    /// At most 100 events of 4 KiB; more are cut.
    pub events: Vec<AgentEvent>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AgentEvent {
    pub at: Moment,
    pub kind: EventKind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub fields: Map<String, Value>,
}

#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// The runner or the launcher did something.
    Runner,
    /// The agent says how far it is.
    Progress,
    /// A line of the agent's output.
    Log,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ResultReply {
    /// False when a result of this attempt was there before: that one counts.
    pub stored: bool,
}

/// Where a branch of the caller's project stands. Only an attempt of the integration agent may ask, and only for the
/// target branch in its own envelope.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BranchReply {
    /// The branch as it stands; none when it does not exist yet.
    pub tip: Option<BranchEntry>,
    /// The latest move that an attempt of the same stage of the same Workflow made, whatever came after.
    pub own: Option<BranchEntry>,
}

/// One move of a branch.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BranchEntry {
    /// Number of the move, from 1.
    pub number: u64,
    /// Where the branch stands since.
    pub workspace: WorkspaceRef,
    /// Where it stood before; none for the first move.
    pub from: Option<String>,
    /// The attempt that moved it.
    pub moved_by: AttemptKey,
    pub at: Moment,
    /// Fields that the mover wants back when it looks again, such as its outputs.
    #[serde(default)]
    pub outputs: Map<String, Value>,
}

/// Moves a branch to a commit whose bundle the attempt has uploaded, if it still stands where `expected` says; 409 with code
/// `BranchMoved` if not. Repeating it from the same attempt gives the same answer.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MoveBranchRequest {
    /// The commit that the branch stands at; none when it must not exist.
    pub expected: Option<String>,
    pub workspace: WorkspaceRef,
    #[serde(default)]
    pub outputs: Map<String, Value>,
}

/// Pushes an OCI image, whose blobs the attempt has uploaded, to the project's repository in the installation's registry.
/// Only an attempt of the deployment agent may ask. Repeating it does no harm.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PushImageRequest {
    /// The image manifest; config and layers stand in it.
    pub manifest: Digest,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PushImageReply {
    /// What nodes pull: HOST/REPOSITORY@DIGEST.
    pub reference: String,
}

/// What a Workflow's calls of models took, as `GET /v1/operator/usage/UID` answers.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageReply {
    pub by: Vec<ModelUsage>,
}

/// How a ModelProvider does, as `GET /v1/operator/providers/NAMESPACE/NAME` answers.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ProviderReport {
    /// Why it cannot be called, whoever asks; none when it can.
    pub unusable: Option<String>,
    /// Why nobody answers there; none when somebody does.
    pub unreachable: Option<String>,
    pub breaker: BreakerState,
    pub open_until: Option<Moment>,
    pub last_hour: Amount,
    /// What is used up of what the namespace may use today, such as `7 of 7 tokens`.
    pub day_used_up: Option<String>,
    pub day_ends: Moment,
}

/// What the store holds, for the sweep.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StoredWorkflows {
    pub uids: Vec<String>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ErrorReply {
    pub error: StructuredError,
}

/// Fields of an entry in a task stream.
pub mod task_entry {
    /// Attempt key as text.
    pub const ATTEMPT: &str = "attempt";
    /// Task envelope as JSON.
    pub const ENVELOPE: &str = "envelope";
}

/// Fields of an entry in the result stream.
pub mod result_entry {
    /// Namespace and name of the Workflow, so that the operator finds it without a search.
    pub const NAMESPACE: &str = "namespace";
    pub const WORKFLOW: &str = "workflow";
    /// Attempt result as JSON.
    pub const RESULT: &str = "result";
    /// When the gateway accepted the result, in milliseconds since the epoch: where the hand-off time begins.
    pub const ACCEPTED_AT: &str = "acceptedAt";
}

/// Lua, atomic in Redis: adds a task unless it is in the stream, and answers its entry id. Operator and gateway both run
/// it, so that at any time one entry stands for an attempt. KEYS: task stream, id hash, set of agents. ARGV: agent,
/// attempt key, envelope, group.
pub const ADD_TASK: &str = r"
local known = redis.call('HGET', KEYS[2], ARGV[2])
local found = known and redis.pcall('XRANGE', KEYS[1], known, known)
if found and not found.err and #found > 0 then
  return known
end
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[4], '0', 'MKSTREAM')
local id = redis.call('XADD', KEYS[1], '*', 'attempt', ARGV[2], 'envelope', ARGV[3])
redis.call('HSET', KEYS[2], ARGV[2], id)
redis.call('SADD', KEYS[3], ARGV[1])
return id
";

/// Lua, atomic in Redis: takes a task out of its stream. Answers how many entries went. KEYS: task stream, id hash. ARGV:
/// attempt key, group.
pub const REMOVE_TASK: &str = r"
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known then
  return 0
end
redis.pcall('XACK', KEYS[1], ARGV[2], known)
redis.call('HDEL', KEYS[2], ARGV[1])
local gone = redis.pcall('XDEL', KEYS[1], known)
if type(gone) == 'number' then
  return gone
end
return 0
";
