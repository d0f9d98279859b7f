//! Puts away what deleted Workflows left in Redis and in the gateway's store. Owner references take care of the rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use stagecraft_api::status::StagePhase;
use stagecraft_api::{AttemptKey, Workflow, name};

use crate::controller::Context;
use crate::queue::{QueueError, Tasks};

/// How often everything is compared, in case a deletion was not noticed, or something was added after it. Whatever a Workflow left is
/// to be gone a minute after it.
const INTERVAL: Duration = Duration::from_secs(20);

/// Sweeps for ever.
pub async fn sweep(context: Arc<Context>) {
    loop {
        if let Err(error) = sweep_tasks(&context).await {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "the queues were not swept");
        }
        if let Err(error) = sweep_once(&context).await {
            tracing::warn!(error = &*error, "the sweep failed; trying again later");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Purges every Workflow of which the store, Redis or the admission holds something, and the live list does not. A reconciliation
/// that was under way while its Workflow was deleted may have noted it again, and a runner that was about to end may have sent events.
async fn sweep_once(context: &Context) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The store is asked first: a Workflow made in between is in the list.
    let mut left = context.results.workflows();
    left.extend(context.admission.workflows());
    left.extend(context.gateway.stored_workflows().await?);
    match context.queue.workflows_with_events().await {
        Ok(uids) => left.extend(uids),
        Err(error) => tracing::debug!(
            error = &error as &dyn std::error::Error,
            "the events in Redis were not swept"
        ),
    }
    // Most are known to be there. The cache may lag: only the live list says that one is gone.
    for workflow in context.store.state() {
        left.remove(&workflow.uid().unwrap_or_default());
    }
    if left.is_empty() {
        return Ok(());
    }
    let resource = ApiResource::erase::<Workflow>(&());
    let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource);
    let live: BTreeSet<String> = api
        .list_metadata(&ListParams::default())
        .await?
        .items
        .iter()
        .filter_map(kube::ResourceExt::uid)
        .collect();
    for uid in left.iter().filter(|uid| !live.contains(*uid)) {
        purge(context, uid).await;
    }
    Ok(())
}

/// Takes tasks out of the queues whose attempts no longer run: a runner that claimed late may have added one again.
async fn sweep_tasks(context: &Context) -> Result<(), QueueError> {
    let tasks = context.queue.tasks().await?;
    if tasks.is_empty() {
        return Ok(());
    }
    let running: BTreeSet<AttemptKey> = context
        .workflows()
        .into_iter()
        .flat_map(|workflow| running(&context.written.latest(workflow)))
        .collect();
    for (agent, Tasks { keys, junk }) in tasks {
        if !junk.is_empty() {
            tracing::warn!(
                agent,
                fields = junk.len(),
                key = name::task_ids(&agent),
                "Redis holds fields that are no attempts; they are deleted"
            );
            context.queue.drop_junk(&agent, &junk).await?;
        }
        // Asked for after the tasks were read: an attempt licensed since then is in neither.
        for key in keys.iter().filter(|key| !running.contains(key)) {
            context.queue.remove(&agent, key, &[]).await?;
        }
    }
    Ok(())
}

fn running(workflow: &Workflow) -> Vec<AttemptKey> {
    let uid = workflow.uid().unwrap_or_default();
    let stages = workflow.status.iter().flat_map(|status| &status.stages);
    stages
        .filter(|stage| stage.phase == StagePhase::Running)
        .map(|stage| AttemptKey {
            workflow_uid: uid.clone(),
            stage: stage.name.clone(),
            attempt: stage.attempt,
        })
        .collect()
}

/// Forgets one deleted Workflow everywhere.
pub async fn purge(context: &Context, uid: &str) {
    context.written.forget(uid);
    context.admission.forget(uid);
    let entries = context.results.forget(uid);
    context.refusals.forget_workflow(uid);
    context.usages.forget(uid);
    context.jobs.forget(uid);
    context.pods.forget(uid);
    context.approvals.forget(uid);
    if let Err(error) = context.queue.purge(uid, &entries).await {
        tracing::debug!(
            uid,
            error = &error as &dyn std::error::Error,
            "queues not purged; the streams expire"
        );
    }
    match context.gateway.purge(uid).await {
        Ok(()) => tracing::info!(uid, "everything of a deleted Workflow was put away"),
        Err(error) => {
            tracing::debug!(
                uid,
                error = &error as &dyn std::error::Error,
                "store not purged; the next sweep does it"
            );
        }
    }
}
