//! A calculator from its requirements to answers over HTTP, several at once and in a row, with every agent killed once.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::watcher;
use serde_json::{Value, json};
use stagecraft_api::status::{StagePhase, StageStatus};
use stagecraft_api::{AttemptKey, Workflow, WorkflowStatus};
use stagecraft_e2e::application::Application;
use stagecraft_e2e::artifacts;
use stagecraft_e2e::scenario::app::{Sabotage, calculator, calculator_by, sabotaged};
use stagecraft_e2e::scenario::processes;
use stagecraft_e2e::scenario::samples::set;
use stagecraft_e2e::scenario::waiting::until;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, ONLY_HERE, World, on_this_machine, scenario};

const LIMIT: Duration = Duration::from_mins(12);
pub const ONE: Duration = Duration::from_mins(6);
/// The program of the built-in agents, as the runner installs it.
const AGENT: &str = "/stagecraft/bin/stagecraft-agent";
const STAGES: [&str; 5] = ["scaffold", "validate", "e2e", "integrate", "deploy"];

fn number(stage: &StageStatus, pointer: &str) -> Option<f64> {
    Value::Object(stage.outputs.clone()).pointer(pointer)?.as_f64()
}

/// The deployed application loads, and calls itself by its project's name.
pub async fn answers(world: &World, status: &WorkflowStatus, name: &str) -> anyhow::Result<Application> {
    let application = Application::of(&world.client, status)
        .await?
        .context("nothing was deployed")?;
    let title = application.visit().await?;
    ensure!(
        title.to_lowercase().contains(&name.replace('-', " ")),
        "the title {title:?} is not of {name}"
    );
    Ok(application)
}

#[test]
fn a_calculator_is_made_checked_tested_merged_deployed_and_answers() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<Workflow>(calculator("sums")).await?;
        let status = world.completed("sums", ONE).await?;

        let scaffold = stage(&status, "scaffold")?;
        assert_eq!(scaffold.outputs.get("provider"), Some(&json!("builtin")));
        for field in ["files", "directories", "lines"] {
            ensure!(
                number(scaffold, &format!("/{field}")).is_some_and(|count| count > 0.0),
                "{field} is not in {:?}",
                scaffold.outputs
            );
        }
        let validate = stage(&status, "validate")?;
        ensure!(
            validate.gates.len() == 6 && validate.gates.iter().all(|gate| gate.passed),
            "{:?}",
            validate.gates
        );
        assert_eq!(
            validate.workspace, scaffold.workspace,
            "checking must not change what is checked"
        );
        let e2e = stage(&status, "e2e")?;
        ensure!(
            number(e2e, "/totals/passed").is_some_and(|count| count >= 1.0),
            "{:?}",
            e2e.outputs
        );
        let integrate = stage(&status, "integrate")?;
        assert_eq!(integrate.outputs.get("branch"), Some(&json!("main")));
        for last in STAGES {
            assert_eq!(stage(&status, last)?.phase, StagePhase::Succeeded, "{last}");
        }
        answers(world, &status, "sums").await?;

        let folder = tempfile::TempDir::new()?;
        let workflow = world.api::<Workflow>().get("sums").await?;
        let count = artifacts::fetch(&world.client, &workflow, folder.path()).await?;
        ensure!(count > 3, "only {count} artifacts");
        ensure!(
            folder.path().join("integrate/dist.tar").is_file(),
            "the build is not among the artifacts"
        );
        Ok(())
    })
}

#[test]
fn three_calculators_at_once_do_not_touch_each_other() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let wanted = [
            ("adder", "Add two numbers.", "add"),
            ("subtracter", "Subtract two numbers.", "subtract"),
            ("multiplier", "Multiply two numbers.", "multiply"),
        ];
        for (name, requirement, _) in wanted {
            let mut workflow = calculator(name);
            set(
                &mut workflow,
                "/spec/project",
                "requirements",
                json!([requirement]),
            );
            world.create::<Workflow>(workflow).await?;
        }
        for (name, _, operation) in wanted {
            let status = world.completed(name, LIMIT).await?;
            let operations = stage(&status, "scaffold")?.outputs.get("operations").cloned();
            assert_eq!(operations, Some(json!([operation])), "{name}");
            let page = answers(world, &status, name).await?.get("/").await?;
            let keys: Vec<&str> = wanted
                .map(|(_, _, key)| key)
                .into_iter()
                .filter(|key| page.contains(&format!("data-key=\"{key}\"")))
                .collect();
            assert_eq!(keys, [operation], "{name}");
        }
        Ok(())
    })
}

/// Only the stages that bring work into a branch; `spoil` changes the work on its way when it is given.
async fn integrate(world: &World, name: &str, spoil: Option<Value>) -> anyhow::Result<()> {
    let sabotage = Sabotage {
        after: "scaffold",
        until: "integrate",
        files: spoil.unwrap_or_else(|| json!({"docs/note.md": "A note.\n"})),
        remove: json!([]),
    };
    sabotaged(world, name, &sabotage, &["validate", "e2e"]).await?;
    let mut workflow = calculator_by(name, name);
    set(&mut workflow, "/spec/project", "name", json!("shared"));
    // Each begins with nothing, not with what is in the branch already.
    let scaffold = json!([{"name": "scaffold", "payload": {"baseBranch": name}}]);
    set(&mut workflow, "/spec", "stages", scaffold);
    world.create::<Workflow>(workflow).await?;
    Ok(())
}

#[test]
fn a_merge_conflict_names_the_files_and_leaves_the_branch_as_it_was() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        integrate(world, "first", None).await?;
        let first = world.completed("first", ONE).await?;
        integrate(
            world,
            "second",
            Some(json!({"README.md": "Something else altogether.\n"})),
        )
        .await?;
        let second = world.failed("second", ONE).await?;
        let failed = stage(&second, "integrate")?;
        let error = failed.error.as_ref().context("no error")?;
        assert_eq!(error.code, "MergeConflict", "{error:?}");
        ensure!(error.message.contains("README.md"), "{error:?}");
        ensure!(error.suggested_action.is_some(), "{error:?}");

        // A third, without a conflict, finds the branch where the first one left it.
        integrate(world, "third", None).await?;
        let third = world.completed("third", ONE).await?;
        let from = stage(&third, "integrate")?.outputs.get("from").cloned();
        let left = stage(&first, "integrate")?.outputs.get("commit").cloned();
        assert_eq!(from, left, "the branch had moved");
        Ok(())
    })
}

#[test]
fn a_second_version_of_a_project_follows_upon_the_first() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let version = async |name: &str, requirements: Value| {
            let untouched = Sabotage {
                after: "no stage",
                until: "deploy",
                files: json!({}),
                remove: json!([]),
            };
            sabotaged(world, name, &untouched, &["validate", "e2e"]).await?;
            let mut workflow = calculator_by(name, name);
            set(&mut workflow, "/spec/project", "name", json!("growing"));
            set(&mut workflow, "/spec/project", "requirements", requirements);
            world.create::<Workflow>(workflow).await?;
            world.completed(name, ONE).await
        };
        let first = version("one", json!(["Add two numbers.", "Divide two numbers."])).await?;
        let second = version("two", json!(["Add two numbers.", "Multiply two numbers."])).await?;
        let left = stage(&first, "integrate")?.outputs.get("commit").cloned();
        assert_eq!(stage(&second, "integrate")?.outputs.get("from").cloned(), left);
        let revision = async || {
            let live = world.api::<Deployment>().get("growing").await?;
            let revision = live
                .annotations()
                .get("deployment.kubernetes.io/revision")
                .cloned();
            anyhow::Ok(revision.unwrap_or_default())
        };
        assert_eq!(revision().await?, "2");
        let application = answers(world, &second, "growing").await?;
        let page = application.get("/").await?;
        ensure!(page.contains("multiply") && !page.contains("divide"), "{page}");

        // The same once more changes nothing.
        let third = version("three", json!(["Add two numbers.", "Multiply two numbers."])).await?;
        assert_eq!(
            stage(&third, "deploy")?.outputs.get("image"),
            stage(&second, "deploy")?.outputs.get("image")
        );
        assert_eq!(revision().await?, "2");
        Ok(())
    })
}

/// Only what deployment needs.
async fn deploy(world: &World, name: &str, project: &str, payload: Value) -> anyhow::Result<()> {
    let sabotage = Sabotage {
        after: "scaffold",
        until: "deploy",
        files: json!({"docs/note.md": format!("{name}\n")}),
        remove: json!([]),
    };
    sabotaged(world, name, &sabotage, &["validate", "e2e"]).await?;
    let mut workflow = calculator_by(name, name);
    set(&mut workflow, "/spec/project", "name", json!(project));
    set(
        &mut workflow,
        "/spec",
        "stages",
        json!([
            {"name": "deploy", "payload": payload},
            // Each deployment comes from a branch of its own.
            {"name": "integrate", "payload": {"targetBranch": name}},
        ]),
    );
    world.create::<Workflow>(workflow).await?;
    Ok(())
}

#[test]
fn an_application_that_never_becomes_healthy_is_rolled_back() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        deploy(world, "good", "shop", json!({})).await?;
        let good = world.completed("good", ONE).await?;
        let application = answers(world, &good, "shop").await?;
        let image = stage(&good, "deploy")?.outputs.get("image").cloned();

        deploy(
            world,
            "bad",
            "shop",
            json!({"healthPath": "/no-such-file.json", "rolloutTimeoutSeconds": 25}),
        )
        .await?;
        let bad = world.failed("bad", ONE).await?;
        let failed = stage(&bad, "deploy")?;
        let error = failed.error.as_ref().context("no error")?;
        ensure!(
            ["RolloutFailed", "HealthCheckFailed"].contains(&error.code.as_str()),
            "{error:?}"
        );
        ensure!(error.suggested_action.is_some(), "{error:?}");
        application
            .visit()
            .await
            .context("the last good revision does not answer any more")?;
        let live = world.api::<Deployment>().get("shop").await?;
        let running = live
            .spec
            .and_then(|spec| spec.template.spec)
            .and_then(|pod| pod.containers.into_iter().next());
        assert_eq!(
            running.and_then(|container| container.image).map(Value::from),
            image
        );
        Ok(())
    })
}

#[test]
fn a_first_deployment_that_fails_leaves_nothing_behind() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        deploy(
            world,
            "bad",
            "alone",
            json!({"healthPath": "/no-such-file.json", "rolloutTimeoutSeconds": 20}),
        )
        .await?;
        world.failed("bad", ONE).await?;
        let deployments: Api<Deployment> = world.api();
        let found = deployments.get_opt("alone").await?;
        ensure!(
            found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()),
            "a Deployment that never was well is still there"
        );
        Ok(())
    })
}

#[test]
fn an_agent_killed_in_each_stage_costs_an_attempt_and_has_one_effect() -> anyhow::Result<()> {
    assert!(on_this_machine(), "{ONLY_HERE}");
    scenario(Isolation::Shared, LIMIT, async |world| {
        let created = world.create::<Workflow>(calculator("killed")).await?;
        let uid = created.uid().context("the Workflow has no UID")?;
        for name in STAGES {
            if name == "deploy" {
                // In the middle of its effect: the Deployment is there and not yet well.
                let wanted = watcher::Config::default().fields("metadata.name=killed");
                let made = |found: &[Deployment]| !found.is_empty();
                until(
                    world.api::<Deployment>(),
                    wanted,
                    ONE,
                    "something is deployed",
                    made,
                )
                .await?;
            }
            let key = AttemptKey {
                workflow_uid: uid.clone(),
                stage: name.to_owned(),
                attempt: 1,
            };
            processes::kill_first(stagecraft_api::name::job("killed", &key), AGENT, ONE).await?;
        }
        let status = world.completed("killed", ONE).await?;
        answers(world, &status, "killed").await?;
        for name in STAGES {
            assert_eq!(stage(&status, name)?.attempt, 2, "{name}");
        }
        // One effect: one move of the branch, one Deployment with one revision.
        let live = world.api::<Deployment>().get("killed").await?;
        assert_eq!(
            live.annotations()
                .get("deployment.kubernetes.io/revision")
                .map(String::as_str),
            Some("1")
        );
        let integrate = stage(&status, "integrate")?;
        assert_eq!(
            integrate.outputs.get("from").filter(|from| !from.is_null()),
            None,
            "the branch moved twice"
        );
        Ok(())
    })
}
