//! A deployment that failed, as the Workflow's status tells it.

use stagecraft_api::error::{one_line, truncate};
use stagecraft_api::{Category, StructuredError, limit};

use super::diagnosis::Diagnosis;
use super::health::HealthError;
use super::manifest::Place;
use super::release::Release;
use super::rollout::{Cause, Kind};

/// Longest reason, in bytes; what follows needs room too.
const REASON_BYTES: usize = 360;
/// Longest words about Events, in bytes.
const EVENTS_BYTES: usize = 260;

/// What became of the application when its new release was not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An earlier release runs again, or does not, for this reason.
    RolledBack {
        to: Box<Release>,
        trouble: Option<String>,
    },
    /// The same release was well before, so nothing was changed.
    Kept,
    /// It was the first one, and is gone.
    Removed { service: bool },
    /// It could not be rolled back, for this reason.
    Left(String),
}

impl Outcome {
    fn told(&self) -> String {
        match self {
            Self::RolledBack { to, trouble: None } => {
                format!("rolled back to {}, which is available", to.shown())
            }
            Self::RolledBack {
                to,
                trouble: Some(trouble),
            } => format!(
                "rolled back to {}, which is not available yet: {trouble}",
                to.shown()
            ),
            Self::Kept => "nothing was rolled back, since the same release was well before".to_owned(),
            Self::Removed { service: true } => {
                "there was no release before, so Deployment and Service were removed".to_owned()
            }
            Self::Removed { service: false } => {
                "there was no release before, so the Deployment was removed".to_owned()
            }
            Self::Left(reason) => {
                format!("it was left as it is, since it could not be rolled back: {reason}")
            }
        }
    }
}

/// Why a release is not well.
#[derive(Debug)]
pub enum Trouble {
    Rollout(Cause),
    Health(HealthError),
}

impl Trouble {
    fn kind(&self) -> Kind {
        match self {
            Self::Rollout(cause) => cause.kind,
            Self::Health(_) => Kind::Unwell,
        }
    }

    pub fn reason(&self) -> String {
        match self {
            Self::Rollout(cause) => cause.reason.clone(),
            Self::Health(error) => error.to_string(),
        }
    }
}

/// The error of the stage: what happened, what was done about it, and what the cluster says, as far as there is room.
pub fn structured(
    place: &Place,
    release: &Release,
    trouble: &Trouble,
    outcome: &Outcome,
    diagnosis: &Diagnosis,
) -> StructuredError {
    let reason = truncate(&one_line(&trouble.reason()), REASON_BYTES);
    let mut message = format!("{} is not well: {reason}; {}", release.shown(), outcome.told());
    if !diagnosis.events.is_empty() {
        message.push_str("; Kubernetes says: ");
        message.push_str(&truncate(&diagnosis.events.join("; "), EVENTS_BYTES));
    }
    let intro = "; the last lines of its log: ";
    let room = limit::MESSAGE_BYTES.saturating_sub(limit::stored_bytes(&message) + intro.len());
    let log = last_that_fit(&diagnosis.log, room);
    if !log.is_empty() {
        message.push_str(intro);
        message.push_str(&log);
    }
    let (namespace, name) = (&place.namespace, &place.project);
    match trouble.kind() {
        Kind::Pull => StructuredError::new("ImagePullFailed", Category::Dependency, message)
            .suggest(format!(
                "see that the nodes reach the registry of the chart's registry.host and trust it, and that the default service \
                 account of namespace {namespace} names the Secret to pull with, if one is needed"
            ))
            .fatal(),
        Kind::Unwell => StructuredError::new("HealthCheckFailed", Category::Validation, message)
            .suggest(format!(
                "see that the application answers GET {} with 200, or correct healthPath or rolloutTimeoutSeconds in the \
                 payload of the stage",
                release.health_path
            ))
            .fatal(),
        Kind::Crash => StructuredError::new("RolloutFailed", Category::Validation, message)
            .suggest("read the end of the application's log in the message, and correct the application")
            .fatal(),
        Kind::Stuck => StructuredError::new("RolloutFailed", Category::Dependency, message).suggest(format!(
            "see what the message says, make room for the Pods in the cluster and in the quota of namespace {namespace}, or ask \
             for fewer replicas; kubectl -n {namespace} describe deployment {name} tells more"
        )),
    }
}

/// As many of the last lines as fit.
fn last_that_fit(lines: &[String], bytes: usize) -> String {
    let mut kept = String::new();
    for line in lines.iter().rev() {
        let longer = if kept.is_empty() {
            line.clone()
        } else {
            format!("{line} | {kept}")
        };
        let stored = serde_json::to_string(&longer).map_or(usize::MAX, |json| limit::stored_bytes(&json));
        if stored > bytes {
            break;
        }
        kept = longer;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::release::tests::release;

    fn place() -> Place {
        Place {
            namespace: "team".into(),
            project: "shop".into(),
        }
    }

    fn error(kind: Kind, outcome: &Outcome, diagnosis: &Diagnosis) -> StructuredError {
        let trouble = Trouble::Rollout(Cause {
            kind,
            reason: "Pod shop-x\nis in trouble".into(),
        });
        structured(
            &place(),
            &release("r.example/shop@sha256:7", 2),
            &trouble,
            outcome,
            diagnosis,
        )
    }

    #[test]
    fn each_kind_of_trouble_has_its_code_and_its_remedy() {
        for (kind, code, category, retryable, remedy) in [
            (
                Kind::Pull,
                "ImagePullFailed",
                Category::Dependency,
                false,
                "registry.host",
            ),
            (
                Kind::Unwell,
                "HealthCheckFailed",
                Category::Validation,
                false,
                "healthPath",
            ),
            (Kind::Crash, "RolloutFailed", Category::Validation, false, "log"),
            (
                Kind::Stuck,
                "RolloutFailed",
                Category::Dependency,
                true,
                "namespace team",
            ),
        ] {
            let error = error(kind, &Outcome::Kept, &Diagnosis::default());
            assert_eq!(
                (error.code.as_str(), error.category, error.retryable),
                (code, category, retryable)
            );
            assert!(error.message.contains("Pod shop-x is in trouble"), "{error:?}");
            assert!(error.message.contains("r.example/shop@sha256:7"), "{error:?}");
            assert!(error.suggested_action.unwrap().contains(remedy), "{code}");
        }
    }

    #[test]
    fn what_was_done_about_it_is_told() {
        let to = Box::new(release("r.example/shop@sha256:6", 1));
        for (outcome, text) in [
            (
                Outcome::RolledBack {
                    to: to.clone(),
                    trouble: None,
                },
                "rolled back to r.example/shop@sha256:6 of commit 0123456789ab, which is available",
            ),
            (
                Outcome::RolledBack {
                    to,
                    trouble: Some("1 of 2".into()),
                },
                "not available yet: 1 of 2",
            ),
            (Outcome::Kept, "nothing was rolled back"),
            (
                Outcome::Removed { service: true },
                "Deployment and Service were removed",
            ),
            (Outcome::Removed { service: false }, "the Deployment was removed"),
            (
                Outcome::Left("no API server".into()),
                "left as it is, since it could not be rolled back: no API",
            ),
        ] {
            let message = error(Kind::Unwell, &outcome, &Diagnosis::default()).message;
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn the_message_keeps_its_bound_and_the_end_of_the_log() {
        let diagnosis = Diagnosis {
            events: vec!["Unhealthy: <refused>".repeat(40)],
            log: (0..200)
                .map(|number| format!("line {number} \"quoted\""))
                .collect(),
        };
        let outcome = Outcome::RolledBack {
            to: Box::new(release("r.example/shop@sha256:6", 1)),
            trouble: None,
        };
        let message = error(Kind::Unwell, &outcome, &diagnosis).message;
        let stored = limit::stored_bytes(&serde_json::to_string(&message).unwrap());
        assert!(stored <= limit::MESSAGE_BYTES + 2, "{stored}");
        assert!(message.contains("rolled back to"), "{message}");
        assert!(message.ends_with("line 199 \"quoted\""), "{message}");
        assert!(!message.contains("line 0 "), "{message}");
        assert_eq!(last_that_fit(&["a".into(), "b".into()], 9), "a | b".to_owned());
        assert_eq!(last_that_fit(&["a".into(), "b".into()], 4), "b");
    }
}
