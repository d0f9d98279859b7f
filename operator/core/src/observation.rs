//! What the shell saw: plain values, at one moment.

use std::collections::BTreeMap;

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::budget::ModelUsage;
use stagecraft_api::moment::Moment;
use stagecraft_api::result::AttemptResult;
use stagecraft_api::run::Run;
use stagecraft_api::status::WorkflowStatus;
use stagecraft_api::workflow::WorkflowSpec;

use crate::admit::Admission;
use crate::approval::ApprovalEvidence;
use crate::provider::Trouble;
use crate::resolve::Catalog;

/// Everything that the planner looks at for one Workflow.
#[derive(Clone, Debug)]
pub struct Observation {
    pub now: Moment,
    pub identity: Identity,
    pub spec: WorkflowSpec,
    /// The stored status, never older than this operator's own last write.
    pub status: WorkflowStatus,
    pub run: RunEvidence,
    /// Evidence on the current attempt of each stage that runs, by stage.
    pub attempts: BTreeMap<String, AttemptEvidence>,
    /// Everything of this Workflow that the cache knows and that has not ended.
    pub open_jobs: Vec<OpenJob>,
    /// Attempts of this Workflow whose results wait in the stream for an acknowledgement.
    pub announced: Vec<AttemptKey>,
    /// Its Approvals, by name.
    pub approvals: BTreeMap<String, ApprovalEvidence>,
    /// What was decided about its ready stages.
    pub admission: Admission,
    /// What its calls of models took so far; none where there are no models, or nobody could be asked.
    pub used: Option<Vec<ModelUsage>>,
    /// Why its model provider cannot be called now; none where it can, or has none.
    pub model_trouble: Option<Trouble>,
    /// A newer Workflow of the same key that takes its place, by name.
    pub superseded_by: Option<String>,
}

/// Which Workflow it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: i64,
    /// What the metadata take of the stored Workflow: labels, annotations, and who wrote what. In bytes.
    pub metadata_bytes: usize,
}

/// What is known of what the Workflow runs.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvidence {
    /// The status names no run yet: this is what it can be resolved against.
    NotPinned(Catalog),
    /// The run that the status names, with a digest that verifies.
    Pinned(Run),
    /// The ConfigMap that the status names is gone or changed; the text says how.
    Lost(String),
}

/// A Job that has not ended, or a Pod that has not and whose Job is gone: `kubectl delete --cascade=orphan` leaves one that
/// no owner takes along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenJob {
    /// Name of the Job, also of one that is gone.
    pub name: String,
    pub stage: String,
    pub attempt: u32,
    pub deleting: bool,
}

/// What is known of the current attempt of a stage that runs.
#[derive(Clone, Debug, PartialEq)]
pub struct AttemptEvidence {
    pub job: JobEvidence,
    pub pod: Option<PodEvidence>,
    pub result: ResultEvidence,
    /// Job and Pod were read live, and after that the gateway was asked for a result.
    pub live: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum JobEvidence {
    /// Not there. `seen_before`: this operator had seen it, so it was deleted.
    Missing { seen_before: bool },
    /// A Job has the name but belongs to something else.
    Foreign,
    /// The API server refused to create it: the text is its answer.
    Refused(String),
    Present {
        /// Why it failed or is about to, from the conditions Failed and FailureTarget.
        failure: Option<String>,
        complete: bool,
        deleting: bool,
        /// Why it has no Pod, from its Events.
        trouble: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub struct PodEvidence {
    pub name: String,
    pub phase: PodPhase,
    /// Since when it is being deleted.
    pub deleting_since: Option<Moment>,
    /// Since when its node does not answer.
    pub node_lost_since: Option<Moment>,
    /// Reason and message of the Pod itself, such as Evicted.
    pub reason: Option<String>,
    /// Why it does not start: no node, no image, no volume.
    pub trouble: Option<String>,
    /// How the agent's container ended.
    pub agent_end: Option<ContainerEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEnd {
    pub exit_code: i32,
    /// As the kubelet has it: Completed, Error, OOMKilled, ContainerCannotRun...
    pub reason: String,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ResultEvidence {
    /// Nobody was asked yet.
    Unknown,
    /// The gateway has none.
    None,
    /// The gateway does not answer; the text says how.
    Unavailable(String),
    Some(Box<AttemptResult>),
}
