//! Limits on running stages, for the whole installation and for each namespace, set on the operator for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use kube::api::Api;
use kube::runtime::watcher;
use serde_json::json;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Workflow, WorkflowStatus, WorkflowTemplate};
use stagecraft_e2e::scenario::recorder::Recording;
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, kubectl, samples, scenario};

const LIMIT: Duration = Duration::from_mins(8);
const STAGES: usize = 2;
const WORKFLOWS: usize = 8;

#[test]
fn no_more_stages_run_at_once_than_the_limit_and_those_that_wait_say_so() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        let set = async |limit: usize| set_limit(world, "STAGECRAFT_MAX_RUNNING_STAGES", limit).await;
        set(STAGES).await?;
        let outcome = async {
            for number in 0..WORKFLOWS {
                world
                    .create::<Workflow>(samples::echo(&format!("echo-{number}")))
                    .await?;
            }
            for number in 0..WORKFLOWS {
                world.completed(&format!("echo-{number}"), LIMIT).await?;
            }
            let recording = world.recording().await?;
            let most = most_at_once(&recording);
            ensure!(
                most == STAGES,
                "{most} stages ran at once under a limit of {STAGES}"
            );
            let said = recording
                .versions
                .iter()
                .filter_map(|version| version.status.get("message")?.as_str())
                .any(|message| {
                    message.contains("operator.maxRunningStages") && message.contains("place in the queue")
                });
            ensure!(
                said,
                "no Workflow said that the limit held it back, and where it stands"
            );
            the_urgent_goes_first(world).await
        }
        .await;
        set(0).await?;
        outcome
    })
}

async fn set_limit(world: &World, variable: &str, limit: usize) -> anyhow::Result<()> {
    let operator = format!("deployment/{}", world.release.operator.name);
    let namespace = world.release.namespace.as_str();
    let variable = format!("{variable}={limit}");
    kubectl::output("kubectl", &["-n", namespace, "set", "env", &operator, &variable]).await?;
    kubectl::output(
        "kubectl",
        &["-n", namespace, "rollout", "status", &operator, "--timeout=120s"],
    )
    .await?;
    Ok(())
}

/// Both seats are taken, two wait; the one of the two that was made urgent meanwhile starts first.
async fn the_urgent_goes_first(world: &World) -> anyhow::Result<()> {
    world.create::<WorkflowTemplate>(samples::single_stage()).await?;
    let works = |name: &str, millis: u32| samples::single(name, json!({"payload": {"sleepMillis": millis}}));
    for name in ["busy-0", "busy-1"] {
        world.create::<Workflow>(works(name, 6_000)).await?;
        world.running_pod(name, samples::STAGE, 1, LIMIT).await?;
    }
    for name in ["patient", "urgent"] {
        world.create::<Workflow>(works(name, 1)).await?;
        world
            .until(name, LIMIT, "is held back", |status| {
                status.message.contains("held back by a limit")
            })
            .await?;
    }
    super::owner::patch(world, "urgent", json!({"priority": "critical"})).await?;
    let urgent = world.completed("urgent", LIMIT).await?;
    let patient = world.completed("patient", LIMIT).await?;
    let begun = |status: &WorkflowStatus| anyhow::Ok(stage(status, samples::STAGE)?.started_at);
    ensure!(
        begun(&urgent)? <= begun(&patient)?,
        "the urgent one began at {:?}, the patient one at {:?}",
        begun(&urgent)?,
        begun(&patient)?
    );
    Ok(())
}

/// The most stages that ran at once, in the order in which the API server stored the versions.
fn most_at_once(recording: &Recording) -> usize {
    let mut versions: Vec<_> = recording.versions.iter().collect();
    versions.sort_by_key(|version| version.revision);
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    let mut most = 0;
    for version in versions {
        let stages = version
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        running.insert(&version.uid, stages.count());
        most = most.max(running.values().sum());
    }
    most
}

#[test]
fn a_limit_for_each_namespace_holds_back_nobody_else() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        let set =
            async |limit: usize| set_limit(world, "STAGECRAFT_MAX_RUNNING_STAGES_PER_NAMESPACE", limit).await;
        set(1).await?;
        let outcome = side_by_side_in_two_namespaces(world).await;
        set(0).await?;
        outcome
    })
}

/// Three Workflows here go one by one, while one works elsewhere all the time.
async fn side_by_side_in_two_namespaces(world: &World) -> anyhow::Result<()> {
    let there = world.another_namespace().await?;
    let works = |name: &str, millis: u32| samples::single(name, json!({"payload": {"sleepMillis": millis}}));
    world
        .create_in::<WorkflowTemplate>(&there, samples::single_stage())
        .await?;
    world.create::<WorkflowTemplate>(samples::single_stage()).await?;
    world
        .create_in::<Workflow>(&there, works("there", 300_000))
        .await?;
    let elsewhere: Api<Workflow> = Api::namespaced(world.client.clone(), &there);
    let is_running = |workflow: &Workflow| {
        let mut stages = workflow.status.iter().flat_map(|status| &status.stages);
        stages.any(|stage| stage.phase == StagePhase::Running)
    };
    let config = watcher::Config::default();
    until(
        elsewhere.clone(),
        config,
        LIMIT,
        "it works there",
        |found: &[Workflow]| found.iter().any(is_running),
    )
    .await?;

    let names = ["one", "two", "three"];
    for name in names {
        world.create::<Workflow>(works(name, 3_000)).await?;
    }
    for name in names {
        world.completed(name, LIMIT).await?;
    }
    ensure!(
        is_running(&elsewhere.get("there").await?),
        "what works elsewhere did not work all the time"
    );
    let recording = world.recording().await?;
    assert_eq!(most_at_once(&recording), 1);
    let mut messages = recording
        .versions
        .iter()
        .filter_map(|version| version.status.get("message")?.as_str());
    ensure!(
        messages.any(|message| message.contains("operator.maxRunningStagesPerNamespace")),
        "no Workflow said that the limit held it back"
    );
    Ok(())
}
