//! Deleting at the worst moment: while an agent hangs that ignores SIGTERM.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher;
use reqwest::Method;
use serde_json::json;
use stagecraft_api::condition::{ACCEPTED, PROGRESSING, Reason};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::protocol::StoredWorkflows;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Approval, Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate, label, name};
use stagecraft_e2e::scenario::gateway::{Gateway, operator_token};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::waiting::{eventually, until};
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(5);
const START: Duration = Duration::from_mins(1);
/// Longest time until nothing is left.
const GONE: Duration = Duration::from_mins(1);

/// A Workflow whose first stage has left something in the store and whose second one hangs; answers its UID.
async fn hanging(world: &World) -> anyhow::Result<String> {
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
        stored(world, &uid).await?,
        "the store holds nothing: the scenario would prove nothing"
    );
    assert!(
        queued(world, &uid).await?,
        "the queue holds nothing: the scenario would prove nothing"
    );
    Ok(uid)
}

/// Whether the gateway's store holds anything of a Workflow.
async fn stored(world: &World, uid: &str) -> anyhow::Result<bool> {
    let gateway = Gateway::reach(&world.client, &world.release).await?;
    let token = operator_token(&world.client, &world.release).await?;
    let answer = gateway
        .ask(Method::GET, "/v1/operator/workflows", Some(&token), None)
        .await?;
    let stored: StoredWorkflows = answer.error_for_status()?.json().await?;
    Ok(stored.uids.iter().any(|known| known == uid))
}

/// Whether any key of Redis speaks of a Workflow.
async fn queued(world: &World, uid: &str) -> anyhow::Result<bool> {
    let events = world.release.redis(&["EXISTS", &name::events(uid)]).await?;
    let tasks = world.release.redis(&["HKEYS", &name::task_ids("echo")]).await?;
    let keys = world
        .release
        .redis(&["--scan", "--pattern", &format!("*{uid}*")])
        .await?;
    Ok(!events.contains("(integer) 0") || tasks.contains(uid) || keys.contains(uid))
}

async fn forgotten(world: &World, uid: &str) -> anyhow::Result<()> {
    eventually(GONE, "Redis has forgotten the Workflow", async || {
        Ok(!queued(world, uid).await?)
    })
    .await?;
    eventually(GONE, "the store has forgotten the Workflow", async || {
        Ok(!stored(world, uid).await?)
    })
    .await
}

#[test]
fn a_workflow_deleted_in_mid_stage_leaves_nothing_behind() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let uid = hanging(world).await?;
        world
            .api::<Workflow>()
            .delete("flow", &DeleteParams::default())
            .await?;
        world.nothing_left(GONE).await?;
        let ours = watcher::Config::default().labels(label::WORKFLOW_UID);
        until(
            world.api::<ConfigMap>(),
            ours,
            GONE,
            "no ConfigMap is left",
            <[ConfigMap]>::is_empty,
        )
        .await?;
        forgotten(world, &uid).await
    })
}

/// Workflows in every phase in which nothing runs; each waits for something else.
async fn in_every_phase(world: &World) -> anyhow::Result<()> {
    world.create::<WorkflowTemplate>(samples::single_stage()).await?;
    let held = json!({"question": "Go on?"});
    let mut suspended = samples::echo("suspended");
    samples::set(&mut suspended, "/spec", "suspend", json!(true));
    let mut unknown = samples::echo("unaccepted");
    samples::set(
        &mut unknown,
        "",
        "spec",
        json!({"templateRef": {"name": "nowhere"}}),
    );
    let asking = json!({
        "metadata": {"name": "asking"},
        "spec": {
            "project": {"requirements": ["one thing"]},
            "template": {"stages": [{"name": STAGE, "agent": "echo", "approval": held}]},
        },
    });
    let failing = samples::faulty("backing-off", EchoFault::Exit, None, 10, 600);
    let failed = samples::faulty("failed", EchoFault::Exit, None, 0, 600);
    for workflow in [
        suspended,
        unknown,
        asking,
        failing,
        failed,
        samples::echo("completed"),
    ] {
        world.create::<Workflow>(workflow).await?;
    }
    let reason = |status: &WorkflowStatus, kind: &str| {
        let mut conditions = status.conditions.iter();
        conditions
            .find(|found| found.type_ == kind)
            .map(|found| found.reason.clone())
    };
    let is = |status: &WorkflowStatus, kind: &str, wanted: Reason| {
        reason(status, kind).as_deref() == Some(wanted.as_str())
    };
    world
        .until("suspended", START, "is suspended", |status| {
            is(status, PROGRESSING, Reason::Suspended)
        })
        .await?;
    world
        .until("unaccepted", START, "is not accepted", |status| {
            reason(status, ACCEPTED).is_some() && status.run_ref.is_none()
        })
        .await?;
    world
        .until("asking", START, "asks", |status| {
            status.phase == WorkflowPhase::AwaitingApproval
        })
        .await?;
    world
        .until("backing-off", START, "waits for its next attempt", |status| {
            status
                .stages
                .iter()
                .any(|stage| stage.phase == StagePhase::Waiting && stage.failures > 1)
        })
        .await?;
    world.failed("failed", START).await?;
    world.completed("completed", LIMIT).await?;
    Ok(())
}

#[test]
fn workflows_deleted_in_any_phase_leave_nothing_behind() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        in_every_phase(world).await?;
        let workflows = world.api::<Workflow>();
        let uids: Vec<String> = workflows
            .list(&ListParams::default())
            .await?
            .iter()
            .filter_map(kube::ResourceExt::uid)
            .collect();
        assert_eq!(uids.len(), 6);
        workflows
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        world.nothing_left(GONE).await?;
        let ours = || watcher::Config::default().labels(label::WORKFLOW_UID);
        let (runs, approvals) = (world.api::<ConfigMap>(), world.api::<Approval>());
        until(
            runs,
            ours(),
            GONE,
            "no ConfigMap is left",
            <[ConfigMap]>::is_empty,
        )
        .await?;
        until(
            approvals,
            ours(),
            GONE,
            "no Approval is left",
            <[Approval]>::is_empty,
        )
        .await?;
        for uid in &uids {
            forgotten(world, uid).await?;
        }
        Ok(())
    })
}

#[test]
fn a_namespace_deleted_in_mid_stage_is_gone_within_a_minute() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let uid = hanging(world).await?;
        let namespaces: Api<Namespace> = Api::all(world.client.clone());
        let namespace = namespaces.get(&world.namespace).await?;
        namespaces
            .delete(&world.namespace, &DeleteParams::default())
            .await?;
        let deleted = conditions::is_deleted(namespace.metadata.uid.as_deref().unwrap_or_default());
        let gone = await_condition(namespaces, &world.namespace, deleted);
        assert!(
            tokio::time::timeout(GONE, gone).await.is_ok(),
            "the namespace is still there after 60 s"
        );
        forgotten(world, &uid).await
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
