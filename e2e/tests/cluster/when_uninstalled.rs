//! The chart is taken away in mid-run, and comes back. Alone on the release, and last: its name sees to that.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use stagecraft_api::{Workflow, WorkflowPhase};
use stagecraft_e2e::scenario::release::Release;
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, kubectl, samples, scenario};

const LIMIT: Duration = Duration::from_mins(10);
const GONE: Duration = Duration::from_mins(1);

async fn release(command: &str) -> anyhow::Result<()> {
    let script = kubectl::repository().join("e2e/release.sh");
    kubectl::output(&script.to_string_lossy(), &[command])
        .await
        .map(|_| ())
}

#[test]
fn an_uninstalled_chart_leaves_nothing_running_and_workflows_go_on_once_it_is_back() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        world
            .create::<Workflow>(samples::slow_echo("flow", &["scaffold"], 20_000))
            .await?;
        let pod = world
            .running_pod("flow", "scaffold", 1, Duration::from_secs(90))
            .await?;
        let begun = Instant::now();
        let uninstalled = release("uninstall").await;
        let outcome = async {
            uninstalled?;
            world.nothing_left(GONE.saturating_sub(begun.elapsed())).await?;
            ensure!(begun.elapsed() <= GONE, "it took {} s", begun.elapsed().as_secs());
            let left = world.api::<Pod>().get_opt(&pod.name_any()).await?;
            ensure!(left.is_none(), "the stage's Pod is still there");
            let workflow = world
                .api::<Workflow>()
                .get("flow")
                .await
                .context("the Workflow went with the chart")?;
            ensure!(
                workflow.metadata.finalizers.is_none(),
                "a finalizer would hold the Workflow for ever"
            );
            Ok(())
        };
        let outcome: anyhow::Result<()> = outcome.await;
        // Whatever happened: those who come later need the release.
        release("install").await?;
        Release::find(&world.client).await?;
        outcome?;
        let status = world.completed("flow", Duration::from_mins(3)).await?;
        assert_eq!(status.phase, WorkflowPhase::Completed);
        let scaffolded = stage(&status, "scaffold")?;
        assert_eq!(
            (scaffolded.attempt, scaffolded.failures),
            (2, 0),
            "{scaffolded:?}"
        );
        Ok(())
    })
}
