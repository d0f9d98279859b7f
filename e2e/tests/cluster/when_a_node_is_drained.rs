//! An eviction as `kubectl drain` makes it. The node takes no new Pod until it is uncordoned, so this runs alone.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use stagecraft_api::payload::EchoFault;
use stagecraft_api::{Moment, Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, kubectl, scenario};

const LIMIT: Duration = Duration::from_mins(5);
const START: Duration = Duration::from_mins(1);
/// Longest time until the status says that the next Pod finds no node.
const NOTICE_MILLIS: u64 = 5_000;

#[test]
fn an_evicted_stage_costs_no_retry_and_says_that_it_waits_for_a_node() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        world
            .create::<Workflow>(samples::faulty("drained", EchoFault::Hang, Some(1), 0, 600))
            .await?;
        let pod = world.running_pod("drained", STAGE, 1, START).await?;
        let node = pod
            .spec
            .clone()
            .and_then(|spec| spec.node_name)
            .unwrap_or_default();
        let outcome = drained(world, &node).await;
        kubectl::output("kubectl", &["uncordon", &node]).await?;
        outcome?;
        let status = world.completed("drained", LIMIT).await?;
        let stage = stage(&status, STAGE)?;
        assert_eq!(
            (stage.attempt, stage.failures, stage.losses),
            (2, 0, 1),
            "an eviction costs no retry: {stage:?}"
        );
        Ok(())
    })
}

async fn drained(world: &World, node: &str) -> anyhow::Result<()> {
    let only = format!("--pod-selector={}=drained", stagecraft_api::label::WORKFLOW);
    let drain = [
        "drain",
        node,
        &only,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--force",
        "--timeout=90s",
    ];
    kubectl::output("kubectl", &drain).await?;
    let unscheduled = world
        .until("drained", START, "says that no node takes its Pod", |status| {
            status.message.contains("no node takes the Pod")
        })
        .await?;
    let noticed = Moment::now();
    let pods = world.api::<Pod>().list(&kube::api::ListParams::default()).await?;
    let second = pods
        .iter()
        .find_map(kube::ResourceExt::creation_timestamp)
        .map(|time| Moment::new(time.0));
    let took = second.map_or(u64::MAX, |created| noticed.millis_since(created));
    println!(
        "{} said so {took} ms after its Pod was made",
        unscheduled.name_any()
    );
    // Times of Kubernetes are whole seconds.
    assert!(took <= NOTICE_MILLIS + 1_000, "noticed after {took} ms");
    Ok(())
}
