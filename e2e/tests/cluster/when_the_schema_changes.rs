//! A Workflow that this operator cannot decode. The schema keeps such out, so it is opened for a moment: this is what a
//! Workflow of a newer release looks like to an older operator. Alone on the release, since all share the schema.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::runtime::watcher;
use serde_json::{Value, json};
use stagecraft_api::Workflow;
use stagecraft_e2e::scenario::waiting::{eventually, until};
use stagecraft_e2e::scenario::{Isolation, World, samples, scenario};

const CRD: &str = "workflows.stagecraft.dev";
const PRIORITY: &str = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/priority";
const END: Duration = Duration::from_mins(2);

/// Sets the schema of `spec.priority` and answers what it was.
async fn set_priority_schema(world: &World, schema: &Value) -> anyhow::Result<Value> {
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let mut definition = serde_json::to_value(api.get(CRD).await?)?;
    let place = definition
        .pointer_mut(PRIORITY)
        .context("the schema has no spec.priority")?;
    let before = std::mem::replace(place, schema.clone());
    let definition: CustomResourceDefinition = serde_json::from_value(definition)?;
    api.replace(CRD, &PostParams::default(), &definition).await?;
    Ok(before)
}

#[test]
fn a_workflow_that_cannot_be_decoded_stops_no_other_at_start_up_neither() -> anyhow::Result<()> {
    scenario(Isolation::Alone, Duration::from_secs(400), async |world| {
        world.expect_gaps();
        let before = set_priority_schema(world, &json!({"type": "string"})).await?;
        let created = create_undecodable(world).await;
        set_priority_schema(world, &before).await?;
        created?;

        let says_so = |found: &[DynamicObject]| {
            found.first().is_some_and(|object| {
                let conditions = object
                    .data
                    .pointer("/status/conditions")
                    .and_then(Value::as_array);
                conditions.into_iter().flatten().any(|condition| {
                    condition.get("type") == Some(&json!("Accepted"))
                        && condition.get("status") == Some(&json!("False"))
                        && condition.get("reason") == Some(&json!("Undecodable"))
                        && condition
                            .get("message")
                            .is_some_and(|text| text.to_string().contains("urgent"))
                })
            })
        };
        let one = watcher::Config::default().fields("metadata.name=newer");
        until(
            undecoded(world),
            one,
            END,
            "the Workflow is marked as undecodable",
            says_so,
        )
        .await?;
        world.create::<Workflow>(samples::echo("beside")).await?;
        world.completed("beside", END).await?;

        world
            .release
            .restart(&world.client, &world.release.operator)
            .await?;
        world.create::<Workflow>(samples::echo("after-a-restart")).await?;
        world.completed("after-a-restart", END).await?;

        // Repaired, it is like any other.
        let repair = Patch::Merge(json!({"spec": {"priority": "high"}}));
        undecoded(world)
            .patch("newer", &PatchParams::default(), &repair)
            .await?;
        world.completed("newer", END).await?;
        Ok(())
    })
}

fn undecoded(world: &World) -> Api<DynamicObject> {
    Api::namespaced_with(
        world.client.clone(),
        &world.namespace,
        &ApiResource::erase::<Workflow>(&()),
    )
}

async fn create_undecodable(world: &World) -> anyhow::Result<()> {
    let mut workflow = samples::echo("newer");
    samples::set(&mut workflow, "/spec", "priority", json!("urgent"));
    let mut object: DynamicObject = serde_json::from_value(workflow)?;
    object.types = Some(kube::core::TypeMeta::resource::<Workflow>());
    // The API server takes a moment until it serves by a changed schema.
    eventually(
        Duration::from_secs(30),
        "the opened schema is in force",
        async || match undecoded(world).create(&PostParams::default(), &object).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 422 => Ok(false),
            Err(error) => Err(error.into()),
        },
    )
    .await?;
    let stored = undecoded(world).get("newer").await?;
    ensure!(
        stored.data.pointer("/spec/priority") == Some(&json!("urgent")),
        "the schema was not open"
    );
    Ok(())
}
