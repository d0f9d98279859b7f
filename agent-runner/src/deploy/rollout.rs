//! How far a rollout is. Pure: decided from the Deployment and the Pods of the release as they were read.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// How long an image may not be pulled, or a container not be made, before the rollout counts as failed: registries and
/// nodes have short troubles too.
pub const TROUBLE: Duration = Duration::from_secs(20);
/// Ends of a container after which it is not waited for any longer.
const RESTARTS: i32 = 2;

/// What is known of a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub generation: i64,
    pub observed_generation: i64,
    /// Pods that are wanted, that are there of any release, that are of the newest one, and of those that serve.
    pub wanted: i32,
    pub present: i32,
    pub updated: i32,
    pub available: i32,
    /// Set when the controller has given up.
    pub given_up: Option<GivenUp>,
    /// Set when the controller cannot make Pods.
    pub refused: Option<String>,
    /// Pods of the release.
    pub pods: Vec<PodFacts>,
}

/// That the controller has given up on a rollout. It stays until another rollout gets on, so it may be of the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenUp {
    pub message: String,
    /// When the controller said so.
    pub at: Option<String>,
}

/// What is known of one Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    pub name: String,
    pub ready: bool,
    pub running: bool,
    /// Why the container does not run, with what Kubernetes says about it.
    pub waiting: Option<(String, String)>,
    pub restarts: i32,
    /// How the container ended last.
    pub ended: Option<String>,
    /// Why no node takes it.
    pub unscheduled: Option<String>,
}

/// What is to be thought of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It goes on, as far as this says.
    Wait(String),
    /// Every Pod is of the release and serves, and no other is left.
    Good,
    Failed(Cause),
}

/// Why a rollout failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub kind: Kind,
    /// In words, with the Pod's name.
    pub reason: String,
}

/// What kind of thing went wrong, on which it depends what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node does not get the image.
    Pull,
    /// The application ends by itself.
    Crash,
    /// The application runs and does not answer its health check.
    Unwell,
    /// The Pods do not come to run.
    Stuck,
}

impl Facts {
    pub fn of<'pods>(deployment: &Deployment, pods: impl IntoIterator<Item = &'pods Pod>) -> Self {
        let status = deployment.status.clone().unwrap_or_default();
        let condition = |kind: &str, bad: &str| {
            let conditions = status.conditions.iter().flatten();
            conditions
                .filter(|condition| condition.type_ == kind && condition.status == bad)
                .map(|condition| GivenUp {
                    message: condition.message.clone().unwrap_or_default(),
                    at: condition.last_update_time.as_ref().map(|time| time.0.to_string()),
                })
                .next()
        };
        Self {
            generation: deployment.metadata.generation.unwrap_or_default(),
            observed_generation: status.observed_generation.unwrap_or_default(),
            wanted: deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
            present: status.replicas.unwrap_or_default(),
            updated: status.updated_replicas.unwrap_or_default(),
            available: status.available_replicas.unwrap_or_default(),
            given_up: condition("Progressing", "False"),
            refused: condition("ReplicaFailure", "True").map(|refused| refused.message),
            pods: pods.into_iter().map(PodFacts::of).collect(),
        }
    }

    /// The first Pod whose container cannot be made, and whether nothing but a change helps it.
    pub fn trouble(&self) -> Option<Trouble<'_>> {
        self.pods.iter().find_map(PodFacts::trouble)
    }

    /// What is to be thought of it, when the same trouble has lasted for so long.
    pub fn judge(&self, trouble_for: Duration) -> State {
        if self.observed_generation < self.generation {
            return State::Wait("the change is not seen yet".to_owned());
        }
        if let Some(cause) = self.pods.iter().find_map(PodFacts::crash) {
            return State::Failed(cause);
        }
        if let Some(trouble) = self.trouble()
            && (trouble.hopeless || trouble_for >= TROUBLE)
        {
            return State::Failed(trouble.cause());
        }
        let complete =
            self.updated == self.wanted && self.present == self.updated && self.available == self.wanted;
        if complete {
            return State::Good;
        }
        if self.given_up.is_some() {
            return State::Failed(self.overdue());
        }
        State::Wait(format!(
            "{} of {} available",
            self.available.min(self.updated),
            self.wanted
        ))
    }

    /// Why it is not good, once nobody waits any longer.
    pub fn overdue(&self) -> Cause {
        if let Some(trouble) = self.trouble() {
            return trouble.cause();
        }
        if let Some(pod) = self.pods.iter().find(|pod| pod.restarts > 0) {
            return pod.ended_cause();
        }
        if let Some(pod) = self.pods.iter().find(|pod| pod.running && !pod.ready) {
            return Cause {
                kind: Kind::Unwell,
                reason: format!("Pod {} runs, but is not ready", pod.name),
            };
        }
        let unscheduled = |pod: &PodFacts| {
            let reason = pod.unscheduled.as_ref()?;
            Some(format!("no node takes Pod {}: {reason}", pod.name))
        };
        let refused = || {
            self.refused
                .clone()
                .map(|reason| format!("no Pods can be made: {reason}"))
        };
        let reason = self
            .pods
            .iter()
            .find_map(unscheduled)
            .or_else(refused)
            .or_else(|| self.given_up.as_ref().map(|given_up| given_up.message.clone()))
            .unwrap_or_else(|| format!("{} of {} Pods are available", self.available, self.wanted));
        Cause {
            kind: Kind::Stuck,
            reason,
        }
    }
}

/// A container that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble<'facts> {
    pod: &'facts str,
    reason: &'facts str,
    message: &'facts str,
    kind: Kind,
    /// Nothing but a change helps.
    hopeless: bool,
}

impl Trouble<'_> {
    fn cause(&self) -> Cause {
        let Self {
            pod,
            reason,
            message,
            kind,
            hopeless: _,
        } = self;
        let separator = if message.is_empty() { "" } else { ": " };
        Cause {
            kind: *kind,
            reason: format!("Pod {pod} waits with {reason}{separator}{message}"),
        }
    }
}

impl PodFacts {
    fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let condition = |kind: &str| {
            let conditions = status.conditions.iter().flatten();
            conditions.into_iter().find(|condition| condition.type_ == kind)
        };
        let container = status.container_statuses.iter().flatten().next();
        let state = container.and_then(|container| container.state.as_ref());
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            ready: condition("Ready").is_some_and(|ready| ready.status == "True"),
            running: state.is_some_and(|state| state.running.is_some()),
            waiting: state.and_then(|state| state.waiting.as_ref()).map(|waiting| {
                (
                    waiting.reason.clone().unwrap_or_default(),
                    waiting.message.clone().unwrap_or_default(),
                )
            }),
            restarts: container.map_or(0, |container| container.restart_count),
            ended: container.and_then(ended),
            unscheduled: condition("PodScheduled")
                .filter(|scheduled| scheduled.status == "False")
                .map(|scheduled| scheduled.message.clone().unwrap_or_default()),
        }
    }

    fn trouble(&self) -> Option<Trouble<'_>> {
        let (reason, message) = self.waiting.as_ref()?;
        let (kind, hopeless) = match reason.as_str() {
            "InvalidImageName" => (Kind::Pull, true),
            "ErrImagePull"
            | "ImagePullBackOff"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => (Kind::Pull, false),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                (Kind::Stuck, false)
            }
            _ => return None,
        };
        Some(Trouble {
            pod: &self.name,
            reason,
            message,
            kind,
            hopeless,
        })
    }

    fn crash(&self) -> Option<Cause> {
        let waits = self
            .waiting
            .as_ref()
            .is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
        (self.restarts >= RESTARTS && (waits || self.restarts > RESTARTS)).then(|| self.ended_cause())
    }

    fn ended_cause(&self) -> Cause {
        let ended = self.ended.as_deref().unwrap_or("unknown");
        Cause {
            kind: Kind::Crash,
            reason: format!(
                "the container of Pod {} was started {} times and ended each time, last with {ended}",
                self.name,
                self.restarts + 1
            ),
        }
    }
}

/// The last end of a container in words.
fn ended(container: &ContainerStatus) -> Option<String> {
    let states = [container.state.as_ref(), container.last_state.as_ref()];
    let terminated = states
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())?;
    let reason = terminated.reason.as_deref().unwrap_or("Error");
    Some(format!("status {} ({reason})", terminated.exit_code))
}

#[cfg(test)]
mod tests;
