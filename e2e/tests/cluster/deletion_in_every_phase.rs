//! Deleting Workflows wherever they stand: each phase, and each reason to wait.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams};
use kube::runtime::watcher;
use kube::{CustomResourceExt as _, ResourceExt as _};
use serde_json::{Value, json};
use stagecraft_api::condition::{ACCEPTED, PROGRESSING, Reason};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Agent, Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate, name};
use stagecraft_e2e::scenario::app::calculator;
use stagecraft_e2e::scenario::remains::Deletion;
use stagecraft_e2e::scenario::samples::{self, STAGE, set};
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(8);
/// Longest time until all of them are where they are to be deleted.
const START: Duration = Duration::from_mins(4);
/// Longer than the scenario.
const FOR_EVER_MILLIS: u64 = 590_000;
/// Of which one stage runs at a time.
const SCARCE: &str = "scarce";

/// A Workflow with stages of its own.
fn with_stages(name: &str, stages: &Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"project": {"requirements": ["one thing"]}, "template": {"stages": stages}},
    })
}

/// Wherever a Workflow can stand for long: what it is, its phase there, and how to tell that it is there.
#[derive(Clone)]
struct Standing {
    name: &'static str,
    workflow: Value,
    phase: WorkflowPhase,
    reached: fn(&WorkflowStatus) -> bool,
}

fn standing(
    name: &'static str,
    phase: WorkflowPhase,
    workflow: Value,
    reached: fn(&WorkflowStatus) -> bool,
) -> Standing {
    Standing {
        name,
        workflow,
        phase,
        reached,
    }
}

fn because(status: &WorkflowStatus, kind: &str, reason: Reason) -> bool {
    let mut conditions = status.conditions.iter();
    conditions.any(|condition| condition.type_ == kind && condition.reason == reason.as_str())
}

fn works(status: &WorkflowStatus) -> bool {
    stage(status, &status.stage).is_ok_and(|stage| stage.phase == StagePhase::Running)
}

fn always(_: &WorkflowStatus) -> bool {
    true
}

/// One of the five stages works for ever.
fn in_the_stages() -> Vec<Standing> {
    let stages = [
        ("scaffold", WorkflowPhase::Scaffolding),
        ("validate", WorkflowPhase::Validating),
        ("e2e", WorkflowPhase::Testing),
        ("integrate", WorkflowPhase::Integrating),
        ("deploy", WorkflowPhase::Deploying),
    ];
    let at = |(name, phase)| {
        standing(
            name,
            phase,
            samples::slow_echo(name, &[name], FOR_EVER_MILLIS),
            works,
        )
    };
    stages.into_iter().map(at).collect()
}

/// Nothing runs: each waits for something else.
fn that_wait() -> Vec<Standing> {
    let unknown = json!({
        "metadata": {"name": "unaccepted"},
        "spec": {"templateRef": {"name": "nowhere"}, "project": {"requirements": ["one thing"]}},
    });
    let mut suspended = samples::echo("suspended");
    set(&mut suspended, "/spec", "suspend", json!(true));
    let mut queued = samples::single("queued", json!({}));
    set(&mut queued, "/spec", "concurrency", json!({"key": SCARCE}));
    let limited = with_stages("limited", &json!([{"name": STAGE, "agent": SCARCE}]));
    let question = json!({"question": "Go on?"});
    let asking = with_stages(
        "asking",
        &json!([{"name": STAGE, "agent": "echo", "approval": question}]),
    );
    vec![
        standing("unaccepted", WorkflowPhase::Pending, unknown, |status| {
            because(status, ACCEPTED, Reason::Invalid) && status.run_ref.is_none()
        }),
        standing("suspended", WorkflowPhase::Initialized, suspended, |status| {
            because(status, PROGRESSING, Reason::Suspended)
        }),
        standing("queued", WorkflowPhase::Initialized, queued, |status| {
            status.message.contains("spec.concurrency.key \"scarce\"")
        }),
        standing("limited", WorkflowPhase::Initialized, limited, |status| {
            status.message.contains("held back by a limit")
        }),
        standing("asking", WorkflowPhase::AwaitingApproval, asking, always),
    ]
}

/// Something has happened before: a failure, a judgement, the end of the other stages.
fn in_the_midst() -> Vec<Standing> {
    let backing_off = samples::faulty("backing-off", EchoFault::Exit, None, 10, 600);
    // What no agent measures fails its gate.
    let gate = json!({"metric": "testsPassed", "operator": ">=", "threshold": 1});
    let slow_when_repaired = format!("${{{{ repair.round < 1 ? 1 : {FOR_EVER_MILLIS} }}}}");
    let repairing = with_stages(
        "repairing",
        &json!([
            {"name": STAGE, "agent": "echo", "payload": {"sleepMillis": slow_when_repaired}},
            {"name": "judge", "agent": "echo", "gates": [gate], "repair": {"stage": STAGE, "maxRounds": 3}},
        ]),
    );
    let mut finishing = with_stages("finishing", &json!([{"name": STAGE, "agent": "echo"}]));
    let last = json!([{"name": "last", "agent": "echo", "payload": {"sleepMillis": FOR_EVER_MILLIS}}]);
    set(&mut finishing, "/spec/template", "finally", last);
    vec![
        standing("backing-off", WorkflowPhase::Running, backing_off, |status| {
            let mut stages = status.stages.iter();
            stages.any(|stage| stage.phase == StagePhase::Waiting && stage.failures > 1)
        }),
        standing("repairing", WorkflowPhase::Running, repairing, |status| {
            works(status) && stage(status, STAGE).is_ok_and(|stage| stage.round == 1)
        }),
        standing("finishing", WorkflowPhase::Running, finishing, |status| {
            works(status) && status.ending.is_some()
        }),
    ]
}

fn at_the_end() -> Vec<Standing> {
    let failed = samples::faulty("failed", EchoFault::Exit, None, 0, 600);
    vec![
        standing(
            "completed",
            WorkflowPhase::Completed,
            samples::echo("completed"),
            always,
        ),
        standing("failed", WorkflowPhase::Failed, failed, always),
    ]
}

/// One holds the key and the Agent for which others wait.
async fn hold_what_is_scarce(world: &World) -> anyhow::Result<Standing> {
    let agent = json!({
        "metadata": {"name": SCARCE},
        "spec": {"command": ["stagecraft-agent", "echo"], "maxRunning": 1},
    });
    world.create::<Agent>(agent).await?;
    let stages = json!([{"name": STAGE, "agent": SCARCE, "payload": {"sleepMillis": FOR_EVER_MILLIS}}]);
    let mut holding = with_stages("holding", &stages);
    set(&mut holding, "/spec", "concurrency", json!({"key": SCARCE}));
    world.create::<Workflow>(holding.clone()).await?;
    world.running_pod("holding", STAGE, 1, START).await?;
    Ok(standing("holding", WorkflowPhase::Running, holding, works))
}

/// One was cancelled while its agent worked, and its Pod may still be about to end.
async fn cancel_one_at_work(world: &World) -> anyhow::Result<Standing> {
    let working = samples::slow_echo("cancelled", &["scaffold"], FOR_EVER_MILLIS);
    world.create::<Workflow>(working.clone()).await?;
    world.running_pod("cancelled", "scaffold", 1, START).await?;
    super::owner::patch(world, "cancelled", json!({"cancel": true})).await?;
    Ok(standing("cancelled", WorkflowPhase::Cancelled, working, always))
}

/// Every value that the definition knows.
fn every_phase() -> anyhow::Result<BTreeSet<String>> {
    let definition = serde_json::to_value(Workflow::crd())?;
    let values = definition
        .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/phase/enum")
        .context("the definition has no phases")?;
    Ok(serde_json::from_value(values.clone())?)
}

/// Phase of each Workflow by name, as the API server has it.
async fn phases(world: &World) -> anyhow::Result<BTreeMap<String, WorkflowPhase>> {
    let found = world.api::<Workflow>().list(&ListParams::default()).await?;
    let phase = |workflow: &Workflow| workflow.status.as_ref().map(|status| status.phase);
    Ok(found
        .iter()
        .map(|workflow| (workflow.name_any(), phase(workflow).unwrap_or_default()))
        .collect())
}

async fn uids(world: &World) -> anyhow::Result<Vec<String>> {
    let found = world.api::<Workflow>().list(&ListParams::default()).await?;
    Ok(found.iter().filter_map(kube::ResourceExt::uid).collect())
}

#[test]
fn workflows_deleted_in_every_phase_leave_nothing_behind() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let holding = hold_what_is_scarce(world).await?;
        let mut all = [in_the_stages(), that_wait(), in_the_midst(), at_the_end()].concat();
        for one in &all {
            world.create::<Workflow>(one.workflow.clone()).await?;
        }
        all.push(holding);
        all.push(cancel_one_at_work(world).await?);
        for one in &all {
            let what = format!("is {} as it is to be", one.phase.as_str());
            world
                .until(one.name, START, &what, |status| {
                    status.phase == one.phase && (one.reached)(status)
                })
                .await?;
        }
        let wanted: BTreeMap<String, WorkflowPhase> =
            all.iter().map(|one| (one.name.to_owned(), one.phase)).collect();
        assert_eq!(phases(world).await?, wanted);
        let deleted: BTreeSet<String> = wanted.values().map(|phase| phase.as_str().to_owned()).collect();
        assert_eq!(deleted, every_phase()?);

        let deletion = Deletion::begins(uids(world).await?);
        world
            .api::<Workflow>()
            .delete_collection(&DeleteParams::default(), &ListParams::default())
            .await?;
        deletion.leaves_nothing(world).await
    })
}

/// The rights of the deployer of one Workflow.
async fn deployer(
    world: &World,
    workflow: &Workflow,
) -> anyhow::Result<(Option<ServiceAccount>, Option<RoleBinding>)> {
    let name = name::deployer(&workflow.name_any(), &workflow.uid().unwrap_or_default());
    Ok((
        world.api().get_opt(&name).await?,
        world.api().get_opt(&name).await?,
    ))
}

#[test]
fn an_app_deleted_while_it_deploys_leaves_what_it_deployed_and_nothing_else() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let mut workflow = calculator("shop");
        let never_well = json!({"healthPath": "/no-such-file.json", "rolloutTimeoutSeconds": 500});
        set(
            &mut workflow,
            "/spec",
            "stages",
            json!([{"name": "deploy", "payload": never_well}]),
        );
        let created = world.create::<Workflow>(workflow).await?;
        world.running_pod("shop", "deploy", 1, LIMIT).await?;
        let own = watcher::Config::default().fields("metadata.name=shop");
        until(
            world.api::<Deployment>(),
            own,
            START,
            "it is being deployed",
            |found| !found.is_empty(),
        )
        .await?;
        assert_eq!(phases(world).await?.get("shop"), Some(&WorkflowPhase::Deploying));
        let (account, binding) = deployer(world, &created).await?;
        ensure!(
            account.is_some() && binding.is_some(),
            "it deploys without rights of its own: the scenario would prove nothing"
        );

        let deletion = Deletion::begins(uids(world).await?);
        world
            .api::<Workflow>()
            .delete("shop", &DeleteParams::default())
            .await?;
        deletion.leaves_nothing(world).await?;
        assert_eq!(deployer(world, &created).await?, (None, None));
        let kept = world.api::<Deployment>().get("shop").await?;
        ensure!(
            kept.metadata.deletion_timestamp.is_none() && kept.owner_references().is_empty(),
            "what was deployed goes with the Workflow: {:?}",
            kept.metadata
        );
        world.api::<Service>().get("shop").await?;
        Ok(())
    })
}
