//! What Prometheus reads of a release that works.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stagecraft_api::payload::EchoFault;
use stagecraft_api::{Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::{Isolation, World, kubectl, samples, scenario};

const LIMIT: Duration = Duration::from_mins(3);
/// Families that say something only when something is wrong, or when somebody calls a model or waits.
const SILENT: [&str; 9] = [
    "stagecraft_reconcile_errors_total",
    "stagecraft_queue_depth",
    "stagecraft_queue_oldest_seconds",
    "stagecraft_gateway_refusals_total",
    "stagecraft_gateway_redis_errors_total",
    "stagecraft_gateway_model_calls_total",
    "stagecraft_gateway_model_call_seconds",
    "stagecraft_gateway_model_tokens_total",
    "stagecraft_gateway_model_cost_micros_total",
];

/// Everything that the Pods of a part show.
async fn shown(world: &World, part: &str) -> anyhow::Result<String> {
    let namespace = world.release.namespace.as_str();
    let selector = format!("app.kubernetes.io/component={part}");
    let names = ["-o", "jsonpath={.items[*].metadata.name}", "-l", &selector];
    let names = kubectl::output(
        "kubectl",
        &[&["-n", namespace, "get", "pods"], &names[..]].concat(),
    )
    .await?;
    let mut text = String::new();
    for name in names.split_whitespace() {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:8080/proxy/metrics");
        text += &kubectl::output("kubectl", &["get", "--raw", &path]).await?;
    }
    Ok(text)
}

/// Names of the families in a table of the documentation.
fn documented(prefix: &str, section: &str) -> BTreeSet<String> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split('`').next());
    names.map(|name| format!("{prefix}{name}")).collect()
}

/// The sum of a family's samples; of a histogram, its count.
fn sum(text: &str, family: &str) -> f64 {
    let counted = format!("{family}_count");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let of_family = samples.filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        name == family || name == counted
    });
    let values = of_family.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[test]
fn every_documented_metric_is_shown_and_moves_when_something_happens() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let faulty = samples::faulty("counted", EchoFault::Exit, Some(1), 2, 60);
        world.create::<Workflow>(faulty).await?;
        world.completed("counted", LIMIT).await?;
        let documentation = std::fs::read_to_string(kubectl::repository().join("docs/metrics.md"))?;
        let (operator, gateway) = documentation
            .split_once("# Metrics of the gateway")
            .context("the page has no second part")?;
        let families = documented("", operator)
            .into_iter()
            .chain(documented("stagecraft_gateway_", gateway));
        let text = shown(world, "operator").await? + &shown(world, "gateway").await?;
        let described = |family: &str| text.contains(&format!("# HELP {family} "));
        for family in families {
            if SILENT.contains(&family.as_str()) {
                continue;
            }
            ensure!(described(&family), "{family} is in docs/metrics.md and not shown");
        }
        for family in [
            "stagecraft_attempts_total",
            "stagecraft_retries_total",
            "stagecraft_attempt_duration_seconds",
            "stagecraft_stage_duration_seconds",
            "stagecraft_workflow_duration_seconds",
            "stagecraft_result_latency_seconds",
            "stagecraft_reconcile_seconds",
            "stagecraft_status_patches_total",
            "stagecraft_api_requests_total",
            "stagecraft_events_total",
            "stagecraft_leader",
            "stagecraft_redis_up",
            "stagecraft_gateway_requests_total",
            "stagecraft_gateway_claims_total",
            "stagecraft_gateway_results_total",
        ] {
            let sum = sum(&text, family);
            ensure!(sum >= 1.0, "{family} is {sum} after a Workflow with a retry");
        }
        // By Prometheus' rules a counter ends with _total, and nothing else does.
        for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').context("a type without a name")?;
            ensure!(
                (kind == "counter") == name.ends_with("_total"),
                "{name} is a {kind}"
            );
            ensure!(!name.contains("millis"), "{name} is not in a base unit");
        }
        Ok(())
    })
}
