//! A Workflow that goes well.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use stagecraft_api::status::{StagePhase, WorkspaceRef};
use stagecraft_api::{Workflow, WorkflowPhase};
use stagecraft_e2e::scenario::gateway::Gateway;
use stagecraft_e2e::scenario::quiet::quiet;
use stagecraft_e2e::scenario::{Isolation, kubectl, samples, scenario};

use crate::history::History;

const LIMIT: Duration = Duration::from_mins(3);

#[test]
fn five_stages_complete_with_one_job_each_in_one_git_history() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let created = world.create::<Workflow>(samples::echo("echo")).await?;
        let uid = created.uid().unwrap_or_default();
        let status = world.completed("echo", LIMIT).await?;

        let names: Vec<&str> = status.stages.iter().map(|stage| stage.name.as_str()).collect();
        assert_eq!(
            names,
            ["initialize", "scaffold", "validate", "e2e", "integrate", "deploy"]
        );
        for stage in &status.stages {
            assert_eq!(stage.phase, StagePhase::Succeeded, "{stage:?}");
            assert!(!stage.outputs.is_empty(), "stage {} has no outputs", stage.name);
            assert!(!stage.summary.is_empty(), "stage {} has no summary", stage.name);
            assert_eq!(
                stage.attempt,
                u32::from(stage.name != "initialize"),
                "{}",
                stage.name
            );
        }
        assert_eq!((status.progress.as_str(), status.stage.as_str()), ("5/5", ""));
        let conditions: Vec<(&str, &str)> = status
            .conditions
            .iter()
            .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
            .collect();
        assert_eq!(
            conditions,
            [
                ("Accepted", "True"),
                ("Progressing", "False"),
                ("Succeeded", "True")
            ]
        );
        assert_eq!(world.recording().await?.jobs_of(&uid).len(), 5);
        let pinned = status.run_ref.as_ref().map(|run| run.name.as_str());
        let pinned = world.api::<ConfigMap>().get(pinned.unwrap_or_default()).await?;
        assert_eq!(pinned.immutable, Some(true), "what runs can be edited");
        let succeeded = [
            "wait",
            "workflow/echo",
            "--for=condition=Succeeded",
            "--timeout=5s",
        ];
        let namespace = ["-n", world.namespace.as_str()];
        kubectl::output("kubectl", &[&namespace[..], &succeeded[..]].concat()).await?;

        let worked = status.stages.iter().filter(|stage| stage.name != "initialize");
        let commits: Vec<WorkspaceRef> = worked.filter_map(|stage| stage.workspace.clone()).collect();
        assert_eq!(commits.len(), 5, "a stage left no commit behind");
        let gateway = Gateway::reach(&world.client, &world.release).await?;
        for (index, last) in commits.iter().enumerate() {
            let history = History::fetch(world, &gateway, &uid, last).await?;
            let mut expected: Vec<&str> = commits
                .iter()
                .take(index + 1)
                .map(|known| known.commit.as_str())
                .collect();
            expected.dedup();
            expected.reverse();
            assert_eq!(history.commits(&last.commit).await?, expected);
        }
        Ok(())
    })
}

#[test]
fn phases_are_shown_in_their_order_and_nothing_is_written_after_the_end() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<Workflow>(samples::echo("echo")).await?;
        world.completed("echo", LIMIT).await?;
        let mut phases: Vec<WorkflowPhase> = world
            .recording()
            .await?
            .versions
            .iter()
            .map(|version| version.phase)
            .collect();
        phases.dedup();
        assert_eq!(
            phases,
            [
                WorkflowPhase::Pending,
                WorkflowPhase::Initialized,
                WorkflowPhase::Scaffolding,
                WorkflowPhase::Validating,
                WorkflowPhase::Testing,
                WorkflowPhase::Integrating,
                WorkflowPhase::Deploying,
                WorkflowPhase::Completed,
            ]
        );
        quiet(world, Duration::from_secs(10)).await
    })
}

#[test]
fn ten_workflows_at_once_complete_and_none_is_mixed_up_with_another() -> anyhow::Result<()> {
    scenario(Isolation::Shared, Duration::from_secs(400), async |world| {
        let names: Vec<String> = (0..10).map(|index| format!("echo-{index}")).collect();
        for name in &names {
            world.create::<Workflow>(samples::echo(name)).await?;
        }
        for name in &names {
            let status = world.completed(name, Duration::from_mins(5)).await?;
            let project = status
                .stages
                .first()
                .and_then(|stage| stage.outputs.get("project"));
            assert_eq!(project.and_then(|value| value.as_str()), Some(name.as_str()));
        }
        assert_eq!(world.recording().await?.jobs.len(), 50);
        Ok(())
    })
}
