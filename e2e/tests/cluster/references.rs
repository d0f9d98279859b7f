//! Templates and Agents that a Workflow names: where they are looked for, and what becomes of one that is edited.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use stagecraft_api::{Agent, Workflow, WorkflowPhase, WorkflowStatus, WorkflowTemplate};
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

use crate::acceptance::{assert_names, refused};
use crate::foreign_images::shell_image;

const SOON: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_mins(2);

#[test]
fn a_template_is_looked_for_at_home_before_it_is_looked_for_in_the_release() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let named = |name: &str| {
            json!({
                "metadata": {"name": name},
                "spec": {"templateRef": {"name": "echo"}, "project": {"requirements": ["say what was asked"]}},
            })
        };
        world.create::<Workflow>(named("abroad")).await?;
        let status = world.completed("abroad", LIMIT).await?;
        assert_eq!(status.stages.len(), 6, "the release's has five stages");
        let own =
            json!({"metadata": {"name": "echo"}, "spec": {"stages": [{"name": "only", "agent": "echo"}]}});
        world.create::<WorkflowTemplate>(own).await?;
        // Both come by watches of their own: the first Workflow that the template is seen for tells.
        let seen = |status: &WorkflowStatus| status.run_ref.is_some();
        for number in 0.. {
            let name = format!("home-{number}");
            world.create::<Workflow>(named(&name)).await?;
            let accepted = world.until(&name, SOON, "is accepted", seen).await?;
            let stages = accepted.status.map_or(0, |status| status.stages.len());
            if stages == 2 {
                break;
            }
            ensure!(number < 20, "its own template is not found");
        }
        Ok(())
    })
}

#[test]
fn a_workflow_that_runs_keeps_the_template_that_it_began_with() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let template = |version: &str| {
            json!({"metadata": {"name": "edited"}, "spec": {"stages": [
                {"name": "first", "agent": "echo", "payload": {"sleepMillis": 2000}},
                {"name": "second", "agent": "echo", "payload": {"outputs": {"version": version}}},
            ]}})
        };
        world.create::<WorkflowTemplate>(template("one")).await?;
        let workflow = json!({
            "metadata": {"name": "steady"},
            "spec": {"templateRef": {"name": "edited"}, "project": {"requirements": ["stay"]}},
        });
        world.create::<Workflow>(workflow).await?;
        world.running_pod("steady", "first", 1, LIMIT).await?;
        let change = Patch::Merge(json!({"spec": template("two").get("spec")}));
        let templates = world.api::<WorkflowTemplate>();
        templates
            .patch("edited", &PatchParams::default(), &change)
            .await?;
        let status = world.completed("steady", LIMIT).await?;
        let second = stage(&status, "second")?;
        assert_eq!(second.outputs.get("version"), Some(&json!("one")));
        Ok(())
    })
}

/// Works by a script that is part of it, and says which version of it works.
fn agent(version: &str) -> anyhow::Result<Value> {
    let script = format!(
        r#"printf '{{"outputs": {{"script": "{version}", "variable": "%s"}}}}' "$VERSION" > "$STAGECRAFT_RESULT""#
    );
    Ok(json!({
        "metadata": {"name": "edited"},
        "spec": {
            "image": shell_image()?,
            "command": ["sh", "-c", script],
            "env": [{"name": "VERSION", "value": version}],
        },
    }))
}

fn after_a_while(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "project": {"requirements": ["stay"]},
            "template": {"stages": [
                {"name": "first", "agent": "echo", "payload": {"sleepMillis": 4000}},
                {"name": "second", "agent": "edited"},
            ]},
        },
    })
}

/// What the Agent said of itself.
async fn version(world: &World, name: &str) -> anyhow::Result<Value> {
    let status = world.completed(name, LIMIT).await?;
    Ok(Value::Object(stage(&status, "second")?.outputs.clone()))
}

#[test]
fn a_workflow_that_runs_keeps_the_agents_that_it_began_with() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<Agent>(agent("one")?).await?;
        world.create::<Workflow>(after_a_while("steady")).await?;
        world.running_pod("steady", "first", 1, LIMIT).await?;
        let change = Patch::Merge(json!({"spec": agent("two")?.get("spec")}));
        world
            .api::<Agent>()
            .patch("edited", &PatchParams::default(), &change)
            .await?;
        let kept = version(world, "steady").await?;
        assert_eq!(kept, json!({"script": "one", "variable": "one"}));
        world.create::<Workflow>(after_a_while("next")).await?;
        let next = version(world, "next").await?;
        assert_eq!(next, json!({"script": "two", "variable": "two"}));
        Ok(())
    })
}

/// Waits until a Workflow of another namespace ended, and answers how.
async fn end_in(world: &World, namespace: &str) -> anyhow::Result<WorkflowPhase> {
    let phase = |workflow: &Workflow| {
        let status = workflow.status.as_ref();
        status.map(|status| status.phase).unwrap_or_default()
    };
    let api: Api<Workflow> = Api::namespaced(world.client.clone(), namespace);
    let config = watcher::Config::default();
    let ended = until(api, config, LIMIT, "it ends there", |found: &[Workflow]| {
        found.iter().any(|workflow| phase(workflow).is_terminal())
    })
    .await?;
    ended.first().map(phase).context("it vanished")
}

#[test]
fn what_is_in_another_namespace_is_not_found() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let there = world.another_namespace().await?;
        let own = json!({
            "metadata": {"name": "theirs"},
            "spec": {"command": ["stagecraft-agent", "echo"]},
        });
        world.create_in::<Agent>(&there, own).await?;
        let template = json!({
            "metadata": {"name": "abroad"},
            "spec": {"stages": [{"name": "only", "agent": "theirs"}]},
        });
        world.create_in::<WorkflowTemplate>(&there, template).await?;
        let by_template = json!({
            "metadata": {"name": "by-template"},
            "spec": {"templateRef": {"name": "abroad"}, "project": {"requirements": ["anything"]}},
        });
        world.create_in::<Workflow>(&there, by_template.clone()).await?;
        assert_eq!(end_in(world, &there).await?, WorkflowPhase::Completed);

        // The operator knows of both by now, as it has run them.
        world.create::<Workflow>(by_template).await?;
        let message = refused(world, "by-template").await?;
        assert_names(&message, &["spec.templateRef.name", "abroad", "no such template"]);
        let by_agent = json!({
            "metadata": {"name": "by-agent"},
            "spec": {
                "template": {"stages": [{"name": "only", "agent": "theirs"}]},
                "project": {"requirements": ["anything"]},
            },
        });
        world.create::<Workflow>(by_agent).await?;
        let message = refused(world, "by-agent").await?;
        assert_names(&message, &["theirs", "no such Agent"]);
        ensure!(
            world.recording().await?.jobs.is_empty(),
            "a Job was created for one"
        );
        Ok(())
    })
}
