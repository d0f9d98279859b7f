//! A time in which nothing happens.

use std::time::Duration;

use anyhow::ensure;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event};
use stagecraft_api::Workflow;

use super::World;

/// I7: no version of any Workflow or run comes for a while.
pub async fn quiet(world: &World, time: Duration) -> anyhow::Result<()> {
    let before = versions(world).await?;
    let config = watcher::Config::default();
    let workflows = watcher::watcher(world.api::<Workflow>(), config.clone()).map(|change| changed(&change));
    let runs = watcher::watcher(world.api::<ConfigMap>(), config).map(|change| changed(&change));
    let mut changes = futures::stream::select(workflows.boxed(), runs.boxed())
        .filter(|changed| futures::future::ready(*changed));
    ensure!(
        tokio::time::timeout(time, changes.next()).await.is_err(),
        "something was written"
    );
    ensure!(before == versions(world).await?, "something was written");
    Ok(())
}

async fn versions(world: &World) -> anyhow::Result<Vec<Option<String>>> {
    let found = world.api::<Workflow>().list(&ListParams::default()).await?;
    Ok(found.iter().map(kube::ResourceExt::resource_version).collect())
}

fn changed<K>(change: &Result<Event<K>, watcher::Error>) -> bool {
    matches!(change, Ok(Event::Apply(_) | Event::Delete(_)))
}
