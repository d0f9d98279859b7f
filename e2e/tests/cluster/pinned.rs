//! What an accepted Workflow says: each field of its spec can be edited, or is refused with the reason.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::CustomResourceExt as _;
use serde_json::{Value, json};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::{Workflow, WorkflowPhase};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, samples, scenario};

use super::owner::{patch, refuses};

const LIMIT: Duration = Duration::from_mins(3);
const START: Duration = Duration::from_mins(1);
const NOTICE: Duration = Duration::from_secs(5);
/// What the scenario of what can be edited edits.
const EDITABLE: [&str; 6] = [
    "suspend",
    "cancel",
    "cancelFinally",
    "retry",
    "priority",
    "ttlSecondsAfterFinished",
];

/// Every field that the definition knows.
fn every_field() -> anyhow::Result<BTreeSet<String>> {
    let definition = serde_json::to_value(Workflow::crd())?;
    let fields = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties")
        .and_then(Value::as_object)
        .context("the definition has no spec")?;
    Ok(fields.keys().cloned().collect())
}

/// Fields, and edits of each that would be fine before the Workflow is accepted. One changes what is there or adds to it, one takes it away.
fn edits() -> Vec<(&'static str, Vec<Value>)> {
    let stage = json!({"name": "only", "agent": "echo"});
    let project = json!({"requirements": ["Something else."]});
    vec![
        ("type", vec![json!({"type": "app"})]),
        (
            "templateRef",
            vec![json!({"type": null, "templateRef": {"name": "other"}})],
        ),
        (
            "template",
            vec![json!({"type": null, "template": {"stages": [stage]}})],
        ),
        (
            "project",
            vec![json!({"project": project}), json!({"project": null})],
        ),
        (
            "stages",
            vec![
                json!({"stages": [{"name": "validate", "payload": {"sleepMillis": 1}}]}),
                json!({"stages": null}),
            ],
        ),
        (
            "deadlineSeconds",
            vec![json!({"deadlineSeconds": 601}), json!({"deadlineSeconds": null})],
        ),
        ("model", vec![json!({"model": {"provider": "other"}})]),
        (
            "budget",
            vec![json!({"budget": {"calls": 1}}), json!({"budget": null})],
        ),
        (
            "concurrency",
            vec![
                json!({"concurrency": {"key": "other"}}),
                json!({"concurrency": null}),
            ],
        ),
        ("parameters", vec![json!({"parameters": {"other": 1}})]),
        ("requestedBy", vec![json!({"requestedBy": "somebody"})]),
    ]
}

#[test]
fn each_field_is_pinned_or_can_be_edited() -> anyhow::Result<()> {
    let pinned = edits().into_iter().map(|(field, _)| field);
    let known: BTreeSet<String> = pinned.chain(EDITABLE).map(str::to_owned).collect();
    assert_eq!(known, every_field()?);
    Ok(())
}

#[test]
fn what_is_pinned_cannot_be_edited() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let mut workflow = samples::slow_echo("fixed", &["validate"], 60_000);
        for (field, value) in [
            ("deadlineSeconds", json!(600)),
            ("budget", json!({"calls": 100})),
            ("concurrency", json!({"key": "own"})),
        ] {
            samples::set(&mut workflow, "/spec", field, value);
        }
        world.create::<Workflow>(workflow).await?;
        world.running_pod("fixed", "validate", 1, START).await?;
        let before = world.api::<Workflow>().get("fixed").await?;
        for (field, changes) in edits() {
            let why = match field {
                "requestedBy" => "spec.requestedBy cannot be changed".to_owned(),
                _ => format!("spec.{field} is pinned"),
            };
            for change in changes {
                refuses(world, "fixed", change, &why).await?;
            }
        }
        let after = world.api::<Workflow>().get("fixed").await?;
        assert_eq!(after.spec, before.spec);
        assert_eq!(after.metadata.generation, before.metadata.generation);
        Ok(())
    })
}

/// Edits the spec, and waits until the status speaks of it.
async fn edit(world: &World, spec: Value) -> anyhow::Result<()> {
    let patched = patch(world, "open", spec.clone()).await?;
    let generation = patched.metadata.generation;
    let what = format!("knows of {spec}");
    world
        .until("open", NOTICE, &what, |status| {
            status.observed_generation == generation
        })
        .await?;
    Ok(())
}

#[test]
fn what_can_be_edited_shows_in_the_status() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let hangs_once = |name: &str| {
            let payload = json!({"fault": EchoFault::Hang, "faultUntilAttempt": 1});
            json!({"name": name, "agent": "echo", "payload": payload})
        };
        let workflow = json!({
            "metadata": {"name": "open"},
            "spec": {
                "project": {"requirements": ["one thing"]},
                "template": {"stages": [hangs_once("work")], "finally": [hangs_once("clean")]},
            },
        });
        world.create::<Workflow>(workflow).await?;
        world.running_pod("open", "work", 1, START).await?;
        for spec in [
            json!({"priority": "high"}),
            json!({"ttlSecondsAfterFinished": 86_400}),
            json!({"ttlSecondsAfterFinished": null}),
            json!({"suspend": true}),
            json!({"suspend": false}),
            json!({"cancel": true}),
        ] {
            edit(world, spec).await?;
        }
        world.running_pod("open", "clean", 1, START).await?;
        edit(world, json!({"cancelFinally": true})).await?;
        let ended = world
            .until("open", NOTICE, "is over", |status| status.finished_at.is_some())
            .await?;
        let status = ended.status.unwrap_or_default();
        assert_eq!(status.phase, WorkflowPhase::Cancelled);
        let once_more = json!({"cancel": false, "cancelFinally": false, "retry": {"from": "work", "run": 2}});
        edit(world, once_more).await?;
        let status = world.completed("open", LIMIT).await?;
        for name in ["work", "clean"] {
            let stage = stage(&status, name)?;
            ensure!((stage.run, stage.attempt) == (2, 2), "{stage:?}");
        }
        Ok(())
    })
}
