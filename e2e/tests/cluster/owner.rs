//! What the owner of a Workflow asks for while it runs, by kubectl alone: to hold it, to let it go on, to end it.

use std::time::Duration;

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(3);
const START: Duration = Duration::from_mins(1);
/// Longest time from the patch to the status.
const NOTICE: Duration = Duration::from_secs(5);
/// Longest time until nothing of a cancelled Workflow runs any more.
const GONE: Duration = Duration::from_mins(1);

/// What `kubectl patch --type merge` sends.
async fn patch(world: &World, name: &str, spec: Value) -> Result<Workflow, kube::Error> {
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

        let refused = patch(world, "doomed", json!({"cancel": null})).await.err();
        let message = refused.map(|error| error.to_string()).unwrap_or_default();
        ensure!(message.contains("cannot be withdrawn"), "{message:?}");
        Ok(())
    })
}
