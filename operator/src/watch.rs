//! The watches of the leader beside that of the Workflows themselves. An object that cannot be decoded is passed over: it must not
//! hide the others.

use std::sync::Arc;

use anyhow::Context as _;
use futures::channel::mpsc::UnboundedSender;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use crate::children::{self, Children};
use crate::controller::{Context, Guarded};
use crate::sweep;

/// Follows Jobs, Pods or Approvals. The first list is complete before anything is reconciled: a Job that is merely not seen yet must
/// not look lost.
pub async fn watch_children<K>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    children: Arc<Children<K>>,
    wake: UnboundedSender<ObjectRef<Guarded>>,
) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let config = watcher::Config::default().labels(&children::selector());
    let api = Api::<DeserializeGuard<K>>::all(client.clone());
    let mut events = watch(api, config).default_backoff().boxed();
    let (first, listed) = tokio::sync::oneshot::channel();
    tasks.spawn(async move {
        let mut first = Some(first);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let Some(event) = decoded(event) else { continue };
                    for reference in children.observe(&event) {
                        if wake.unbounded_send(reference).is_err() {
                            return;
                        }
                    }
                    if let (Event::InitDone, Some(first)) =
                        (&event, first.take_if(|_| matches!(event, Event::InitDone)))
                    {
                        let _ = first.send(());
                    }
                }
                Err(error) => tracing::warn!(%error, "a watch broke; trying again"),
            }
        }
    });
    listed.await.context("the first list did not arrive")
}

/// The event, unless its object cannot be decoded: one of those must not hide the others.
fn decoded<K>(event: Event<DeserializeGuard<K>>) -> Option<Event<K>> {
    let known = |object: DeserializeGuard<K>| {
        object
            .0
            .map_err(|error| {
                tracing::warn!(
                    name = error.metadata.name,
                    namespace = error.metadata.namespace,
                    error = error.error,
                    "an object cannot be decoded and is passed over"
                );
            })
            .ok()
    };
    Some(match event {
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
        Event::InitApply(object) => Event::InitApply(known(object)?),
        Event::Apply(object) => Event::Apply(known(object)?),
        Event::Delete(object) => Event::Delete(known(object)?),
    })
}

/// Follows Agents or templates, and wakes the Workflows that wait for one.
pub async fn watch_catalog<K>(
    tasks: &mut JoinSet<()>,
    client: &Client,
    workflows: Store<Guarded>,
    wake: UnboundedSender<ObjectRef<Guarded>>,
) -> anyhow::Result<Store<DeserializeGuard<K>>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (reader, writer) = reflector::store();
    let api = Api::<DeserializeGuard<K>>::all(client.clone());
    let mut changes = watch(api, watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .touched_objects()
        .boxed();
    tasks.spawn(async move {
        loop {
            match changes.try_next().await {
                Ok(Some(_)) => {
                    let mut waiting: Vec<_> = workflows
                        .state()
                        .iter()
                        .filter_map(|object| not_accepted(object))
                        .collect();
                    waiting.sort_by_key(|reference| (reference.namespace.clone(), reference.name.clone()));
                    for reference in waiting {
                        if wake.unbounded_send(reference).is_err() {
                            return;
                        }
                    }
                }
                Ok(None) => return,
                Err(error) => tracing::warn!(%error, "a watch broke; trying again"),
            }
        }
    });
    reader
        .wait_until_ready()
        .await
        .context("the first list did not arrive")?;
    Ok(reader)
}

fn not_accepted(object: &Guarded) -> Option<ObjectRef<Guarded>> {
    let workflow = object.0.as_ref().ok()?;
    let status = workflow.status.as_ref();
    let waits = status.is_none_or(|status| status.run_ref.is_none() && !status.phase.is_terminal());
    waits.then(|| children::reference(workflow))
}

/// Puts away at once what a deleted Workflow leaves; the sweep catches what is missed here.
pub async fn watch_deletions(client: Client, context: Arc<Context>) {
    let api = Api::<Guarded>::all(client);
    let events = watch(api, watcher::Config::default()).default_backoff().boxed();
    let gone = events.filter_map(async |event| match event {
        Ok(Event::Delete(object)) => object.uid(),
        _ => None,
    });
    // One that has to wait for a part that is away holds up no other.
    gone.for_each_concurrent(PURGES, async |uid| sweep::purge(&context, &uid).await)
        .await;
}

/// Workflows that are purged at once.
const PURGES: usize = 32;
