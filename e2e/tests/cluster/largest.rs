//! A Workflow of the largest kind stays as small as the API server and its store want it, whatever kubectl and the stages write into it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use stagecraft_api::limit::{self, stored_bytes};
use stagecraft_api::{Agent, Workflow, WorkflowTemplate};
use stagecraft_e2e::scenario::{Isolation, World, kubectl, scenario};

use crate::foreign_images::shell_image;

const LIMIT: Duration = Duration::from_mins(6);
/// What `kubectl apply` keeps.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// A smaller one would prove nothing.
const LARGE_BYTES: usize = 400 * 1024;

/// Hands in as much as is taken: a long summary, outputs and artifacts up to their limits.
const SCRIPT: &str = r#"
set -eu
for number in $(seq 10 41); do echo "$number" > "$STAGECRAFT_ARTIFACTS/$number"; done
jq -n '{
  summary: ("s" * 1024),
  outputs: {text: ("x" * 8180)},
  artifacts: [range(10; 42) | {
    name: "\("n" * 36)\(.)", path: "\(.)", directory: "artifacts", mediaType: "application/x-ndjson"
  }]
}' > "$STAGECRAFT_RESULT"
"#;

/// Names of the longest kind.
fn stages() -> Vec<String> {
    (0..limit::STAGES)
        .map(|number| format!("{number:02}-{}", "s".repeat(60)))
        .collect()
}

async fn provide(world: &World) -> anyhow::Result<()> {
    let agent = json!({
        "metadata": {"name": "large"},
        "spec": {"image": shell_image()?, "command": ["sh", "-c", SCRIPT], "maxRunning": 4},
    });
    world.create::<Agent>(agent).await?;
    let gate = |number: usize| {
        json!({"metric": format!("m{number:02}{}", "x".repeat(37)), "operator": ">=",
               "threshold": -1.234_567_890_123_456_7e-300, "severity": "warning"})
    };
    let gates: Vec<Value> = (0..limit::GATES).map(gate).collect();
    let stage = |name: String| json!({"name": name, "agent": "large", "needs": [], "gates": gates});
    let stages: Vec<Value> = stages().into_iter().map(stage).collect();
    let template = json!({"metadata": {"name": "wide"}, "spec": {"stages": stages}});
    world.create::<WorkflowTemplate>(template).await?;
    Ok(())
}

/// As large as a spec may be, of what takes the most room where it is quoted once more.
fn workflow(namespace: &str) -> Value {
    let with = |requirements: &[String]| {
        json!({
            "apiVersion": "stagecraft.dev/v1alpha1",
            "kind": "Workflow",
            "metadata": {"name": "largest", "namespace": namespace},
            "spec": {"templateRef": {"name": "wide"}, "priority": "medium", "project": {"requirements": requirements}},
        })
    };
    let mut requirements = Vec::new();
    loop {
        requirements.push("\"".repeat(1000));
        let wanted = with(&requirements);
        let bytes = wanted
            .get("spec")
            .map_or(0, |spec| stored_bytes(&spec.to_string()));
        if bytes > limit::SPEC_BYTES {
            requirements.pop();
            return with(&requirements);
        }
    }
}

/// Bytes of a Workflow with all of its metadata, as the API server writes it.
async fn bytes(world: &World) -> anyhow::Result<usize> {
    let path = format!(
        "/apis/stagecraft.dev/v1alpha1/namespaces/{}/workflows/largest",
        world.namespace
    );
    let request = http::Request::get(path).body(Vec::new())?;
    Ok(world.client.request_text(request).await?.len())
}

async fn apply(workflow: &Value) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), workflow.to_string())?;
    let path = file.path().to_str().context("the path is no text")?;
    kubectl::output("kubectl", &["apply", "-f", path]).await?;
    Ok(())
}

#[test]
fn the_largest_workflow_stays_under_its_bound_with_all_that_is_written_into_it() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        provide(world).await?;
        let mut wanted = workflow(&world.namespace);
        apply(&wanted).await?;
        let status = world.completed("largest", LIMIT).await?;
        assert_eq!(status.stages.len(), limit::STAGES + 1);
        let ended = bytes(world).await?;
        // An edit writes the annotation anew, and the operator what it has seen.
        stagecraft_e2e::scenario::samples::set(&mut wanted, "/spec", "priority", json!("low"));
        apply(&wanted).await?;
        let edited = world.api::<Workflow>().get("largest").await?;
        let generation = edited.metadata.generation;
        world
            .until("largest", LIMIT, "knows of the edit", |status| {
                status.observed_generation == generation
            })
            .await?;
        let applied = edited.annotations().get(LAST_APPLIED).map_or(0, String::len);
        ensure!(
            applied > limit::SPEC_BYTES,
            "kubectl keeps {applied} bytes only: the scenario would prove nothing"
        );
        for bytes in [ended, bytes(world).await?] {
            println!("the largest Workflow has {bytes} bytes");
            ensure!(
                (LARGE_BYTES..limit::WORKFLOW_BYTES).contains(&bytes),
                "the largest Workflow has {bytes} bytes"
            );
        }
        Ok(())
    })
}
