//! Waiting for what a watch shows, never for time to pass.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::bail;
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;

/// Waits until the objects that `config` selects are as `condition` wants them, and answers them, by creation.
pub async fn until<K>(
    api: Api<K>,
    config: watcher::Config,
    limit: Duration,
    what: &str,
    condition: impl Fn(&[K]) -> bool,
) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let mut last = String::new();
    let waiting = async {
        let mut objects: BTreeMap<(i64, String), K> = BTreeMap::new();
        let mut complete = false;
        let mut changes = watcher::watcher(api, config).boxed();
        while let Some(change) = changes.next().await {
            match change {
                Ok(Event::Init) => {
                    objects.clear();
                    complete = false;
                }
                Ok(Event::InitDone) => complete = true,
                Ok(Event::Apply(object) | Event::InitApply(object)) => {
                    objects.insert(key(&object), object);
                }
                Ok(Event::Delete(object)) => {
                    objects.remove(&key(&object));
                }
                // The watcher goes on by itself; the API server may be busy.
                Err(error) => {
                    last = format!("the watch is interrupted: {error}");
                    continue;
                }
            }
            let present: Vec<K> = objects.values().cloned().collect();
            if complete && condition(&present) {
                return Ok(present);
            }
            last = objects
                .values()
                .map(kube::ResourceExt::name_any)
                .collect::<Vec<_>>()
                .join(", ");
        }
        bail!("the watch ended");
    };
    match tokio::time::timeout(limit, waiting).await {
        Ok(outcome) => outcome,
        Err(_) => bail!(
            "waited {} s in vain until {what}; there is: [{last}]",
            limit.as_secs()
        ),
    }
}

/// For what no watch shows: asks five times a second until the answer is yes.
pub async fn eventually(
    limit: Duration,
    what: &str,
    ask: impl AsyncFn() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let asking = async {
        loop {
            if ask().await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(outcome) => outcome,
        Err(_) => bail!("waited {} s in vain until {what}", limit.as_secs()),
    }
}

fn key<K: kube::Resource>(object: &K) -> (i64, String) {
    let created = object.creation_timestamp().map_or(0, |time| time.0.as_second());
    (created, object.uid().unwrap_or_default())
}
