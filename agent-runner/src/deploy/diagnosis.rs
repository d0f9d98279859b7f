//! Collects what a person would look at first when a rollout failed. All of it is best effort: a diagnosis that fails must
//! not hide what it is about.

use futures::future::join_all;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{Api, ListParams, LogParams};
use stagecraft_api::error::{chain, one_line, truncate};

use super::cluster::Cluster;
use super::manifest::CONTAINER;
use super::release::Release;

/// Lines of the log that are kept, and bytes that are read of it.
const LOG_LINES: i64 = 20;
const LOG_BYTES: i64 = 8 * 1024;
/// Events that are kept, and the longest text of one.
const EVENTS: usize = 3;
const EVENT_BYTES: usize = 240;
/// Pods that are looked at.
const PODS: usize = 3;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The newest warnings about the Pods and what makes them, the newest first.
    pub events: Vec<String>,
    /// The last lines of a container's log.
    pub log: Vec<String>,
}

/// Looks at the Pods of a release.
pub async fn collect(cluster: &Cluster, release: &Release) -> Diagnosis {
    let (client, namespace) = (&cluster.client, &cluster.place.namespace);
    let selected = ListParams::default().labels(&cluster.place.release_selector(release));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let sets: Api<ReplicaSet> = Api::namespaced(client.clone(), namespace);
    let (listed, owners) = futures::join!(pods.list(&selected), sets.list(&selected));
    let listed = noted("the Pods", listed)
        .map(|list| list.items)
        .unwrap_or_default();
    let owners = noted("the ReplicaSets", owners)
        .map(|list| list.items)
        .unwrap_or_default();
    let names = listed.iter().take(PODS).map(|pod| ("Pod", &pod.metadata.name));
    let names = names.chain(owners.iter().map(|set| ("ReplicaSet", &set.metadata.name)));
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    let questions = names.filter_map(|(kind, name)| {
        let fields = format!(
            "involvedObject.kind={kind},involvedObject.name={}",
            name.as_ref()?
        );
        let events = events.clone();
        Some(async move { events.list(&ListParams::default().fields(&fields)).await })
    });
    let answers = join_all(questions).await;
    let found = answers
        .into_iter()
        .filter_map(|answer| noted("Events", answer))
        .flat_map(|list| list.items);
    Diagnosis {
        events: newest(found.collect()),
        log: log(&pods, &listed).await,
    }
}

fn noted<T>(what: &str, answer: kube::Result<T>) -> Option<T> {
    answer
        .inspect_err(|error| println!("deployment: {what} cannot be read: {}", chain(error)))
        .ok()
}

fn newest(mut events: Vec<Event>) -> Vec<String> {
    events.retain(|event| event.type_.as_deref() == Some("Warning"));
    events.sort_by_key(|event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        let micro = event.event_time.as_ref().map(|time| time.0);
        let created = event.metadata.creation_timestamp.as_ref().map(|time| time.0);
        std::cmp::Reverse(last.or(micro).or(created))
    });
    let mut texts: Vec<String> = Vec::new();
    for event in events {
        let text = format!(
            "{}: {}",
            event.reason.unwrap_or_default(),
            event.message.unwrap_or_default()
        );
        let text = truncate(&one_line(&text), EVENT_BYTES);
        // Each Pod says the same.
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts.truncate(EVENTS);
    texts
}

/// The log of the container that has something to tell: one that ended, or else one that is not ready.
async fn log(pods: &Api<Pod>, listed: &[Pod]) -> Vec<String> {
    let restarts = |pod: &Pod| {
        let statuses = pod
            .status
            .as_ref()
            .and_then(|status| status.container_statuses.as_ref());
        statuses
            .into_iter()
            .flatten()
            .map(|container| container.restart_count)
            .sum::<i32>()
    };
    let Some((pod, name)) = listed
        .iter()
        .filter_map(|pod| Some((pod, pod.metadata.name.as_deref()?)))
        .max_by_key(|(pod, _)| restarts(pod))
    else {
        return Vec::new();
    };
    let parameters = |previous| LogParams {
        container: Some(CONTAINER.to_owned()),
        tail_lines: Some(LOG_LINES),
        limit_bytes: Some(LOG_BYTES),
        previous,
        ..LogParams::default()
    };
    // A container that has just been started again has not said anything yet.
    let text = match pods.logs(name, &parameters(restarts(pod) > 0)).await {
        Err(_) => pods.logs(name, &parameters(false)).await,
        text => text,
    };
    let text = noted("the log", text).unwrap_or_default();
    text.lines()
        .map(one_line)
        .filter(|line| !line.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, message: &str, second: u32) -> Event {
        serde_json::from_value(
            json!({"type": kind, "reason": "Unhealthy", "message": message, "metadata": {},
            "involvedObject": {}, "lastTimestamp": format!("2026-11-01T10:00:{second:02}Z")}),
        )
        .unwrap()
    }

    #[test]
    fn the_newest_warnings_come_first_and_each_once() {
        let events = vec![
            event("Warning", "first", 1),
            event("Normal", "all is well", 9),
            event("Warning", "fourth", 4),
            event("Warning", "second", 2),
            event("Warning", "fourth", 3),
            event("Warning", "third\nline", 3),
        ];
        assert_eq!(
            newest(events),
            ["Unhealthy: fourth", "Unhealthy: third line", "Unhealthy: second"]
        );
    }
}
