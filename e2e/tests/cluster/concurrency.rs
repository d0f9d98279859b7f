//! Workflows that must not run side by side, and Agents that must not run too often at once.

use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use stagecraft_api::{Agent, Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, scenario};

const LIMIT: Duration = Duration::from_mins(3);
const START: Duration = Duration::from_mins(1);

fn keyed(name: &str, when_taken: &str, millis: u32) -> Value {
    let mut workflow = samples::single(name, json!({"payload": {"sleepMillis": millis}}));
    let concurrency = json!({"key": "shop", "whenTaken": when_taken});
    samples::set(&mut workflow, "/spec", "concurrency", concurrency);
    workflow
}

fn one_after_the_other(first: &WorkflowStatus, second: &WorkflowStatus) -> anyhow::Result<()> {
    let (over, begun) = (stage(first, STAGE)?.finished_at, stage(second, STAGE)?.started_at);
    ensure!(
        over.is_some() && over <= begun,
        "they ran side by side: {over:?}, {begun:?}"
    );
    Ok(())
}

#[test]
fn workflows_of_one_key_run_one_after_the_other() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        world.create::<Workflow>(keyed("first", "queue", 15_000)).await?;
        world.running_pod("first", STAGE, 1, START).await?;
        world.create::<Workflow>(keyed("second", "queue", 1)).await?;
        world
            .until("second", START, "waits for the key", |status| {
                status.message.contains("spec.concurrency.key \"shop\"")
            })
            .await?;
        let second = world.completed("second", LIMIT).await?;
        let first = world.completed("first", LIMIT).await?;
        one_after_the_other(&first, &second)
    })
}

#[test]
fn a_newer_workflow_of_the_key_can_take_the_place_of_the_older() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        world.create::<Workflow>(keyed("older", "queue", 120_000)).await?;
        world.running_pod("older", STAGE, 1, START).await?;
        world.create::<Workflow>(keyed("newer", "cancelOlder", 1)).await?;
        let newer = world.completed("newer", LIMIT).await?;
        let older = world
            .until("older", START, "is cancelled", |status| {
                status.phase == WorkflowPhase::Cancelled
            })
            .await?;
        let older = older.status.unwrap_or_default();
        ensure!(older.message.contains("Workflow newer"), "{}", older.message);
        one_after_the_other(&older, &newer)
    })
}

#[test]
fn no_more_stages_of_an_agent_run_at_once_than_it_allows() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let scarce = json!({
            "metadata": {"name": "scarce"},
            "spec": {"command": ["stagecraft-agent", "echo"], "maxRunning": 1},
        });
        world.create::<Agent>(scarce).await?;
        let stage_of = |name: &str| json!({"name": name, "agent": "scarce", "needs": []});
        let workflow = json!({
            "metadata": {"name": "both"},
            "spec": {
                "template": {"stages": [stage_of("one"), stage_of("two")]},
                "project": {"requirements": ["two things"]},
            },
        });
        world.create::<Workflow>(workflow).await?;
        let status = world.completed("both", LIMIT).await?;
        let (one, two) = (stage(&status, "one")?, stage(&status, "two")?);
        ensure!(
            one.finished_at <= two.started_at || two.finished_at <= one.started_at,
            "they ran side by side: {one:?}, {two:?}"
        );
        Ok(())
    })
}
