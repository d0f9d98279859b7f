//! Attempts that are taken away. The agent hangs in its first attempt and ignores SIGTERM, so that nothing but what the
//! scenario does ends it.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use kube::runtime::wait::await_condition;
use serde_json::json;
use stagecraft_api::error::Category;
use stagecraft_api::payload::EchoFault;
use stagecraft_api::status::StageStatus;
use stagecraft_api::{Moment, Workflow, WorkflowStatus, WorkflowTemplate};
use stagecraft_e2e::scenario::processes::{self, Process};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, on_this_machine, scenario};

const LIMIT: Duration = Duration::from_mins(4);
const START: Duration = Duration::from_mins(1);
/// Longest time from when Kubernetes knows that something ended to when the status says so.
const NOTICE_MILLIS: u64 = 5_000;

/// Starts a Workflow whose first attempt hangs, and answers its Pod once the agent runs.
async fn hanging(world: &World, name: &str) -> anyhow::Result<Pod> {
    world.create::<WorkflowTemplate>(samples::single_stage()).await?;
    world
        .create::<Workflow>(samples::faulty(name, EchoFault::Hang, Some(1), 2, 600))
        .await?;
    world.running_pod(name, STAGE, 1, START).await
}

/// The one process of the agent's container that `is` picks.
async fn process(pod: &Pod, container: &str, is: impl Fn(&Process) -> bool) -> anyhow::Result<Process> {
    let find = || {
        Ok::<_, anyhow::Error>(
            processes::of_container(pod, container)?
                .into_iter()
                .find(|found| is(found)),
        )
    };
    stagecraft_e2e::scenario::waiting::eventually(
        Duration::from_secs(10),
        "the process is there",
        async || Ok(find()?.is_some()),
    )
    .await?;
    find()?.context("the process ended")
}

/// When the kubelet had told that a container of this Pod ended.
async fn container_ended(world: &World, pod: &Pod, container: &'static str) -> anyhow::Result<Moment> {
    let name = pod.name_any();
    let ended = await_condition(world.api::<Pod>(), &name, move |pod: Option<&Pod>| {
        let statuses = pod.and_then(|pod| pod.status.as_ref()).map(|status| {
            let sidecars = status.init_container_statuses.iter().flatten();
            sidecars
                .chain(status.container_statuses.iter().flatten())
                .cloned()
                .collect::<Vec<_>>()
        });
        statuses.is_none_or(|statuses| {
            statuses.iter().any(|status| {
                let ended = status
                    .state
                    .as_ref()
                    .is_some_and(|state| state.terminated.is_some());
                status.name == container && (ended || status.restart_count > 0)
            })
        })
    });
    tokio::time::timeout(Duration::from_mins(1), ended).await??;
    Ok(Moment::now())
}

/// Checks that the status says in time that the first attempt is at its end, by what its message says or by having judged
/// it.
async fn noticed(world: &World, name: &str, says: &str, known: Moment) -> anyhow::Result<()> {
    let says_so = |status: &WorkflowStatus| {
        let stages = &status.stages;
        stages
            .iter()
            .any(|stage| !stage.history.is_empty() || stage.message.contains(says))
    };
    let limit = Duration::from_mins(1);
    world
        .until(name, limit, "says that its first attempt is at its end", says_so)
        .await?;
    let took = Moment::now().millis_since(known);
    println!("noticed {took} ms after Kubernetes knew");
    assert!(took <= NOTICE_MILLIS, "noticed after {took} ms");
    Ok(())
}

async fn completed_in_its_second_attempt(world: &World, name: &str) -> anyhow::Result<StageStatus> {
    let status = world.completed(name, Duration::from_mins(2)).await?;
    let stage = stage(&status, STAGE)?.clone();
    assert_eq!(stage.attempt, 2, "{stage:?}");
    assert_eq!(world.recording().await?.jobs.len(), 2);
    Ok(stage)
}

#[test]
fn a_killed_agent_is_noticed_at_once_and_retried() -> anyhow::Result<()> {
    assert!(on_this_machine(), "{}", stagecraft_e2e::scenario::ONLY_HERE);
    scenario(Isolation::Shared, LIMIT, async |world| {
        let pod = hanging(world, "agent").await?;
        let agent = process(&pod, "agent", |found| {
            found.inner_pid != 1 && found.command.contains("echo")
        })
        .await?;
        processes::kill(&agent).await?;
        // Kubernetes never learns of it: the time runs from the kill.
        noticed(world, "agent", "ended", Moment::now()).await?;
        let stage = completed_in_its_second_attempt(world, "agent").await?;
        assert_eq!(
            stage.history.first().map(|first| first.category),
            Some(Category::Execution)
        );
        Ok(())
    })
}

#[test]
fn a_killed_launcher_is_noticed_and_retried() -> anyhow::Result<()> {
    assert!(on_this_machine(), "{}", stagecraft_e2e::scenario::ONLY_HERE);
    scenario(Isolation::Shared, LIMIT, async |world| {
        let pod = hanging(world, "launcher").await?;
        let launcher = process(&pod, "agent", |found| found.inner_pid == 1).await?;
        processes::kill(&launcher).await?;
        let known = container_ended(world, &pod, "agent").await?;
        noticed(world, "launcher", "container ended", known).await?;
        completed_in_its_second_attempt(world, "launcher").await?;
        Ok(())
    })
}

#[test]
fn a_killed_sidecar_comes_back_and_goes_on_where_it_was() -> anyhow::Result<()> {
    assert!(on_this_machine(), "{}", stagecraft_e2e::scenario::ONLY_HERE);
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let change = json!({"payload": {"sleepMillis": 8_000}, "retries": 0});
        world
            .create::<Workflow>(samples::single("sidecar", change))
            .await?;
        let pod = world.running_pod("sidecar", STAGE, 1, START).await?;
        let sidecar = process(&pod, "runner", |found| found.inner_pid == 1).await?;
        processes::kill(&sidecar).await?;
        container_ended(world, &pod, "runner").await?;
        let status = world.completed("sidecar", Duration::from_mins(2)).await?;
        let stage = stage(&status, STAGE)?;
        assert_eq!(
            (stage.attempt, stage.failures),
            (1, 0),
            "the running agent was not left alone: {stage:?}"
        );
        assert_eq!(world.recording().await?.jobs.len(), 1);
        Ok(())
    })
}

#[test]
fn a_pod_that_vanishes_is_noticed_and_retried() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let pod = hanging(world, "vanished").await?;
        let now = DeleteParams::default().grace_period(0);
        world.api::<Pod>().delete(&pod.name_any(), &now).await?;
        let uid = pod.uid().unwrap_or_default();
        let name = pod.name_any();
        let gone = await_condition(
            world.api::<Pod>(),
            &name,
            kube::runtime::wait::conditions::is_deleted(&uid),
        );
        tokio::time::timeout(START, gone).await??;
        noticed(world, "vanished", "deleted", Moment::now()).await?;
        let stage = completed_in_its_second_attempt(world, "vanished").await?;
        assert_eq!(
            (stage.failures, stage.losses),
            (0, 1),
            "a lost Pod costs no retry: {stage:?}"
        );
        Ok(())
    })
}

#[test]
fn a_pod_that_is_deleted_says_so_hands_over_and_is_retried() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let pod = hanging(world, "deleted").await?;
        world
            .api::<Pod>()
            .delete(&pod.name_any(), &DeleteParams::default())
            .await?;
        noticed(world, "deleted", "deleted", Moment::now()).await?;
        let stage = completed_in_its_second_attempt(world, "deleted").await?;
        assert_eq!(
            (stage.failures, stage.losses),
            (0, 1),
            "a deleted Pod costs no retry: {stage:?}"
        );
        Ok(())
    })
}

#[test]
fn a_job_that_is_deleted_by_hand_is_retried_under_a_new_number() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        hanging(world, "job").await?;
        let workflow = world.api::<Workflow>().get("job").await?;
        let job = stage(&workflow.status.unwrap_or_default(), STAGE)?.job.clone();
        world
            .api::<Job>()
            .delete(&job, &DeleteParams::background())
            .await?;
        noticed(world, "job", "deleted", Moment::now()).await?;
        let stage = completed_in_its_second_attempt(world, "job").await?;
        assert_ne!(stage.job, job);
        assert_eq!(
            (stage.failures, stage.losses),
            (0, 1),
            "a deleted Job costs no retry: {stage:?}"
        );
        Ok(())
    })
}
