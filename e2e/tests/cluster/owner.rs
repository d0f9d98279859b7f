//! What the owner of a Workflow asks for, by kubectl alone: to hold it, to let it go on, to end it, to run it once more.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate};
use stagecraft_e2e::scenario::quiet::quiet;
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(3);
const START: Duration = Duration::from_mins(1);
/// Longest time from the patch to the status.
const NOTICE: Duration = Duration::from_secs(5);
/// How long nothing may begin while a Workflow is suspended.
const HOLD: Duration = Duration::from_secs(5);
/// Longest time until nothing of a cancelled Workflow runs any more.
const GONE: Duration = Duration::from_mins(1);

/// What `kubectl patch --type merge` sends.
pub async fn patch(world: &World, name: &str, spec: Value) -> Result<Workflow, kube::Error> {
    let change = json!({"spec": spec});
    world
        .api::<Workflow>()
        .patch(name, &PatchParams::default(), &Patch::Merge(&change))
        .await
}

fn reason(status: &WorkflowStatus) -> &str {
    let progressing = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Progressing");
    progressing.map_or("", |condition| condition.reason.as_str())
}

#[test]
fn a_suspended_workflow_waits_without_a_pod_and_goes_on_when_it_may() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world
            .create::<Workflow>(samples::slow_echo("held", &["validate"], 1_000))
            .await?;
        world.running_pod("held", "validate", 1, START).await?;
        for _ in 0..2 {
            patch(world, "held", json!({"suspend": true})).await?;
        }
        let held = world
            .until("held", START, "is suspended", |status| {
                reason(status) == "Suspended"
            })
            .await?;
        let status = held.status.unwrap_or_default();
        assert_eq!(status.progress, "2/5", "what ran has come to its end");
        ensure!(status.message.contains("spec.suspend"), "{}", status.message);
        assert_eq!(stage(&status, "e2e")?.attempt, 0);
        no_pod_works(world, GONE).await?;
        quiet(world, HOLD).await?;
        no_pod_works(world, NOTICE).await?;
        let begun: Vec<String> = world
            .recording()
            .await?
            .jobs
            .into_iter()
            .map(|job| job.stage)
            .collect();
        assert_eq!(begun, ["scaffold", "validate"]);
        patch(world, "held", json!({"suspend": false})).await?;
        world.completed("held", LIMIT).await?;
        Ok(())
    })
}

#[test]
fn a_cancelled_workflow_stops_its_agent_and_leaves_nothing_running() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        // It ignores SIGTERM.
        let hanging = samples::faulty("doomed", EchoFault::Hang, None, 3, 600);
        world.create::<Workflow>(hanging).await?;
        world.running_pod("doomed", STAGE, 1, START).await?;
        for _ in 0..2 {
            patch(world, "doomed", json!({"cancel": true})).await?;
        }
        let ended = world
            .until("doomed", NOTICE, "is cancelled", |status| {
                status.phase == WorkflowPhase::Cancelled
            })
            .await?;
        let status = ended.status.unwrap_or_default();
        let stopped = stage(&status, STAGE)?;
        assert_eq!((stopped.phase, stopped.attempt), (StagePhase::Failed, 1));
        assert_eq!(
            stopped.error.as_ref().map(|error| error.code.as_str()),
            Some("Cancelled")
        );
        world.nothing_left(GONE).await?;

        refuses(world, "doomed", json!({"cancel": null}), "cannot be withdrawn").await
    })
}

/// The API server does not take it, and says why.
pub async fn refuses(world: &World, name: &str, spec: Value, why: &str) -> anyhow::Result<()> {
    let refused = patch(world, name, spec.clone()).await.err();
    let message = refused.map(|error| error.to_string()).unwrap_or_default();
    ensure!(message.contains(why), "{spec} was answered with {message:?}");
    Ok(())
}

#[test]
fn a_cancelled_workflow_runs_once_more_from_a_stage_on() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let mut workflow = samples::echo("twice");
        let hangs = json!([{"name": "e2e", "payload": {"fault": EchoFault::Hang, "faultUntilAttempt": 1}}]);
        samples::set(&mut workflow, "/spec", "stages", hangs);
        world.create::<Workflow>(workflow).await?;
        world.running_pod("twice", "e2e", 1, START).await?;
        let soon = json!({"retry": {"from": "e2e", "run": 2}});
        refuses(world, "twice", soon, "once the Workflow has ended").await?;
        patch(world, "twice", json!({"cancel": true})).await?;
        let ended = world
            .until("twice", NOTICE, "is cancelled", |status| {
                status.phase == WorkflowPhase::Cancelled
            })
            .await?;
        let before = ended.status.unwrap_or_default();

        for (retry, cancel, why) in [
            (
                json!({"from": "e2e", "run": 3}),
                false,
                "one more than status.run",
            ),
            (
                json!({"from": "e2", "run": 2}),
                false,
                "choose one of status.stages",
            ),
            (
                json!({"from": "initialize", "run": 2}),
                false,
                "choose one of status.stages",
            ),
            (json!({"from": "e2e", "run": 2}), true, "set spec.cancel to false"),
        ] {
            refuses(world, "twice", json!({"retry": retry, "cancel": cancel}), why).await?;
        }
        for _ in 0..3 {
            let once_more = json!({"retry": {"from": "validate", "run": 2}, "cancel": false});
            patch(world, "twice", once_more).await?;
        }
        world
            .until("twice", NOTICE, "runs once more", |status| status.run == 2)
            .await?;
        let after = world.completed("twice", LIMIT).await?;
        assert_eq!(
            stage(&before, "scaffold")?,
            stage(&after, "scaffold")?,
            "it is kept"
        );
        for (name, run, attempt) in [
            ("validate", 2, 2),
            ("e2e", 2, 2),
            ("integrate", 2, 1),
            ("deploy", 2, 1),
        ] {
            let stage = stage(&after, name)?;
            assert_eq!((stage.run, stage.attempt), (run, attempt), "{name}");
        }
        assert_eq!(after.run, 2);
        Ok(())
    })
}

#[test]
fn a_workflow_that_cannot_run_yet_can_be_corrected() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let mut workflow = samples::echo("mended");
        samples::set(&mut workflow, "/spec", "type", json!("eco"));
        world.create::<Workflow>(workflow).await?;
        world
            .until("mended", NOTICE, "is not accepted", |status| {
                status.message.contains("not accepted")
            })
            .await?;
        patch(world, "mended", json!({"type": "echo"})).await?;
        world.completed("mended", LIMIT).await?;
        Ok(())
    })
}

/// Waits until every Pod in the namespace has ended.
async fn no_pod_works(world: &World, limit: Duration) -> anyhow::Result<()> {
    let ended = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let config = watcher::Config::default();
    until(world.api::<Pod>(), config, limit, "no Pod works", |pods| {
        pods.iter().all(ended)
    })
    .await?;
    Ok(())
}
