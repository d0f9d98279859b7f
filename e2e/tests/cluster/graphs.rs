//! Stages as a graph: side by side, skipped, with values handed on, and what runs whatever happens.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Workflow, WorkflowPhase};
use stagecraft_e2e::scenario::samples;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, scenario};

const LIMIT: Duration = Duration::from_mins(3);
const NOTICE: Duration = Duration::from_secs(5);

fn sample() -> anyhow::Result<Value> {
    let text = include_str!("../../../manifests/samples/graph.yaml");
    Ok(serde_yaml::from_str(text)?)
}

#[test]
fn the_sample_runs_side_by_side_skips_hands_values_on_and_tells_at_the_end() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<Workflow>(sample()?).await?;
        let status = world.completed("graph", LIMIT).await?;
        let begun = |name: &str| anyhow::Ok(stage(&status, name)?.started_at.context("not started")?);
        let over = |name: &str| anyhow::Ok(stage(&status, name)?.finished_at.context("not over")?);
        ensure!(
            begun("english")? < over("german")? && begun("german")? < over("english")?,
            "the branches ran one after the other: {:?}",
            status.stages
        );
        let skipped = stage(&status, "formal")?;
        assert_eq!((skipped.phase, skipped.attempt), (StagePhase::Skipped, 0));
        let both = stage(&status, "both")?;
        assert_eq!(both.outputs.get("count"), Some(&json!(2)));
        let tell = stage(&status, "tell")?;
        assert_eq!(tell.outputs.get("told"), Some(&json!("graph ended as Completed")));
        ensure!(begun("tell")? >= over("both")?, "it did not wait for the others");
        assert_eq!(status.message, "4 stages succeeded, 1 skipped");

        let mut formal = sample()?;
        samples::set(&mut formal, "/metadata", "name", json!("formally"));
        samples::set(&mut formal, "/spec/parameters", "formal", json!(true));
        world.create::<Workflow>(formal).await?;
        let status = world.completed("formally", LIMIT).await?;
        let formal = stage(&status, "formal")?;
        assert_eq!(formal.outputs.get("greeting"), Some(&json!("Dear Ada,")));
        Ok(())
    })
}

#[test]
fn what_a_template_cannot_do_is_said_before_any_stage_runs() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let mut workflow = sample()?;
        samples::set(&mut workflow, "/spec/parameters", "who", json!(7));
        samples::set(
            &mut workflow,
            "/spec/template/stages/0",
            "when",
            json!("stages.both.outputs.count > 1"),
        );
        world.create::<Workflow>(workflow).await?;
        let refused = world
            .until("graph", NOTICE, "is not accepted", |status| {
                status.message.contains("not accepted")
            })
            .await?;
        let message = refused.status.unwrap_or_default().message;
        for part in ["spec.parameters.who", "template.spec.stages[name=english].when"] {
            ensure!(message.contains(part), "{part} is not in {message}");
        }
        Ok(())
    })
}

#[test]
fn the_stages_of_finally_run_after_a_failure_and_after_a_cancel() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        for (name, fault) in [("failing", EchoFault::Exit), ("cancelled", EchoFault::Hang)] {
            let mut workflow = sample()?;
            samples::set(&mut workflow, "/metadata", "name", json!(name));
            samples::set(&mut workflow, "/spec/template/stages/1", "retries", json!(0));
            samples::set(
                &mut workflow,
                "/spec/template/stages/1/payload",
                "fault",
                json!(fault),
            );
            world.create::<Workflow>(workflow).await?;
        }
        let failed = world.failed("failing", LIMIT).await?;
        let told = stage(&failed, "tell")?.outputs.get("told").cloned();
        assert_eq!(told, Some(json!("failing ended as Failed")));
        ensure!(
            failed.message.starts_with("stage german failed"),
            "{}",
            failed.message
        );

        world.running_pod("cancelled", "german", 1, LIMIT).await?;
        super::owner::patch(world, "cancelled", json!({"cancel": true})).await?;
        let cancelled = world
            .until("cancelled", LIMIT, "is cancelled", |status| {
                status.phase == WorkflowPhase::Cancelled
            })
            .await?;
        let status = cancelled.status.unwrap_or_default();
        let told = stage(&status, "tell")?.outputs.get("told").cloned();
        assert_eq!(told, Some(json!("cancelled ended as Cancelled")));
        Ok(())
    })
}

#[test]
fn an_agent_of_finally_that_hangs_can_be_ended_by_the_owner() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let workflow = json!({
            "metadata": {"name": "stuck"},
            "spec": {
                "project": {"requirements": ["clean up, or do not"]},
                "template": {
                    "stages": [{"name": "work", "agent": "echo", "payload": {"fault": EchoFault::Hang}}],
                    "finally": [{"name": "clean", "agent": "echo", "payload": {"fault": EchoFault::Hang}}],
                },
            },
        });
        world.create::<Workflow>(workflow).await?;
        world.running_pod("stuck", "work", 1, LIMIT).await?;
        super::owner::patch(world, "stuck", json!({"cancel": true})).await?;
        world.running_pod("stuck", "clean", 1, LIMIT).await?;
        super::owner::patch(world, "stuck", json!({"cancelFinally": true})).await?;
        let ended = world
            .until("stuck", LIMIT, "is over", |status| status.finished_at.is_some())
            .await?;
        let status = ended.status.unwrap_or_default();
        assert_eq!(status.phase, WorkflowPhase::Cancelled);
        ensure!(
            status.message.contains("spec.cancelFinally"),
            "{}",
            status.message
        );
        world.nothing_left(LIMIT).await
    })
}
