//! Stops the operator, deletes every stage Job, and takes away what the operator put into the release's namespace: the
//! chart runs it before the release goes, because afterwards nobody is left who may.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use stagecraft_api::{Agent, WorkflowTemplate, label};

use crate::args::UninstallArguments;
use crate::{children, leader};

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
        // The uninstallation goes on all the same: the operator's Deployment goes with the release.
        Err(error) => tracing::warn!(%error, "the operator cannot be stopped"),
    }
    if tokio::time::timeout(PATIENCE, delete_jobs(&client, &deployments, &arguments))
        .await
        .is_err()
    {
        tracing::warn!("some Jobs are still being deleted by Kubernetes; nothing more is needed");
    }
    if let Err(error) = delete_own(&client, &arguments.namespace).await {
        tracing::warn!(%error, "built-in Agents, templates or the Lease stay behind; they do nothing by themselves");
    }
    Ok(())
}

async fn delete_own(client: &Client, namespace: &str) -> Result<(), kube::Error> {
    let built_in = ListParams::default().labels(label::BUILT_IN);
    let parameters = DeleteParams::default();
    Api::<Agent>::namespaced(client.clone(), namespace)
        .delete_collection(&parameters, &built_in)
        .await?;
    Api::<WorkflowTemplate>::namespaced(client.clone(), namespace)
        .delete_collection(&parameters, &built_in)
        .await?;
    Api::<Lease>::namespaced(client.clone(), namespace)
        .delete(leader::LEASE, &parameters)
        .await?;
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
