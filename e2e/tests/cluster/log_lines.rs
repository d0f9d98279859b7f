//! What the operator writes about a Workflow can be found by machines.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, LogParams};
use serde_json::Value;
use stagecraft_api::{Workflow, name};
use stagecraft_e2e::scenario::{Isolation, World, samples, scenario};

const LIMIT: Duration = Duration::from_mins(3);

#[test]
fn every_line_about_a_stage_names_workflow_stage_attempt_and_trace() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let created = world.create::<Workflow>(samples::echo("told")).await?;
        let trace = name::trace_id(&created.uid().unwrap_or_default());
        world.completed("told", LIMIT).await?;
        let lines = lines(world, &trace).await?;
        let about_stages: Vec<&Value> = lines
            .iter()
            .filter(|line| {
                let reason = line.get("reason").and_then(Value::as_str).unwrap_or("Stage");
                reason.starts_with("Stage") || reason.starts_with("Attempt")
            })
            .collect();
        // Started, created, handed off but for the first, succeeded.
        ensure!(
            about_stages.len() >= 19,
            "only {} lines: {lines:?}",
            about_stages.len()
        );
        for line in &about_stages {
            ensure!(line.get("workflow") == Some(&Value::from("told")), "{line}");
            ensure!(
                line.get("namespace") == Some(&Value::from(world.namespace.as_str())),
                "{line}"
            );
            ensure!(line.get("stage").is_some_and(Value::is_string), "{line}");
            ensure!(line.get("attempt") == Some(&Value::from(1)), "{line}");
        }
        Ok(())
    })
}

/// The operator's lines with this trace. The chart is installed with JSON logs by `make install`.
async fn lines(world: &World, trace: &str) -> anyhow::Result<Vec<Value>> {
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.release.namespace);
    let ours = ListParams::default().labels(&world.release.operator.selector);
    let mut lines = Vec::new();
    for pod in pods.list(&ours).await? {
        let log = pods.logs(&pod.name_any(), &LogParams::default()).await?;
        lines.extend(
            log.lines()
                .filter(|line| line.contains(trace))
                .filter_map(|line| serde_json::from_str::<Value>(line).ok()),
        );
    }
    Ok(lines)
}
