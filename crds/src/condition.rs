//! Types and reasons of a Workflow's conditions. Messages say what is waited for, since when and until when.

/// The Workflow can run with what the cluster has. False carries every violation at once.
pub const ACCEPTED: &str = "Accepted";
/// Work goes on or is waited for. False once the Workflow is terminal.
pub const PROGRESSING: &str = "Progressing";
/// The one terminal condition: Unknown while running, True when completed, False when it ended otherwise.
pub const SUCCEEDED: &str = "Succeeded";

/// Why a condition has its status. Text form is the variant's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Every check passed.
    Valid,
    /// At least one field needs the author's attention.
    Invalid,
    /// The stored object does not match the schema that this operator knows.
    Undecodable,
    /// A stage runs.
    StageRunning,
    /// A Pod of a stage waits for the cluster: image, node, volume, quota.
    StagePending,
    /// An attempt ended and the next one waits for its backoff.
    Backoff,
    /// A limit on running stages holds a ready stage back.
    Limit,
    /// The model provider that a ready stage needs cannot be called now.
    ModelProvider,
    /// `spec.suspend` holds a ready stage back.
    Suspended,
    /// A ready stage waits for a person.
    AwaitingApproval,
    /// Nothing runs yet.
    Pending,
    /// Every stage succeeded.
    Completed,
    /// A stage used up its attempts, or the request was empty.
    Failed,
    /// `spec.cancel` ended it.
    Cancelled,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::Invalid => "Invalid",
            Self::Undecodable => "Undecodable",
            Self::StageRunning => "StageRunning",
            Self::StagePending => "StagePending",
            Self::Backoff => "Backoff",
            Self::Limit => "Limit",
            Self::ModelProvider => "ModelProvider",
            Self::Suspended => "Suspended",
            Self::AwaitingApproval => "AwaitingApproval",
            Self::Pending => "Pending",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
        }
    }
}
