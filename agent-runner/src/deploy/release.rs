//! What is deployed, and by whom.

use serde::{Deserialize, Serialize};
use stagecraft_api::AttemptKey;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::payload::DeploymentPayload;

/// Host, repository and digest: 255 for each of the first two, and what a digest has.
const IMAGE_BYTES: usize = 600;
/// Longest name of an object.
const NAME_BYTES: usize = 253;
/// SHA-256 in hexadecimal.
const COMMIT_BYTES: usize = 64;

/// One state of an application that can be rolled out, and rolled back to. It is kept as JSON in an annotation.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// HOST/REPOSITORY@DIGEST.
    pub image: String,
    pub replicas: u32,
    pub health_path: String,
    pub rollout_timeout_seconds: u32,
    /// Commit that the image was built from.
    pub commit: Option<String>,
    /// Name of the Workflow that first deployed it, and which attempt that was.
    pub workflow: String,
    pub attempt: AttemptKey,
}

impl Release {
    pub fn new(task: &TaskEnvelope, payload: &DeploymentPayload, image: String) -> Self {
        Self {
            image,
            replicas: payload.replicas,
            health_path: payload.health_path.clone(),
            rollout_timeout_seconds: payload.rollout_timeout_seconds,
            commit: task.workspace.as_ref().map(|workspace| workspace.commit.clone()),
            workflow: task.workflow.name.clone(),
            attempt: task.attempt.clone(),
        }
    }

    /// Whether both are the same for the cluster, whoever deployed them.
    pub fn runs_as(&self, other: &Self) -> bool {
        let Self {
            image,
            replicas,
            health_path,
            rollout_timeout_seconds: _,
            commit: _,
            workflow: _,
            attempt: _,
        } = self;
        (image, replicas, health_path) == (&other.image, &other.replicas, &other.health_path)
    }

    /// Whether a payload can have asked for it: anybody may have written what is read from an annotation.
    pub fn is_possible(&self) -> bool {
        let Self {
            image,
            replicas,
            health_path,
            rollout_timeout_seconds,
            commit,
            workflow,
            attempt: _,
        } = self;
        let is_name = |text: &str, longest: usize| {
            (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        is_name(image, IMAGE_BYTES)
            && is_name(workflow, NAME_BYTES)
            && commit
                .as_deref()
                .is_none_or(|commit| is_name(commit, COMMIT_BYTES))
            && (1..=20).contains(replicas)
            && (10..=3600).contains(rollout_timeout_seconds)
            && health_path.starts_with('/')
            && health_path.chars().count() <= 500
    }

    /// For people: the image, and the commit where it is known.
    pub fn shown(&self) -> String {
        match &self.commit {
            Some(commit) => format!("{} of commit {}", self.image, commit.get(..12).unwrap_or(commit)),
            None => self.image.clone(),
        }
    }
}

/// The attempt that writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Name of the Workflow.
    pub workflow: String,
    pub attempt: AttemptKey,
}

impl Writer {
    pub fn new(task: &TaskEnvelope) -> Self {
        Self {
            workflow: task.workflow.name.clone(),
            attempt: task.attempt.clone(),
        }
    }
}

/// What to do when a release is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollback {
    /// This one was well before.
    To(Box<Release>),
    /// The same was well before: nothing would change.
    Keep,
    /// None ever was.
    Remove,
}

impl Rollback {
    pub fn from(failed: &Release, last_good: Option<Release>) -> Self {
        match last_good {
            None => Self::Remove,
            Some(good) if good.runs_as(failed) => Self::Keep,
            Some(good) => Self::To(Box::new(good)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn release(image: &str, attempt: u32) -> Release {
        Release {
            image: image.into(),
            replicas: 2,
            health_path: "/".into(),
            rollout_timeout_seconds: 30,
            commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
            workflow: "flow".into(),
            attempt: key(attempt),
        }
    }

    pub fn key(attempt: u32) -> AttemptKey {
        AttemptKey {
            workflow_uid: "uid".into(),
            stage: "deploy".into(),
            attempt,
        }
    }

    #[test]
    fn what_is_rolled_back_to_is_what_was_well_before() {
        let failed = release("r/new", 2);
        let old = release("r/old", 1);
        let same = Release {
            attempt: key(1),
            ..failed.clone()
        };
        let fewer = Release {
            replicas: 1,
            ..same.clone()
        };
        let elsewhere = Release {
            health_path: "/healthz".into(),
            ..same.clone()
        };
        for (last_good, expected) in [
            (None, Rollback::Remove),
            (Some(old.clone()), Rollback::To(Box::new(old))),
            (Some(same), Rollback::Keep),
            (Some(fewer.clone()), Rollback::To(Box::new(fewer))),
            (Some(elsewhere.clone()), Rollback::To(Box::new(elsewhere))),
        ] {
            assert_eq!(Rollback::from(&failed, last_good), expected);
        }
    }

    #[test]
    fn people_see_the_image_and_the_beginning_of_the_commit() {
        assert_eq!(
            release("r/a@sha256:7", 1).shown(),
            "r/a@sha256:7 of commit 0123456789ab"
        );
    }
}
