//! Parts of the release that are killed, away, or have lost their memory while an agent works. Alone on the release.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::json;
use stagecraft_api::{Workflow, WorkflowStatus};
use stagecraft_e2e::scenario::release::Part;
use stagecraft_e2e::scenario::remains::Deletion;
use stagecraft_e2e::scenario::waiting::eventually;
use stagecraft_e2e::scenario::world::agent_runs;
use stagecraft_e2e::scenario::{Isolation, World, on_this_machine, processes, samples, scenario};

const LIMIT: Duration = Duration::from_secs(400);
const START: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_mins(4);
/// Long enough for the breaking to happen while the agent works.
const WORK_MILLIS: u64 = 8_000;

/// A Workflow in the middle of its second stage; answers the stage's Pod.
async fn in_mid_stage(world: &World) -> anyhow::Result<Pod> {
    world
        .create::<Workflow>(samples::slow_echo("flow", &["validate"], WORK_MILLIS))
        .await?;
    world.running_pod("flow", "validate", 1, START).await
}

/// Every stage succeeded with the attempt, and the Job, that it had begun with.
async fn nothing_started_again(world: &World) -> anyhow::Result<()> {
    let status = world.completed("flow", END).await?;
    for stage in status.stages.iter().skip(1) {
        ensure!(
            stage.attempt == 1,
            "stage {} was started again: {stage:?}",
            stage.name
        );
    }
    ensure!(
        world.recording().await?.jobs.len() == 5,
        "Jobs: {:?}",
        world.recording().await?.jobs
    );
    Ok(())
}

async fn scale_deployment(world: &World, part: &Part, replicas: i32) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(world.client.clone(), &world.release.namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale(&part.name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

async fn scale_set(world: &World, part: &Part, replicas: i32) -> anyhow::Result<()> {
    let api: Api<StatefulSet> = Api::namespaced(world.client.clone(), &world.release.namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    api.patch_scale(&part.name, &PatchParams::default(), &patch)
        .await?;
    Ok(())
}

/// Waits until a Pod came to its end.
async fn ended(world: &World, pod: &Pod) -> anyhow::Result<()> {
    let name = pod.name_any();
    let ended = await_condition(world.api::<Pod>(), &name, |pod: Option<&Pod>| {
        let phase = pod.and_then(|pod| pod.status.as_ref()?.phase.clone());
        matches!(phase.as_deref(), None | Some("Succeeded" | "Failed"))
    });
    tokio::time::timeout(END, ended).await??;
    Ok(())
}

fn validated(status: &WorkflowStatus) -> bool {
    status
        .stages
        .iter()
        .any(|stage| stage.name == "validate" && stage.phase.is_terminal())
}

#[test]
fn a_killed_operator_takes_up_the_running_stage_where_it_was() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        in_mid_stage(world).await?;
        world
            .release
            .restart(&world.client, &world.release.operator)
            .await?;
        nothing_started_again(world).await
    })
}

#[test]
fn an_operator_that_was_away_finds_what_ended_meanwhile() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        let pod = in_mid_stage(world).await?;
        scale_deployment(world, &world.release.operator, 0).await?;
        world.release.kill(&world.client, &world.release.operator).await?;
        let away = ended(world, &pod).await;
        scale_deployment(world, &world.release.operator, 1).await?;
        away?;
        nothing_started_again(world).await
    })
}

#[test]
fn a_killed_gateway_gets_the_result_once_it_is_back() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        in_mid_stage(world).await?;
        world
            .release
            .restart(&world.client, &world.release.gateway)
            .await?;
        nothing_started_again(world).await
    })
}

#[test]
fn a_gateway_that_is_away_when_the_agent_ends_still_gets_the_result() -> anyhow::Result<()> {
    assert!(on_this_machine(), "{}", stagecraft_e2e::scenario::ONLY_HERE);
    scenario(Isolation::Alone, LIMIT, async |world| {
        let pod = in_mid_stage(world).await?;
        scale_deployment(world, &world.release.gateway, 0).await?;
        world.release.kill(&world.client, &world.release.gateway).await?;
        // The runner holds the launcher, and so the Pod, until the result is handed in.
        let agent_ended = eventually(START, "only the launcher is left of the agent", async || {
            Ok(processes::of_container(&pod, "agent")?.len() == 1)
        })
        .await;
        let held = world
            .api::<Pod>()
            .get(&pod.name_any())
            .await
            .map(|pod| agent_runs(&pod));
        scale_deployment(world, &world.release.gateway, 1).await?;
        agent_ended?;
        ensure!(held?, "the Pod ended although nobody has its result");
        nothing_started_again(world).await
    })
}

#[test]
fn a_deletion_waits_for_no_gateway_and_is_made_good_there_later() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        let uids = vec![super::deletion::hanging(world).await?];
        scale_deployment(world, &world.release.gateway, 0).await?;
        world.release.kill(&world.client, &world.release.gateway).await?;
        let deletion = Deletion::begins(uids.clone());
        let deleted = world
            .api::<Workflow>()
            .delete("flow", &DeleteParams::default())
            .await;
        let gone = deletion.leaves_no_object(world).await;
        scale_deployment(world, &world.release.gateway, 1).await?;
        world
            .release
            .ready(&world.client, &world.release.gateway, &BTreeSet::new())
            .await?;
        deleted?;
        gone?;
        Deletion::begins(uids).leaves_nothing(world).await
    })
}

#[test]
fn a_killed_redis_costs_time_only() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        in_mid_stage(world).await?;
        world.release.restart(&world.client, &world.release.redis).await?;
        nothing_started_again(world).await
    })
}

#[test]
fn an_emptied_redis_costs_time_only() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        in_mid_stage(world).await?;
        world.release.redis(&["FLUSHALL"]).await?;
        world.until("flow", END, "has validated", validated).await?;
        world.release.redis(&["FLUSHALL"]).await?;
        nothing_started_again(world).await
    })
}

#[test]
fn without_any_redis_work_still_goes_on() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        in_mid_stage(world).await?;
        scale_set(world, &world.release.redis, 0).await?;
        world.release.kill(&world.client, &world.release.redis).await?;
        let done = nothing_started_again(world).await;
        scale_set(world, &world.release.redis, 1).await?;
        world
            .release
            .ready(&world.client, &world.release.redis, &BTreeSet::new())
            .await?;
        done
    })
}

#[test]
fn all_parts_killed_at_once_take_up_the_running_stage_where_it_was() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        in_mid_stage(world).await?;
        let parts = [
            &world.release.redis,
            &world.release.gateway,
            &world.release.operator,
        ];
        for part in parts {
            world.release.kill(&world.client, part).await?;
        }
        nothing_started_again(world).await?;
        for part in parts {
            world.release.ready(&world.client, part, &BTreeSet::new()).await?;
        }
        Ok(())
    })
}
