//! Deleting at the worst moment: while an agent hangs that ignores SIGTERM.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;
use stagecraft_api::payload::EchoFault;
use stagecraft_api::{Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::remains::{Deletion, GONE, is_queued, is_stored};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(5);
const START: Duration = Duration::from_mins(1);

/// A Workflow whose first stage has left something in the store and whose second one hangs; answers its UID.
pub async fn hanging(world: &World) -> anyhow::Result<String> {
    let template = json!({
        "metadata": {"name": samples::SINGLE},
        "spec": {"stages": [{"name": "before", "agent": "echo"}, {"name": STAGE, "agent": "echo"}]},
    });
    world.create::<WorkflowTemplate>(template).await?;
    let created = world
        .create::<Workflow>(samples::faulty("flow", EchoFault::Hang, None, 0, 600))
        .await?;
    world.running_pod("flow", STAGE, 1, START).await?;
    let uid = created.uid().unwrap_or_default();
    assert!(
        is_stored(world, &uid).await?,
        "the store holds nothing: the scenario would prove nothing"
    );
    assert!(
        is_queued(world, &uid).await?,
        "the queue holds nothing: the scenario would prove nothing"
    );
    Ok(uid)
}

#[test]
fn a_workflow_deleted_in_mid_stage_leaves_nothing_behind() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let uid = hanging(world).await?;
        let deletion = Deletion::begins(vec![uid]);
        world
            .api::<Workflow>()
            .delete("flow", &DeleteParams::default())
            .await?;
        deletion.leaves_nothing(world).await
    })
}

#[test]
fn a_namespace_deleted_in_mid_stage_is_gone_within_a_minute() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let uid = hanging(world).await?;
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let namespace = namespaces.get(&world.namespace).await?;
        let deletion = Deletion::begins(vec![uid]);
        namespaces
            .delete(&world.namespace, &DeleteParams::default())
            .await?;
        let deleted = conditions::is_deleted(namespace.metadata.uid.as_deref().unwrap_or_default());
        let gone = await_condition(namespaces, &world.namespace, deleted);
        assert!(
            tokio::time::timeout(GONE, gone).await.is_ok(),
            "the namespace is still there after 60 s"
        );
        deletion.leaves_nothing(world).await
    })
}

#[test]
fn a_workflow_created_again_under_its_name_starts_afresh() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let first = world
            .create::<Workflow>(samples::faulty("again", EchoFault::Hang, None, 0, 600))
            .await?;
        world.running_pod("again", STAGE, 1, START).await?;
        world
            .api::<Workflow>()
            .delete("again", &DeleteParams::default())
            .await?;
        let uid = first.uid().unwrap_or_default();
        await_condition(world.api::<Workflow>(), "again", conditions::is_deleted(&uid)).await?;
        let second = world
            .create::<Workflow>(samples::single("again", json!({})))
            .await?;
        world.completed("again", START).await?;
        let recording = world.recording().await?;
        assert_eq!(recording.jobs_of(&uid).len(), 1);
        assert_eq!(recording.jobs_of(&second.uid().unwrap_or_default()).len(), 1);
        Ok(())
    })
}
