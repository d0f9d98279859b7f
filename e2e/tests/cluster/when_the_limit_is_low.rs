//! A limit on running stages for the whole installation, set on the operator for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use stagecraft_api::Workflow;
use stagecraft_api::status::StagePhase;
use stagecraft_e2e::scenario::recorder::Recording;
use stagecraft_e2e::scenario::{Isolation, kubectl, samples, scenario};

const LIMIT: Duration = Duration::from_mins(8);
const STAGES: usize = 2;
const WORKFLOWS: usize = 8;

#[test]
fn no_more_stages_run_at_once_than_the_limit_and_those_that_wait_say_so() -> anyhow::Result<()> {
    scenario(Isolation::Alone, LIMIT, async |world| {
        let operator = format!("deployment/{}", world.release.operator.name);
        let namespace = world.release.namespace.as_str();
        let set = async |limit: usize| -> anyhow::Result<()> {
            let variable = format!("STAGECRAFT_MAX_RUNNING_STAGES={limit}");
            kubectl::output("kubectl", &["-n", namespace, "set", "env", &operator, &variable]).await?;
            kubectl::output(
                "kubectl",
                &["-n", namespace, "rollout", "status", &operator, "--timeout=120s"],
            )
            .await?;
            Ok(())
        };
        set(STAGES).await?;
        let outcome = async {
            for number in 0..WORKFLOWS {
                world
                    .create::<Workflow>(samples::echo(&format!("echo-{number}")))
                    .await?;
            }
            for number in 0..WORKFLOWS {
                world.completed(&format!("echo-{number}"), LIMIT).await?;
            }
            let recording = world.recording();
            let most = most_at_once(&recording);
            ensure!(
                most == STAGES,
                "{most} stages ran at once under a limit of {STAGES}"
            );
            let said = recording
                .versions
                .iter()
                .filter_map(|version| version.status.get("message")?.as_str())
                .any(|message| message.contains("limit"));
            ensure!(said, "no Workflow said that the limit held it back");
            Ok(())
        }
        .await;
        set(0).await?;
        outcome
    })
}

/// The most stages that ran at once, in the order in which the API server stored the versions.
fn most_at_once(recording: &Recording) -> usize {
    let mut versions: Vec<_> = recording.versions.iter().collect();
    versions.sort_by_key(|version| version.revision);
    let mut running: BTreeMap<&str, usize> = BTreeMap::new();
    let mut most = 0;
    for version in versions {
        let stages = version
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        running.insert(&version.uid, stages.count());
        most = most.max(running.values().sum());
    }
    most
}
