//! An installation without `registry.host`: work that would push an image is not begun.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, ListParams};
use serde_json::json;
use stagecraft_api::condition::ACCEPTED;
use stagecraft_api::{Agent, Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::{Isolation, World, kubectl, samples, scenario};

const LIMIT: Duration = Duration::from_mins(4);
const VARIABLE: &str = "STAGECRAFT_REGISTRY_HOST";

#[test]
fn an_agent_that_pushes_images_waits_for_the_value_that_is_missing() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        let host = registry_host(world).await?;
        set(world, "").await?;
        let outcome = async {
            world
                .create::<Agent>(json!({
                    "metadata": {"name": "pusher"},
                    "spec": {"command": ["stagecraft-agent", "echo"], "requires": ["registry"]},
                }))
                .await?;
            world.create::<WorkflowTemplate>(samples::single_stage()).await?;
            let workflow = samples::single("pushes", json!({"agent": "pusher"}));
            world.create::<Workflow>(workflow).await?;
            let refused = world
                .until("pushes", LIMIT, "is not accepted", |status| {
                    let accepted = status.conditions.iter().find(|found| found.type_ == ACCEPTED);
                    accepted.is_some_and(|accepted| accepted.status == "False")
                })
                .await?;
            let message = refused.status.unwrap_or_default().message;
            for part in ["spec.stages[0].agent", "pusher", "registry.host"] {
                ensure!(message.contains(part), "{part} is not in {message:?}");
            }
            let jobs = world.api::<Job>().list(&ListParams::default()).await?;
            ensure!(jobs.items.is_empty(), "a Job was created all the same");
            Ok(())
        }
        .await;
        set(world, &host).await?;
        outcome?;
        // With the value it begins by itself.
        let host = if host.is_empty() {
            "registry.example.com"
        } else {
            &host
        };
        set(world, host).await?;
        world.completed("pushes", LIMIT).await?;
        Ok(())
    })
}

async fn registry_host(world: &World) -> anyhow::Result<String> {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.release.namespace);
    let operator = deployments.get(&world.release.operator.name).await?;
    let pod = operator.spec.and_then(|spec| spec.template.spec);
    let variables = pod
        .into_iter()
        .flat_map(|pod| pod.containers)
        .flat_map(|container| container.env.unwrap_or_default());
    Ok(variables
        .filter(|variable| variable.name == VARIABLE)
        .find_map(|variable| variable.value)
        .unwrap_or_default())
}

async fn set(world: &World, host: &str) -> anyhow::Result<()> {
    let operator = format!("deployment/{}", world.release.operator.name);
    let namespace = world.release.namespace.as_str();
    let variable = format!("{VARIABLE}={host}");
    kubectl::output("kubectl", &["-n", namespace, "set", "env", &operator, &variable]).await?;
    kubectl::output(
        "kubectl",
        &["-n", namespace, "rollout", "status", &operator, "--timeout=120s"],
    )
    .await?;
    Ok(())
}
