//! Starts and closes the Jobs of attempts: the only place that creates or deletes one.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::name::trace_id;
use stagecraft_api::{AttemptKey, Workflow};

use crate::apply::ApplyError;
use crate::controller::Context;
use crate::evidence;
use crate::job::{JobError, job};
use crate::metrics::seconds;
use crate::permissions::{self, PermissionError};

/// Longest wait for the creation of a Job with what it runs with, in milliseconds. The planner's `job_grace_millis` must exceed it.
const CREATE_TIMEOUT_MILLIS: u64 = 8_000;

/// Creates the Job of a licensed attempt, once. Every doubt about the outcome is left to the next look: it finds the Job,
/// or burns the attempt after its grace.
pub async fn start(context: &Context, workflow: &Workflow, task: &TaskEnvelope) {
    let (job, deploys) = match make(context, workflow, task) {
        Ok(made) => made,
        Err(error) => {
            tracing::error!(
                workflow = task.workflow.name,
                namespace = task.workflow.namespace,
                stage = task.attempt.stage,
                attempt = task.attempt.attempt,
                trace_id = task.trace_id,
                error = &error as &dyn std::error::Error,
                "the job could not be made"
            );
            return;
        }
    };
    // A creation that ends after the planner's grace would look like one that was lost.
    let late = task.created_at.plus_millis(context.settings.job_grace_millis);
    if context.clock.now().plus_millis(CREATE_TIMEOUT_MILLIS) > late {
        tracing::warn!(
            workflow = task.workflow.name,
            namespace = task.workflow.namespace,
            stage = task.attempt.stage,
            attempt = task.attempt.attempt,
            trace_id = task.trace_id,
            "too late to create the job; the next attempt follows"
        );
        return;
    }
    let creation = create(context, workflow, task, &job, deploys);
    match tokio::time::timeout(Duration::from_millis(CREATE_TIMEOUT_MILLIS), creation).await {
        Ok(Ok(created)) => {
            context.jobs.note(&created);
            measure_hand_off(context, workflow, task);
            tracing::info!(
                workflow = task.workflow.name,
                namespace = task.workflow.namespace,
                stage = task.attempt.stage,
                attempt = task.attempt.attempt,
                trace_id = task.trace_id,
                job = created.name_any(),
                "job created"
            );
            announce(context, task);
        }
        Ok(Err(error)) => {
            match &error {
                CreateError::Permissions(error) => {
                    if let Some(reason) = error.refusal() {
                        context.refusals.insert(&task.attempt, reason);
                    }
                }
                CreateError::Job(error) => context.refusals.note(&task.attempt, error),
            }
            tracing::warn!(
                workflow = task.workflow.name,
                namespace = task.workflow.namespace,
                stage = task.attempt.stage,
                attempt = task.attempt.attempt,
                trace_id = task.trace_id,
                error = &error as &dyn std::error::Error,
                "the job was not created"
            );
        }
        Err(_) => tracing::warn!(
            workflow = task.workflow.name,
            namespace = task.workflow.namespace,
            stage = task.attempt.stage,
            attempt = task.attempt.attempt,
            trace_id = task.trace_id,
            "whether the job was created is not known yet"
        ),
    }
}

/// Why there is no Job.
#[derive(Debug, thiserror::Error)]
enum CreateError {
    #[error("the stage did not get its permissions")]
    Permissions(#[from] PermissionError),
    #[error("the Job was not accepted")]
    Job(#[from] kube::Error),
}

/// Creates the Job, after what it runs with.
async fn create(
    context: &Context,
    workflow: &Workflow,
    task: &TaskEnvelope,
    job: &Job,
    deploys: bool,
) -> Result<Job, CreateError> {
    if deploys {
        permissions::ensure_deployer(&context.client, workflow, &context.deployer_cluster_role).await?;
    }
    if task.model.is_some() {
        permissions::ensure_model_keys(&context.client, workflow, &context.model_keys).await?;
    }
    let api: Api<Job> = Api::namespaced(context.client.clone(), &task.workflow.namespace);
    Ok(api.create(&PostParams::default(), job).await?)
}

/// The Job, and whether its stage deploys.
fn make(context: &Context, workflow: &Workflow, task: &TaskEnvelope) -> Result<(Job, bool), JobError> {
    let reference = workflow
        .status
        .as_ref()
        .and_then(|status| status.run_ref.as_ref());
    let run = reference
        .and_then(|run| context.runs.get(&run.digest))
        .ok_or(JobError::NoRun)?;
    let stage = run.stage(&task.attempt.stage).ok_or(JobError::NoRun)?;
    let job = job(workflow, &stage.agent, task, &context.pod)?;
    Ok((job, permissions::deploys(&stage.agent)))
}

/// From the gateway's acceptance of a result to the API server's acceptance of the Job that follows it.
fn measure_hand_off(context: &Context, workflow: &Workflow, task: &TaskEnvelope) {
    let now = context.clock.now();
    let stages = workflow.status.iter().flat_map(|status| &status.stages);
    let accepted = stages
        .map(|stage| AttemptKey {
            workflow_uid: task.attempt.workflow_uid.clone(),
            stage: stage.name.clone(),
            attempt: stage.attempt,
        })
        .filter_map(|key| context.results.get(&key))
        .filter_map(|announced| announced.accepted_at)
        .max();
    if let Some(accepted) = accepted {
        context
            .metrics
            .hand_off
            .observe(seconds(now.millis_since(accepted)));
        tracing::info!(
            workflow = task.workflow.name,
            namespace = task.workflow.namespace,
            stage = task.attempt.stage,
            attempt = task.attempt.attempt,
            trace_id = task.trace_id,
            hand_off_millis = now.millis_since(accepted),
            "handed off"
        );
    }
}

/// Redis is never waited for on the way of a Workflow.
fn announce(context: &Context, task: &TaskEnvelope) {
    let (queue, task) = (context.queue.clone(), task.clone());
    tokio::spawn(async move {
        if let Err(error) = queue.announce(&task).await {
            tracing::warn!(
                workflow = task.workflow.name,
                namespace = task.workflow.namespace,
                stage = task.attempt.stage,
                attempt = task.attempt.attempt,
                trace_id = task.trace_id,
                error = &error as &dyn std::error::Error,
                "the task was not announced; its runner adds it"
            );
        }
    });
}

/// Deletes a Job and, by its label, the Pod: one whose Job is gone already would stay for ever.
pub async fn close(
    context: &Context,
    workflow: &Workflow,
    name: &str,
    key: &AttemptKey,
) -> Result<(), ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let failed = |source| ApplyError::Close {
        name: name.to_owned(),
        source,
    };
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    match jobs.delete(name, &DeleteParams::background()).await {
        Ok(_) => tracing::info!(
            workflow = workflow.name_any(),
            namespace,
            stage = key.stage,
            attempt = key.attempt,
            trace_id = trace_id(&key.workflow_uid),
            job = name,
            "job deleted"
        ),
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {}
        Err(source) => return Err(failed(source)),
    }
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &namespace);
    let of_job = ListParams::default().labels(&format!("{}={name}", evidence::JOB_NAME));
    pods.delete_collection(&DeleteParams::default(), &of_job)
        .await
        .map_err(failed)?;
    Ok(())
}
