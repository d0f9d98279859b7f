//! What ends of itself: a run that takes too long, and then the Workflow.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use kube::runtime::watcher;
use serde_json::json;
use stagecraft_api::payload::EchoFault;
use stagecraft_api::{Moment, Workflow, WorkflowPhase, WorkflowTemplate};
use stagecraft_e2e::scenario::remains::GONE;
use stagecraft_e2e::scenario::samples::{self, STAGE, set};
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

use super::owner::patch;

const LIMIT: Duration = Duration::from_mins(3);
const START: Duration = Duration::from_mins(1);

#[test]
fn a_run_that_takes_too_long_ends_and_its_workflow_goes_when_its_time_is_over() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        for name in ["late", "kept"] {
            let mut hanging = samples::faulty(name, EchoFault::Hang, None, 3, 600);
            set(&mut hanging, "/spec", "deadlineSeconds", json!(8));
            world.create::<Workflow>(hanging).await?;
        }
        for name in ["late", "kept"] {
            let ended = world.failed(name, LIMIT).await?;
            ensure!(
                ended.message.contains("spec.deadlineSeconds"),
                "{}",
                ended.message
            );
            let error = stage(&ended, STAGE)?.error.clone();
            assert_eq!(error.map(|error| error.code), Some("DeadlineExceeded".to_owned()));
        }
        patch(world, "kept", json!({"ttlSecondsAfterFinished": 3600})).await?;
        patch(world, "late", json!({"ttlSecondsAfterFinished": 1})).await?;
        gone(world, "late").await?;
        world.nothing_left(GONE).await?;
        let kept = world.api::<Workflow>().get("kept").await?;
        ensure!(
            kept.metadata.deletion_timestamp.is_none(),
            "it goes an hour before its time"
        );
        Ok(())
    })
}

/// Waits until a Workflow is gone, and answers when that was.
async fn gone(world: &World, name: &str) -> anyhow::Result<Moment> {
    let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let what = format!("Workflow {name} is gone");
    until(world.api::<Workflow>(), one, GONE, &what, <[Workflow]>::is_empty).await?;
    Ok(Moment::now())
}

#[test]
fn a_time_to_live_begins_when_the_workflow_is_over() -> anyhow::Result<()> {
    /// Shorter than the work.
    const SECONDS: u64 = 5;
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let mut workflow = samples::single("brief", json!({"payload": {"sleepMillis": 9_000}}));
        set(&mut workflow, "/spec", "ttlSecondsAfterFinished", json!(SECONDS));
        let created = world.create::<Workflow>(workflow).await?;
        world.running_pod("brief", STAGE, 1, START).await?;
        let end = gone(world, "brief").await?;
        let recording = world.recording().await?;
        let uid = created.uid();
        let mut versions = recording.versions.iter().rev();
        let last = versions
            .find(|version| Some(&version.uid) == uid.as_ref())
            .context("no version was seen")?;
        assert_eq!(last.phase, WorkflowPhase::Completed);
        let finished: Moment =
            serde_json::from_value(last.status.get("finishedAt").cloned().unwrap_or_default())?;
        let lived = end.millis_since(finished);
        ensure!(
            lived >= SECONDS * 1000,
            "it was there for {lived} ms after its end, not for {SECONDS} s"
        );
        Ok(())
    })
}
