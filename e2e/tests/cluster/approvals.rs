//! Stages that wait for a person: granted, rejected, expired, forged, and not by whoever asked.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use stagecraft_api::{Approval, Workflow, WorkflowPhase};
use stagecraft_e2e::scenario::samples::set;
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, kubectl, scenario};

const LIMIT: Duration = Duration::from_mins(3);
const START: Duration = Duration::from_mins(1);

/// One stage makes something, the other waits for a person.
fn waiting(name: &str, approval: &Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "project": {"requirements": ["ship it when told to"]},
            "template": {"stages": [
                {"name": "make", "agent": "echo", "payload": {"files": {"made": "by a stage\n"}}},
                {"name": "ship", "agent": "echo", "approval": approval,
                 "payload": {"outputs": {"colour": "${{ approval.answer }}", "by": "${{ approval.by }}"}}},
            ]},
        },
    })
}

async fn whoami() -> anyhow::Result<String> {
    let template = "jsonpath={.status.userInfo.username}";
    kubectl::output("kubectl", &["auth", "whoami", "-o", template]).await
}

/// The one Approval that a Workflow waits for.
async fn asked(world: &World, name: &str) -> anyhow::Result<Approval> {
    world
        .until(name, START, "waits for a person", |status| {
            status.phase == WorkflowPhase::AwaitingApproval
        })
        .await?;
    // It is made right after the status says so.
    let open = |approval: &&Approval| approval.spec.workflow == name && approval.spec.decision.is_none();
    let found = until(
        world.api::<Approval>(),
        watcher::Config::default(),
        START,
        "a person is asked",
        |all: &[Approval]| all.iter().any(|approval| open(&approval)),
    )
    .await?;
    found
        .into_iter()
        .find(|approval| open(&approval))
        .context("the Approval vanished")
}

async fn patch(world: &World, approval: &Approval, spec: Value) -> Result<Approval, kube::Error> {
    let change = Patch::Merge(json!({"spec": spec}));
    let api = world.api::<Approval>();
    api.patch(&approval.name_any(), &PatchParams::default(), &change)
        .await
}

async fn refuses(world: &World, approval: &Approval, spec: Value, why: &str) -> anyhow::Result<()> {
    let refused = patch(world, approval, spec.clone()).await.err();
    let message = refused.map(|error| error.to_string()).unwrap_or_default();
    ensure!(message.contains(why), "{spec} was answered with {message:?}");
    Ok(())
}

#[test]
fn a_decision_counts_once_in_the_name_of_whoever_makes_it() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let me = whoami().await?;
        let question = json!({"kind": "choice", "question": "Which colour?", "choices": ["blue", "green"]});
        world.create::<Workflow>(waiting("painted", &question)).await?;
        let approval = asked(world, "painted").await?;
        ensure!(
            approval.spec.subject.summary.starts_with("make: "),
            "{:?}",
            approval.spec.subject
        );
        ensure!(
            approval.spec.subject.commit.len() == 40,
            "{:?}",
            approval.spec.subject
        );
        ensure!(
            approval.spec.subject.diff
                == "1 file changed, 1 insertion(+), 0 deletions(-) since there was nothing\nA made +1 -0",
            "{:?}",
            approval.spec.subject
        );

        let decision =
            |by: &str, answer: &str| json!({"decision": {"verdict": "approved", "by": by, "answer": answer}});
        refuses(
            world,
            &approval,
            decision("somebody", "blue"),
            "kubectl auth whoami",
        )
        .await?;
        refuses(world, &approval, decision(&me, "red"), "one of spec.choices").await?;
        refuses(
            world,
            &approval,
            json!({"question": "Nothing?"}),
            "only spec.decision",
        )
        .await?;
        for metadata in [
            json!({"labels": {"stagecraft.dev/workflow": "other"}}),
            json!({"annotations": {"note": "mine"}}),
            json!({"finalizers": ["example.com/never"]}),
            json!({"ownerReferences": []}),
        ] {
            let change = Patch::Merge(json!({"metadata": metadata}));
            let refused = world
                .api::<Approval>()
                .patch(&approval.name_any(), &PatchParams::default(), &change)
                .await;
            let message = refused.err().map(|error| error.to_string()).unwrap_or_default();
            ensure!(
                message.contains("of an Approval are the operator's"),
                "{metadata} was answered with {message:?}"
            );
        }
        let mut forged = approval.clone();
        forged.metadata = kube::api::ObjectMeta {
            name: Some("forged".to_owned()),
            ..Default::default()
        };
        let created = world
            .api::<Approval>()
            .create(&PostParams::default(), &forged)
            .await;
        let message = created.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(message.contains("only the operator"), "{message:?}");

        for _ in 0..2 {
            patch(world, &approval, decision(&me, "green")).await?;
        }
        refuses(world, &approval, decision(&me, "blue"), "decided already").await?;
        refuses(world, &approval, json!({"decision": null}), "decided already").await?;
        let status = world.completed("painted", LIMIT).await?;
        let outputs = &stage(&status, "ship")?.outputs;
        assert_eq!(outputs.get("colour"), Some(&json!("green")));
        assert_eq!(outputs.get("by"), Some(&json!(me)));
        let owner = approval
            .owner_references()
            .first()
            .map(|owner| owner.kind.clone());
        assert_eq!(owner.as_deref(), Some(Workflow::kind(&()).as_ref()));
        Ok(())
    })
}

#[test]
fn questions_are_answered_by_a_text_or_by_yes_or_no() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let me = whoami().await?;
        for (name, kind, wrong, why, right) in [
            ("told", "text", "", "spec.decision.answer", "blue, please"),
            ("agreed", "yesNo", "maybe", "one of spec.choices", "yes"),
        ] {
            let question = json!({"kind": kind, "question": "Well?"});
            world.create::<Workflow>(waiting(name, &question)).await?;
            let approval = asked(world, name).await?;
            let decision =
                |answer: &str| json!({"decision": {"verdict": "approved", "by": me, "answer": answer}});
            refuses(world, &approval, decision(wrong), why).await?;
            patch(world, &approval, decision(right)).await?;
            let status = world.completed(name, LIMIT).await?;
            assert_eq!(stage(&status, "ship")?.outputs.get("colour"), Some(&json!(right)));
        }
        Ok(())
    })
}

#[test]
fn a_rejection_and_a_silence_end_the_wait_with_the_reason() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let me = whoami().await?;
        world
            .create::<Workflow>(waiting("refused", &json!({"question": "Ship it?"})))
            .await?;
        world
            .create::<Workflow>(waiting(
                "ignored",
                &json!({"question": "Ship it?", "expiresSeconds": 4}),
            ))
            .await?;
        let again = json!({"question": "Ship it?", "backTo": "make"});
        world.create::<Workflow>(waiting("improved", &again)).await?;
        let approval = asked(world, "refused").await?;
        let no = json!({"decision": {"verdict": "rejected", "by": me, "comment": "not on a Friday"}});
        patch(world, &approval, no.clone()).await?;
        let refused = world.failed("refused", START).await?;
        ensure!(refused.message.contains("not on a Friday"), "{}", refused.message);
        let ignored = world.failed("ignored", START).await?;
        let error = stage(&ignored, "ship")?.error.clone().context("no error")?;
        assert_eq!(error.code, "ApprovalExpired");

        let first = asked(world, "improved").await?;
        patch(world, &first, no).await?;
        world
            .until("improved", START, "is made once more", |status| {
                status
                    .stages
                    .iter()
                    .any(|stage| stage.name == "make" && stage.attempt == 2)
            })
            .await?;
        let second = asked(world, "improved").await?;
        ensure!(
            second.name_any() != first.name_any(),
            "the old answer counts for the new work"
        );
        patch(
            world,
            &second,
            json!({"decision": {"verdict": "approved", "by": me}}),
        )
        .await?;
        world.completed("improved", LIMIT).await?;
        Ok(())
    })
}

#[test]
fn whoever_asked_for_a_workflow_can_be_kept_from_deciding_about_it() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let me = whoami().await?;
        let mut workflow = waiting(
            "checked",
            &json!({"question": "Ship it?", "selfApproval": "forbidden"}),
        );
        set(&mut workflow, "/spec", "requestedBy", json!("somebody"));
        let refusal = world.refusal(workflow.clone()).await?;
        ensure!(refusal.contains("kubectl auth whoami"), "{refusal}");
        set(&mut workflow, "/spec", "requestedBy", json!(me));
        world.create::<Workflow>(workflow).await?;
        let renamed = super::owner::patch(world, "checked", json!({"requestedBy": "somebody"})).await;
        let message = renamed.err().map(|error| error.to_string()).unwrap_or_default();
        ensure!(
            message.contains("spec.requestedBy cannot be changed"),
            "{message:?}"
        );
        let approval = asked(world, "checked").await?;
        let yes = |by: &str| json!({"decision": {"verdict": "approved", "by": by}});
        refuses(world, &approval, yes(&me), "ask somebody else").await?;

        let namespace = world.namespace.as_str();
        let name = approval.name_any();
        for rights in [
            vec![
                "create",
                "role",
                "decider",
                "--verb=get,patch",
                "--resource=approvals.stagecraft.dev",
            ],
            vec![
                "create",
                "rolebinding",
                "decider",
                "--role=decider",
                "--user=alice",
            ],
        ] {
            let arguments = [vec!["-n", namespace], rights].concat();
            kubectl::output("kubectl", &arguments).await?;
        }
        let change = json!({"spec": yes("alice")}).to_string();
        let decide = [
            "--as=alice",
            "-n",
            namespace,
            "patch",
            "approval",
            &name,
            "--type=merge",
            "-p",
            &change,
        ];
        kubectl::output("kubectl", &decide).await?;
        let status = world.completed("checked", LIMIT).await?;
        assert_eq!(stage(&status, "ship")?.outputs.get("by"), Some(&json!("alice")));
        Ok(())
    })
}
