//! Puts away what deleted Workflows left in Redis and in the gateway's store. Owner references take care of the rest.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use stagecraft_api::Workflow;

use crate::controller::Context;

/// How often everything is compared, in case a deletion was not noticed.
const INTERVAL: Duration = Duration::from_mins(1);

/// Sweeps for ever.
pub async fn sweep(context: Arc<Context>) {
    loop {
        if let Err(error) = sweep_once(&context).await {
            tracing::warn!(error = &*error, "the sweep failed; trying again later");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Purges every Workflow of which the store or the result stream holds something, and the live list does not.
async fn sweep_once(context: &Context) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // The store is asked first: a Workflow made in between is in the list.
    let mut left = context.results.workflows();
    left.extend(context.gateway.stored_workflows().await?);
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

/// Forgets one deleted Workflow everywhere.
pub async fn purge(context: &Context, uid: &str) {
    context.written.forget(uid);
    let entries = context.results.forget(uid);
    context.jobs.forget(uid);
    context.pods.forget(uid);
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
