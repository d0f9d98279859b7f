//! Five stages against five plain Jobs, one after the other, with `kubectl wait` in between: what one would do without
//! Stagecraft. Both use the same image; the Jobs' program ends at once.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::json;

use super::{Bench, Sample, verdict};
use crate::scenario::kubectl;

/// At most this part of the Jobs' time.
const TARGET: f64 = 0.5;
const STAGES: usize = 5;

/// What was measured, in seconds.
pub struct Race {
    pub workflow: Sample,
    pub jobs: Sample,
}

/// Both sides in turn, so that a slow minute of the machine hits both.
pub async fn run(bench: &Bench, repeats: usize) -> anyhow::Result<Race> {
    let image = runner_image(bench).await?;
    run_jobs(bench, &image, "warm-up").await?;
    let (mut workflow, mut jobs) = (Vec::new(), Vec::new());
    for round in 0..repeats {
        workflow.push(bench.run_workflow(&format!("race-{round}")).await?.as_secs_f64());
        jobs.push(
            run_jobs(bench, &image, &format!("race-{round}"))
                .await?
                .as_secs_f64(),
        );
    }
    Ok(Race {
        workflow: Sample::new(workflow),
        jobs: Sample::new(jobs),
    })
}

pub fn report(race: &Race) -> String {
    let ratio = race.workflow.median() / race.jobs.median();
    format!(
        "Five stages against five plain Jobs in sequence, {} rounds\n  echo Workflow    {}\n  plain Jobs       {}\n  \
         ratio of medians {ratio:.2} (target: at most {TARGET:.2}): {}\n",
        race.workflow.count(),
        race.workflow.spread("s"),
        race.jobs.spread("s"),
        verdict(ratio <= TARGET)
    )
}

/// The image that the operator puts into stage Pods.
async fn runner_image(bench: &Bench) -> anyhow::Result<String> {
    let deployments: Api<Deployment> = Api::namespaced(bench.client.clone(), &bench.release.namespace);
    let operator = deployments.get(&bench.release.operator.name).await?;
    let containers = operator
        .spec
        .and_then(|spec| spec.template.spec)
        .map(|pod| pod.containers);
    containers
        .into_iter()
        .flatten()
        .flat_map(|container| container.env.unwrap_or_default())
        .find(|variable| variable.name == "STAGECRAFT_RUNNER_IMAGE")
        .and_then(|variable| variable.value)
        .context("the operator's Deployment names no runner image")
}

async fn run_jobs(bench: &Bench, image: &str, round: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for index in 0..STAGES {
        let name = format!("plain-{round}-{index}");
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(job(&name, image).to_string().as_bytes())?;
        let path = file.path().to_string_lossy().into_owned();
        let namespace = bench.namespace.as_str();
        kubectl::output("kubectl", &["-n", namespace, "create", "-f", &path]).await?;
        let target = format!("job/{name}");
        let wait = [
            "-n",
            namespace,
            "wait",
            "--for=condition=complete",
            "--timeout=120s",
            &target,
        ];
        kubectl::output("kubectl", &wait).await?;
    }
    Ok(begun.elapsed())
}

fn job(name: &str, image: &str) -> serde_json::Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "template": {"spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "main",
                    "image": image,
                    "command": ["/usr/local/bin/stagecraft-runner", "--version"],
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            }},
        },
    })
}
