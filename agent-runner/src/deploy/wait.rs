//! Waits until a rollout is good or has failed, by watching.

use std::collections::BTreeMap;
use std::pin::pin;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::Api;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use tokio::time::{Instant, timeout_at};

use super::cluster::Cluster;
use super::fence::{self, Denial};
use super::places::Runner;
use super::release::{Release, Writer};
use super::rollout::{Cause, Facts, GivenUp, Kind, State, TROUBLE};

/// Why a rollout is not good.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    #[error("{}", .0.reason)]
    Failed(Cause),
    #[error(transparent)]
    Superseded(#[from] Denial),
}

/// Waits until every Pod of the release serves, at most until `until`. Answers the Deployment as it then was.
pub async fn rollout(
    cluster: &Cluster,
    writer: &Writer,
    release: &Release,
    until: Instant,
    runner: &Runner,
) -> Result<Deployment, WaitError> {
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.place.namespace);
    let of_release = watcher::Config::default().labels(&cluster.place.release_selector(release));
    // A watch that breaks off is begun anew, after a pause that grows; meanwhile what was seen last counts.
    let deployments = watch::watch_object(cluster.deployments.clone(), &cluster.place.project)
        .default_backoff()
        .map_ok(|deployment| Seen::Deployment(Box::new(deployment)));
    let pods = watcher::watcher(pods, of_release)
        .default_backoff()
        .map_ok(|event| Seen::Pod(Box::new(event)));
    let mut seen = pin!(futures::stream::select(deployments, pods));
    let mut view = View::default();
    let mut told = String::new();
    loop {
        match view.judge(writer, &cluster.place.project)? {
            Verdict::Good(deployment) => return Ok(*deployment),
            Verdict::Wait(progress) => {
                if progress != told {
                    runner.tell(&format!("rollout: {progress}")).await;
                    told = progress;
                }
            }
        }
        let next = view.look_again().map_or(until, |at| at.min(until));
        match timeout_at(next, seen.next()).await {
            Ok(Some(Ok(change))) => view.take(change),
            Ok(Some(Err(error))) => {
                println!(
                    "deployment: the watch broke off: {}",
                    stagecraft_api::error::chain(&error)
                );
            }
            Ok(None) => return Err(WaitError::Failed(view.overdue())),
            Err(_) if Instant::now() >= until => return Err(WaitError::Failed(view.overdue())),
            Err(_) => {}
        }
    }
}

/// One piece of news. Boxed, because Kubernetes objects are large values.
enum Seen {
    Deployment(Box<Option<Deployment>>),
    Pod(Box<Event<Pod>>),
}

/// What is known of the Deployment.
#[derive(Default)]
enum Live {
    #[default]
    Unseen,
    Gone,
    There(Box<Deployment>),
}

enum Verdict {
    Wait(String),
    Good(Box<Deployment>),
}

/// What was seen so far.
#[derive(Default)]
struct View {
    deployment: Live,
    pods: BTreeMap<String, Pod>,
    /// Pods of a new list that is not complete yet.
    listed: BTreeMap<String, Pod>,
    trouble_since: Option<Instant>,
    /// What the controller said of the rollout before this one.
    before: Option<GivenUp>,
}

impl View {
    fn take(&mut self, change: Seen) {
        let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
        let event = match change {
            Seen::Deployment(deployment) => {
                if let (Live::Unseen, Some(first)) = (&self.deployment, &*deployment) {
                    self.before = Facts::of(first, []).given_up;
                }
                self.deployment =
                    deployment.map_or(Live::Gone, |deployment| Live::There(Box::new(deployment)));
                return;
            }
            Seen::Pod(event) => *event,
        };
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                self.listed.insert(name(&pod), pod);
            }
            Event::InitDone => self.pods = std::mem::take(&mut self.listed),
            Event::Apply(pod) => {
                self.pods.insert(name(&pod), pod);
            }
            Event::Delete(pod) => {
                self.pods.remove(&name(&pod));
            }
        }
    }

    fn judge(&mut self, writer: &Writer, project: &str) -> Result<Verdict, WaitError> {
        let deployment = match &self.deployment {
            Live::Unseen => return Ok(Verdict::Wait("not seen yet".to_owned())),
            Live::Gone => {
                return Err(WaitError::Failed(Cause {
                    kind: Kind::Stuck,
                    reason: "the Deployment was deleted".to_owned(),
                }));
            }
            Live::There(deployment) => deployment,
        };
        fence::still_ours(writer, project, &deployment.metadata)?;
        let facts = self.facts(deployment);
        self.trouble_since = match facts.trouble() {
            Some(_) => self.trouble_since.or_else(|| Some(Instant::now())),
            None => None,
        };
        let lasting = self
            .trouble_since
            .map(|since| since.elapsed())
            .unwrap_or_default();
        match facts.judge(lasting) {
            State::Good => Ok(Verdict::Good(deployment.clone())),
            State::Wait(progress) => Ok(Verdict::Wait(progress)),
            State::Failed(cause) => Err(WaitError::Failed(cause)),
        }
    }

    fn facts(&self, deployment: &Deployment) -> Facts {
        let facts = Facts::of(deployment, self.pods.values());
        Facts {
            given_up: facts
                .given_up
                .filter(|given_up| Some(given_up) != self.before.as_ref()),
            ..facts
        }
    }

    /// When time alone changes the judgement.
    fn look_again(&self) -> Option<Instant> {
        self.trouble_since.map(|since| since + TROUBLE)
    }

    fn overdue(&self) -> Cause {
        match &self.deployment {
            Live::There(deployment) => self.facts(deployment).overdue(),
            Live::Unseen | Live::Gone => Cause {
                kind: Kind::Stuck,
                reason: "the Deployment could not be watched".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(given_up_at: &str) -> Seen {
        let deployment: Value = json!({
            "metadata": {"name": "shop", "generation": 2},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": {"observedGeneration": 2, "replicas": 1, "conditions": [
                {"type": "Progressing", "status": "False", "message": "timed out", "lastUpdateTime": given_up_at}]},
        });
        Seen::Deployment(Box::new(Some(serde_json::from_value(deployment).unwrap())))
    }

    #[test]
    fn what_became_of_the_rollout_before_does_not_speak_against_this_one() {
        let mut view = View::default();
        let facts = |view: &View| match &view.deployment {
            Live::There(deployment) => view.facts(deployment),
            _ => panic!("it is not there"),
        };
        for (at, failed) in [
            ("2026-11-01T10:00:00Z", false),
            ("2026-11-01T10:00:00Z", false),
            ("2026-11-01T10:01:00Z", true),
        ] {
            view.take(deployment(at));
            assert_eq!(
                matches!(facts(&view).judge(std::time::Duration::ZERO), State::Failed(_)),
                failed,
                "{at}"
            );
        }
    }
}
