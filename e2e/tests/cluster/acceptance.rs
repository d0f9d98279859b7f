//! Requests that cannot run as they are.

use std::time::Duration;

use anyhow::ensure;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use stagecraft_api::condition::ACCEPTED;
use stagecraft_api::{Agent, Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate, limit};
use stagecraft_e2e::scenario::{Isolation, World, samples, scenario};

use crate::foreign_images::shell_image;

const SOON: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn a_workflow_without_requirements_fails_at_once_and_makes_no_job() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let cases = [
            ("absent", json!({})),
            ("empty", json!({"requirements": []})),
            ("blank", json!({"requirements": ["", "   ", "\t\n"]})),
        ];
        for (name, project) in &cases {
            let workflow = json!({"metadata": {"name": name}, "spec": {"type": "echo", "project": project}});
            world.create::<Workflow>(workflow).await?;
        }
        for (name, _) in &cases {
            let status = world.failed(name, SOON).await?;
            assert_eq!(status.message, "Project requirements cannot be empty", "{name}");
            assert_eq!(status.conditions.len(), 3, "{name}: {:?}", status.conditions);
        }
        // A Workflow that comes after them is through: whatever Jobs they had would have come before.
        world.create::<Workflow>(samples::echo("later")).await?;
        let later = world.completed("later", LIMIT).await?;
        let recording = world.recording().await?;
        assert_eq!(recording.jobs.len(), 5, "{:?}", recording.jobs);
        assert_eq!(later.phase, WorkflowPhase::Completed);
        Ok(())
    })
}

/// The message of the condition Accepted, once it is False.
pub async fn refused(world: &World, name: &str) -> anyhow::Result<String> {
    let not_accepted = |status: &WorkflowStatus| problems(status).is_some();
    let workflow = world.until(name, SOON, "is not accepted", not_accepted).await?;
    Ok(workflow.status.as_ref().and_then(problems).unwrap_or_default())
}

fn problems(status: &WorkflowStatus) -> Option<String> {
    let accepted = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ACCEPTED)?;
    (accepted.status == "False" && accepted.reason == "Invalid").then(|| accepted.message.clone())
}

pub fn assert_names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

#[test]
fn everything_that_is_wrong_is_named_at_once_with_field_value_and_remedy() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world
            .create::<WorkflowTemplate>(json!({
                "metadata": {"name": "circle"},
                "spec": {"stages": [
                    {"name": "one", "agent": "echo", "needs": ["two"]},
                    {"name": "two", "agent": "nobody", "needs": ["one"]},
                ]},
            }))
            .await?;
        let workflow = json!({
            "metadata": {"name": "wrong"},
            "spec": {
                "templateRef": {"name": "circle"},
                "project": {"requirements": ["anything"]},
                "stages": [
                    {"name": "three"},
                    {"name": "one", "agent": "ghost"},
                ],
            },
        });
        world.create::<Workflow>(workflow).await?;
        let message = refused(world, "wrong").await?;
        assert_names(
            &message,
            &["spec.stages[0].name", "three", "choose one of: one, two"],
        );
        assert_names(
            &message,
            &["spec.stages[1].agent", "ghost", "no such Agent; choose one of:"],
        );
        assert_names(&message, &["template.spec.stages[name=two].agent", "nobody"]);
        assert_names(&message, &["one, two", "cycle", "remove one of the needs"]);
        ensure!(
            world.recording().await?.jobs.is_empty(),
            "a Job was created for it"
        );
        Ok(())
    })
}

#[test]
fn a_workflow_of_an_unknown_type_waits_and_says_which_there_are() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let workflow = json!({
            "metadata": {"name": "typo"},
            "spec": {"type": "ecko", "project": {"requirements": ["anything"]}},
        });
        world.create::<Workflow>(workflow).await?;
        let message = refused(world, "typo").await?;
        assert_names(&message, &["spec.type", "ecko", "choose one of:", "echo"]);

        let repair = Patch::Merge(json!({"spec": {"type": "echo"}}));
        world
            .api::<Workflow>()
            .patch("typo", &PatchParams::default(), &repair)
            .await?;
        world.completed("typo", LIMIT).await?;
        Ok(())
    })
}

#[test]
fn a_workflow_runs_once_the_template_and_the_agent_that_it_waited_for_are_there() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let workflow = json!({
            "metadata": {"name": "early"},
            "spec": {"templateRef": {"name": "late"}, "project": {"requirements": ["anything"]}},
        });
        world.create::<Workflow>(workflow).await?;
        let message = refused(world, "early").await?;
        assert_names(&message, &["spec.templateRef.name", "late", "no such template"]);

        let template = json!({
            "metadata": {"name": "late"},
            "spec": {"stages": [{"name": "only", "agent": "late-agent"}]},
        });
        world.create::<WorkflowTemplate>(template).await?;
        let names_the_agent =
            |status: &WorkflowStatus| problems(status).is_some_and(|text| text.contains("late-agent"));
        world
            .until("early", SOON, "names the missing Agent", names_the_agent)
            .await?;

        let agent = json!({
            "metadata": {"name": "late-agent"},
            "spec": {"image": shell_image()?, "command": ["sh", "-c", "echo '{}' > \"$STAGECRAFT_RESULT\""]},
        });
        world.create::<Agent>(agent).await?;
        world.completed("early", LIMIT).await?;
        Ok(())
    })
}

#[test]
fn a_payload_that_the_agent_cannot_take_is_named() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let change = json!({"payload": {"sleepMillis": "long", "fault": "explode"}});
        world
            .create::<Workflow>(samples::single("payload", change))
            .await?;
        let message = refused(world, "payload").await?;
        assert_names(
            &message,
            &[
                "stages[name=work].payload.sleepMillis",
                "long",
                "explode",
                "see payloadSchema of Agent echo",
            ],
        );
        Ok(())
    })
}

/// A Workflow that is fine, but for one field.
fn but(pointer: &str, field: &str, value: Value) -> Value {
    let mut workflow = json!({
        "metadata": {"name": "fine"},
        "spec": {"type": "echo", "project": {"requirements": ["anything"]}, "stages": [{"name": "scaffold"}]},
    });
    samples::set(&mut workflow, pointer, field, value);
    workflow
}

#[test]
fn what_no_cluster_could_run_is_refused_when_it_is_applied() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let many = |count: usize| json!(vec!["x"; count]);
        let stages: Vec<Value> = (0..21)
            .map(|index| json!({"name": format!("s{index}")}))
            .collect();
        let cases = [
            (
                but("/metadata", "name", json!("n".repeat(64))),
                "must be a DNS label",
            ),
            (but("/metadata", "name", json!("has.dots")), "must be a DNS label"),
            (but("/metadata", "name", json!("Upper")), "metadata.name"),
            (
                but("/spec", "templateRef", json!({"name": "own"})),
                "set only one of type",
            ),
            (
                json!({"metadata": {"name": "none"}, "spec": {"project": {"requirements": ["x"]}}}),
                "set type",
            ),
            (but("/spec", "type", json!("t".repeat(64))), "spec.type"),
            (but("/spec", "type", json!("Not a label")), "spec.type"),
            (
                but("/spec/stages/0", "name", json!("s".repeat(64))),
                "spec.stages[0].name",
            ),
            (
                but("/spec/stages/0", "agent", json!("../agent")),
                "spec.stages[0].agent",
            ),
            (
                but("/spec/stages/0", "timeoutSeconds", json!(-1)),
                "spec.stages[0].timeoutSeconds",
            ),
            (
                but("/spec/stages/0", "timeoutSeconds", json!(0)),
                "spec.stages[0].timeoutSeconds",
            ),
            (
                but("/spec/stages/0", "timeoutSeconds", json!(86_401)),
                "spec.stages[0].timeoutSeconds",
            ),
            (
                but("/spec/stages/0", "retries", json!(-1)),
                "spec.stages[0].retries",
            ),
            (
                but("/spec/stages/0", "retries", json!(11)),
                "spec.stages[0].retries",
            ),
            (but("/spec", "stages", json!(stages)), "spec.stages"),
            (but("/spec", "priority", json!("urgent")), "spec.priority"),
            (
                but("/spec/project", "requirements", many(65)),
                "spec.project.requirements",
            ),
            (
                but("/spec/project", "requirements", json!(["r".repeat(1001)])),
                "spec.project.requirements[0]",
            ),
            (
                but("/spec/project", "description", json!("d".repeat(501))),
                "spec.project.description",
            ),
            (
                but("/spec/project", "name", json!("two words")),
                "spec.project.name",
            ),
        ];
        for (workflow, remedy) in cases {
            let message = world.refusal(workflow.clone()).await?;
            assert!(message.contains(remedy), "{remedy:?} is not in: {message}");
        }
        Ok(())
    })
}

#[test]
fn a_spec_that_is_too_large_is_not_accepted_and_says_by_how_much() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let change = json!({"payload": {"files": {"big.txt": "x".repeat(140 * 1024)}}});
        world.create::<Workflow>(samples::single("large", change)).await?;
        let message = refused(world, "large").await?;
        let bound = format!("a spec holds at most {} bytes", limit::SPEC_BYTES);
        assert_names(&message, &["spec", &bound]);
        Ok(())
    })
}
