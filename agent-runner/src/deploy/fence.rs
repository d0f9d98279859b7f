//! Who may write what is there: decided from what was read, and held by the version that was read.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use stagecraft_api::{AttemptKey, Category, StructuredError, label};

use super::manifest::LAST_GOOD;
use super::release::{Release, Writer};

/// What a writer may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Nothing is there.
    Create,
    /// Something is, and may be changed if it still has this version.
    Change { version: String },
}

/// Why a writer may do nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    #[error(
        "{kind} {name} exists in namespace {namespace} and was not made by Stagecraft for the project {name}; it is left as it is"
    )]
    NameTaken {
        kind: &'static str,
        name: String,
        namespace: String,
    },
    #[error("{by} has deployed {name} since: what it deployed is left as it is")]
    Superseded { name: String, by: String },
    #[error(
        "the annotations {} of Deployment {name} do not say which attempt wrote it; it is left as it is",
        WRITER.join(", ")
    )]
    UnknownWriter { name: String },
    #[error("{kind} {name} is being deleted")]
    Leaving { kind: &'static str, name: String },
}

impl Denial {
    pub fn structured(&self) -> StructuredError {
        let message = self.to_string();
        match self {
            Self::NameTaken { kind, name, .. } => StructuredError::new(
                "NameTaken",
                Category::Configuration,
                message,
            )
            .suggest(format!(
                "choose another project.name in a new Workflow, or delete {kind} {name} if nobody needs it"
            ))
            .fatal(),
            Self::Superseded { .. } => StructuredError::new("Superseded", Category::Dependency, message)
                .suggest("run the Workflow again if its state is the one that has to run")
                .fatal(),
            Self::UnknownWriter { name } => StructuredError::new("UnknownWriter", Category::Configuration, message)
                .suggest(format!(
                    "put these annotations of Deployment {name} right, or remove all of them: then any attempt may write it"
                ))
                .fatal(),
            Self::Leaving { .. } => StructuredError::new("DeploymentLeaving", Category::Dependency, message),
        }
    }
}

/// Annotations that say who wrote.
const WRITER: [&str; 3] = [label::WORKFLOW_UID, label::STAGE, label::ATTEMPT];

/// Whether an object of the project's name may be written.
pub fn permit(
    kind: &'static str,
    namespace: &str,
    project: &str,
    live: Option<&ObjectMeta>,
) -> Result<Permit, Denial> {
    let Some(live) = live else {
        return Ok(Permit::Create);
    };
    let labelled = |key: &str| live.labels.as_ref()?.get(key).map(String::as_str);
    if labelled(label::MANAGED_BY) != Some(label::MANAGED_BY_VALUE)
        || labelled(label::PROJECT) != Some(project)
    {
        return Err(Denial::NameTaken {
            kind,
            name: project.to_owned(),
            namespace: namespace.to_owned(),
        });
    }
    if live.deletion_timestamp.is_some() {
        return Err(Denial::Leaving {
            kind,
            name: project.to_owned(),
        });
    }
    Ok(Permit::Change {
        version: live.resource_version.clone().unwrap_or_default(),
    })
}

/// A later attempt of the same stage may have written: then this one has no effect any more. Annotations that hold something else
/// than a writer may be what is left of that one's.
pub fn may_follow(writer: &Writer, project: &str, live: &ObjectMeta) -> Result<(), Denial> {
    match written_by(live) {
        Some(last) if is_same_stage(&last, &writer.attempt) && last.attempt > writer.attempt.attempt => {
            Err(superseded(project, live, &last))
        }
        None if has_writer(live) => Err(Denial::UnknownWriter {
            name: project.to_owned(),
        }),
        _ => Ok(()),
    }
}

/// Whether what is there is still what this attempt wrote.
pub fn still_ours(writer: &Writer, project: &str, live: &ObjectMeta) -> Result<(), Denial> {
    match written_by(live) {
        Some(last) if last == writer.attempt => Ok(()),
        Some(last) => Err(superseded(project, live, &last)),
        None => Err(Denial::Superseded {
            name: project.to_owned(),
            by: "somebody".to_owned(),
        }),
    }
}

/// Whether the stage of the writer made the object.
pub fn made_by(writer: &Writer, live: &ObjectMeta) -> bool {
    written_by(live).is_some_and(|creator| is_same_stage(&creator, &writer.attempt))
}

/// The release that was well last. One that cannot be read, or that nobody can have deployed, is none: nothing can be rolled back to it.
pub fn last_good(live: &ObjectMeta) -> Option<Release> {
    let text = live.annotations.as_ref()?.get(LAST_GOOD)?;
    let release: Release = serde_json::from_str(text).ok()?;
    release.is_possible().then_some(release)
}

fn is_same_stage(one: &AttemptKey, other: &AttemptKey) -> bool {
    (&one.workflow_uid, &one.stage) == (&other.workflow_uid, &other.stage)
}

fn has_writer(live: &ObjectMeta) -> bool {
    let annotations = live.annotations.as_ref();
    annotations.is_some_and(|annotations| WRITER.iter().any(|name| annotations.contains_key(*name)))
}

fn written_by(live: &ObjectMeta) -> Option<AttemptKey> {
    let annotations = live.annotations.as_ref()?;
    Some(AttemptKey {
        workflow_uid: annotations.get(label::WORKFLOW_UID)?.clone(),
        stage: annotations.get(label::STAGE)?.clone(),
        attempt: annotations.get(label::ATTEMPT)?.parse().ok()?,
    })
}

fn superseded(project: &str, live: &ObjectMeta, last: &AttemptKey) -> Denial {
    let annotations = live.annotations.as_ref();
    let workflow = annotations.and_then(|annotations| annotations.get(label::WORKFLOW));
    let workflow = workflow.map_or("?", String::as_str);
    Denial::Superseded {
        name: project.to_owned(),
        by: format!(
            "attempt {} of stage {} of Workflow {workflow}",
            last.attempt, last.stage
        ),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::deploy::manifest::Place;
    use crate::deploy::release::tests::{key, release};

    fn writer(uid: &str, stage: &str, attempt: u32) -> Writer {
        Writer {
            workflow: format!("flow-{uid}"),
            attempt: AttemptKey {
                workflow_uid: uid.into(),
                stage: stage.into(),
                attempt,
            },
        }
    }

    /// Metadata of the Deployment as this writer leaves it.
    fn live(writer: &Writer) -> ObjectMeta {
        let place = Place {
            namespace: "team".into(),
            project: "shop".into(),
        };
        let mut deployment = place.deployment(&release("r/shop", 1), writer, Some(&release("r/old", 1)));
        deployment["metadata"]["resourceVersion"] = json!("7");
        serde_json::from_value(deployment["metadata"].take()).unwrap()
    }

    fn meta(metadata: Value) -> ObjectMeta {
        serde_json::from_value(metadata).unwrap()
    }

    #[test]
    fn only_what_was_made_for_the_project_may_be_written() {
        let ours = json!({"labels": {"app.kubernetes.io/managed-by": "stagecraft", "stagecraft.dev/project": "shop"},
            "resourceVersion": "7"});
        let change = |from: &Value, pointer: &str, value: Value| {
            let mut changed = from.clone();
            match pointer.rsplit_once('/') {
                Some((parent, field)) => changed.pointer_mut(parent).unwrap()[field] = value,
                None => panic!("{pointer}"),
            }
            meta(changed)
        };
        let at_seven = Ok(Permit::Change { version: "7".into() });
        assert_eq!(permit("Deployment", "team", "shop", None), Ok(Permit::Create));
        assert_eq!(
            permit("Deployment", "team", "shop", Some(&meta(ours.clone()))),
            at_seven
        );
        for foreign in [
            meta(json!({"resourceVersion": "7"})),
            change(&ours, "/labels", json!({"stagecraft.dev/project": "shop"})),
            change(
                &ours,
                "/labels",
                json!({"app.kubernetes.io/managed-by": "stagecraft"}),
            ),
            change(
                &ours,
                "/labels",
                json!({"app.kubernetes.io/managed-by": "stagecraft", "stagecraft.dev/project": "other"}),
            ),
            change(
                &ours,
                "/labels",
                json!({"app.kubernetes.io/managed-by": "Helm", "stagecraft.dev/project": "shop"}),
            ),
        ] {
            let denial = permit("Deployment", "team", "shop", Some(&foreign)).unwrap_err();
            assert!(matches!(denial, Denial::NameTaken { .. }), "{denial}");
            assert!(!denial.structured().retryable);
        }
        let leaving = change(&ours, "/deletionTimestamp", json!("2026-11-01T10:00:00Z"));
        let denial = permit("Deployment", "team", "shop", Some(&leaving)).unwrap_err();
        assert!(denial.structured().retryable, "{denial}");
    }

    #[test]
    fn a_later_attempt_of_the_same_stage_is_the_only_one_that_must_not_be_followed() {
        let me = writer("uid", "deploy", 2);
        for (last, allowed) in [
            (writer("uid", "deploy", 1), true),
            (writer("uid", "deploy", 2), true),
            (writer("uid", "deploy", 3), false),
            (writer("uid", "deploy-again", 3), true),
            (writer("other", "deploy", 3), true),
        ] {
            assert_eq!(may_follow(&me, "shop", &live(&last)).is_ok(), allowed, "{last:?}");
        }
        assert_eq!(may_follow(&me, "shop", &ObjectMeta::default()), Ok(()));
    }

    #[test]
    fn while_it_waits_an_attempt_gives_way_to_whoever_has_written_since() {
        let me = writer("uid", "deploy", 2);
        assert_eq!(still_ours(&me, "shop", &live(&me)), Ok(()));
        for last in [
            writer("uid", "deploy", 1),
            writer("uid", "deploy", 3),
            writer("other", "deploy", 2),
        ] {
            let denial = still_ours(&me, "shop", &live(&last)).unwrap_err();
            assert!(denial.to_string().contains(&last.workflow), "{denial}");
        }
        assert!(still_ours(&me, "shop", &ObjectMeta::default()).is_err());
    }

    #[test]
    fn the_release_that_was_well_is_found_and_nonsense_is_none() {
        let me = writer("uid", "deploy", 2);
        assert_eq!(last_good(&live(&me)), Some(release("r/old", 1)));
        assert_eq!(last_good(&meta(json!({"annotations": {LAST_GOOD: "{"}}))), None);
        assert_eq!(last_good(&ObjectMeta::default()), None);
    }

    #[test]
    fn what_another_stage_made_is_not_ones_own() {
        let mine = writer("uid", "deploy", 2);
        assert!(made_by(&mine, &live(&writer("uid", "deploy", 1))));
        assert!(!made_by(&mine, &live(&writer("other", "deploy", 1))));
        assert!(!made_by(&mine, &ObjectMeta::default()));
        assert_eq!(mine.attempt, key(2));
    }
}
