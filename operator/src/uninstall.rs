//! Stops the operator and deletes every stage Job: the chart runs it before the release goes, because afterwards nobody
//! is left who may.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;

use crate::args::UninstallArguments;
use crate::children;

/// Longest wait for the Jobs to go. The chart's hook ends a little later.
const PATIENCE: Duration = Duration::from_secs(45);

/// Deletes what runs. What is still there after [`PATIENCE`] is named and left to Kubernetes, which deletes it already:
/// an uninstallation never hangs.
pub async fn uninstall(arguments: UninstallArguments) -> anyhow::Result<()> {
    let client = Client::try_default().await.context("no Kubernetes API server")?;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), &arguments.namespace);
    let stop = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match deployments
        .patch_scale(&arguments.operator_deployment, &PatchParams::default(), &stop)
        .await
    {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => return Err(error).context("the operator cannot be stopped"),
    }
    if tokio::time::timeout(PATIENCE, delete_jobs(&client, &deployments, &arguments))
        .await
        .is_err()
    {
        tracing::warn!("some Jobs are still being deleted by Kubernetes; nothing more is needed");
    }
    Ok(())
}

async fn delete_jobs(client: &Client, deployments: &Api<Deployment>, arguments: &UninstallArguments) {
    let jobs: Api<Job> = Api::all(client.clone());
    let ours = ListParams::default().labels(&children::selector());
    loop {
        match delete_round(client, deployments, &jobs, &ours, arguments).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "trying again"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// True when the operator is gone and no Job is left: in that order, since it would make new ones.
async fn delete_round(
    client: &Client,
    deployments: &Api<Deployment>,
    jobs: &Api<Job>,
    ours: &ListParams,
    arguments: &UninstallArguments,
) -> Result<bool, kube::Error> {
    let operator = deployments.get_opt(&arguments.operator_deployment).await?;
    let replicas = operator
        .and_then(|deployment| deployment.status)
        .and_then(|status| status.replicas)
        .unwrap_or(0);
    let left = jobs.list(ours).await?.items;
    for job in left
        .iter()
        .filter(|job| job.metadata.deletion_timestamp.is_none())
    {
        let api: Api<Job> = Api::namespaced(client.clone(), &job.namespace().unwrap_or_default());
        match api.delete(&job.name_any(), &DeleteParams::background()).await {
            Ok(_) => tracing::info!(job = job.name_any(), namespace = job.namespace(), "job deleted"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(replicas == 0 && left.is_empty())
}
