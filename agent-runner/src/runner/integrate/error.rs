//! Why work does not come to a branch.

use stagecraft_api::error::chain;
use stagecraft_api::{Category, StructuredError, limit};

use super::FETCHES;
use super::merge::MergeError;
use crate::runner::gateway::GatewayError;
use crate::runner::git::bundle::BundleError;
use crate::runner::git::checkout::CheckoutError;

/// Code of the gateway's refusal to move a branch that stands elsewhere.
const BRANCH_MOVED: &str = "BranchMoved";

/// Why the work does not come to the branch.
#[derive(Debug, thiserror::Error)]
pub enum IntegrateError {
    #[error(
        "stage {stage} has no work to bring to the branch {branch}: no stage before it left files behind"
    )]
    NoWork { stage: String, branch: String },
    #[error("the work cannot be brought to the branch {branch}")]
    Merge { branch: String, source: MergeError },
    #[error("the branch {branch} moved {FETCHES} times while it was fetched")]
    Restless { branch: String },
    #[error("the branch {branch} cannot be fetched")]
    Fetch { branch: String, source: GatewayError },
    #[error("the history of the branch {branch} cannot be read")]
    Corrupt { branch: String, source: BundleError },
    #[error("the merged result cannot be checked out")]
    Checkout(#[from] CheckoutError),
    #[error(
        "the merged result {commit} is not good enough for the branch {branch}: {}",
        reasons.join("; ")
    )]
    NotGood {
        branch: String,
        commit: String,
        reasons: Vec<String>,
    },
    #[error("the merged result cannot be bundled")]
    Bundle(#[source] BundleError),
    #[error(
        "the merged result with its history has {bytes} bytes, over the limit of {} for a blob",
        limit::BLOB_BYTES
    )]
    TooLarge { bytes: u64 },
    #[error(
        "the outputs have {bytes} bytes as JSON, over the limit of {}",
        limit::OUTPUTS_BYTES
    )]
    Outputs { bytes: usize },
    #[error("the merged result cannot be uploaded")]
    Upload(#[source] GatewayError),
    #[error("the branch {branch} was not moved")]
    Move { branch: String, source: GatewayError },
    #[error(
        "an earlier attempt of this stage has moved the branch {branch}, and what it kept there is not understood"
    )]
    Kept {
        branch: String,
        source: serde_json::Error,
    },
    #[error("what belongs to the move of the branch cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    #[error("the runner's volume cannot be used")]
    Volume(#[from] std::io::Error),
    #[error("the git directory cannot be used")]
    Git(#[from] git2::Error),
    #[error("the runner knows of no merge that was checked")]
    Unprepared,
    #[error("the work was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl IntegrateError {
    /// How the attempt's result tells it.
    pub fn structured(&self) -> StructuredError {
        let of = |code, category| StructuredError::new(code, category, chain(self));
        match self {
            Self::NoWork { .. } => of("NothingToIntegrate", Category::Configuration)
                .suggest("have this stage need, in the template, a stage whose agent writes to the workspace")
                .fatal(),
            Self::Merge {
                branch,
                source: MergeError::Conflict(_),
            } => of("MergeConflict", Category::Validation)
                .suggest(format!(
                    "{branch} stays as it was; run the Workflow again once its work fits what {branch} holds, or choose another \
                     payload.targetBranch for the stage"
                ))
                .fatal(),
            Self::Merge {
                branch,
                source: MergeError::NotFastForward { .. },
            } => of("NotFastForward", Category::Validation)
                .suggest(format!(
                    "choose merge, squash or rebase as payload.strategy of the stage, or another payload.targetBranch than {branch}"
                ))
                .fatal(),
            Self::NotGood { branch, .. } => of("ChecksFailed", Category::Validation)
                .suggest(format!(
                    "{branch} stays as it was; correct the work so that it passes the checks together with what {branch} holds, \
                     and run the Workflow again"
                ))
                .fatal(),
            Self::Restless { .. } => of(BRANCH_MOVED, Category::Dependency),
            Self::Move {
                source: GatewayError::Refused { error, .. },
                ..
            } if error.code == BRANCH_MOVED => of(BRANCH_MOVED, Category::Dependency)
                .suggest("nothing: the next attempt merges the work with where the branch stands then"),
            Self::Fetch { .. } => of("BranchUnavailable", Category::Dependency),
            Self::Corrupt { .. } => of("BranchCorrupt", Category::Dependency).suggest(
                "restore the gateway's store from a backup, or choose another payload.targetBranch for the stage",
            ),
            Self::TooLarge { .. } => of("WorkspaceTooLarge", Category::Validation)
                .suggest("keep large files out of the work: the whole history of a branch counts")
                .fatal(),
            Self::Outputs { .. } => of("OutputsTooLarge", Category::Validation)
                .suggest("have the agent put out less: larger data belongs in an artifact"),
            Self::Upload(GatewayError::File(_)) | Self::Volume(_) => {
                of("IntegrationFailed", Category::Resource)
            }
            Self::Upload(_) => of("UploadRefused", Category::Dependency),
            Self::Move { .. } => of("BranchNotMoved", Category::Dependency),
            Self::Kept { .. } => of("TakeoverFailed", Category::Dependency)
                .suggest("use the release of Stagecraft that moved the branch, or one that is newer than both"),
            Self::Checkout(CheckoutError::File { .. }) => of("IntegrationFailed", Category::Resource),
            Self::Merge { .. }
            | Self::Checkout(_)
            | Self::Bundle(_)
            | Self::Encode(_)
            | Self::Git(_)
            | Self::Unprepared
            | Self::Interrupted(_) => of("IntegrationFailed", Category::Unknown),
        }
    }
}
