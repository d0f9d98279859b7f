//! Reads the chain from Pod to Job to Workflow from the API server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use stagecraft_api::Workflow;

use crate::authorize::{self, Denial, Member};
use crate::error::Refusal;
use crate::identity::PodIdentity;

/// A Pod of an attempt, and whether the attempt is the current one.
#[derive(Clone, Debug)]
pub struct Seen {
    pub member: Arc<Member>,
    pub standing: Result<(), Denial>,
}

impl Seen {
    /// The attempt, if it is the current one.
    pub fn current(&self) -> Result<&Arc<Member>, Denial> {
        self.standing.clone()?;
        Ok(&self.member)
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::NoAttempt(reason) => Self::NoAttempt(reason),
            Denial::NotCurrent(reason) => Self::NotCurrent(reason),
            Denial::Unreadable(reason) => Self::ApiServer(reason),
        }
    }
}

/// Why the chain says nothing good.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error("{0}")]
    ApiServer(String),
}

impl From<ChainError> for Refusal {
    fn from(error: ChainError) -> Self {
        match error {
            ChainError::Denied(denial) => denial.into(),
            ChainError::ApiServer(problem) => Self::ApiServer(problem),
        }
    }
}

/// How old a reading may be where a little late does no harm.
const RECENT: Duration = Duration::from_secs(3);
/// Most Pods that are remembered.
const PODS: usize = 4096;
/// Longest wait for one answer of the API server.
const TIMEOUT: Duration = Duration::from_secs(5);

pub struct Chain {
    client: Client,
    workflows: ApiResource,
    seen: Mutex<HashMap<PodIdentity, (Instant, Seen)>>,
}

impl Chain {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            workflows: ApiResource::erase::<Workflow>(&()),
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// What the API server says now.
    pub async fn live(&self, caller: &PodIdentity) -> Result<Seen, ChainError> {
        let started = Instant::now();
        // Boxed, because a Pod is a large value.
        let outcome = match self.remembered(caller) {
            // Names never change, so that all three can be read at once; their UIDs are compared all the same.
            Some((_, seen)) => Box::pin(self.read_at_once(caller, &seen.member)).await,
            None => Box::pin(self.read_in_turn(caller)).await,
        };
        match &outcome {
            Ok(seen) => self.remember(caller, started, seen),
            Err(_) => self.forget(caller),
        }
        outcome
    }

    /// What the API server said at most three seconds ago.
    pub async fn recent(&self, caller: &PodIdentity) -> Result<Seen, ChainError> {
        match self.remembered(caller) {
            Some((at, seen)) if at.elapsed() < RECENT && seen.standing.is_ok() => Ok(seen),
            _ => self.live(caller).await,
        }
    }

    async fn read_at_once(&self, caller: &PodIdentity, known: &Member) -> Result<Seen, ChainError> {
        let (pod, job, workflow) = tokio::join!(
            self.pod(caller),
            self.job(&caller.namespace, &known.job),
            self.workflow(&caller.namespace, &known.workflow)
        );
        let (pod, job, workflow) = (pod?, job?, workflow?);
        let owner = authorize::owning_job(caller, pod.as_ref())?;
        let pod = pod.unwrap_or_default();
        let (member, workflow_owner) = authorize::owning_workflow(caller, &pod, &owner, job.as_ref())?;
        if owner.name != known.job || workflow_owner.name != known.workflow {
            return Box::pin(self.read_in_turn(caller)).await;
        }
        let standing = authorize::current(&member, &workflow_owner, workflow.as_ref());
        Ok(Seen {
            member: Arc::new(member),
            standing,
        })
    }

    async fn read_in_turn(&self, caller: &PodIdentity) -> Result<Seen, ChainError> {
        let pod = self.pod(caller).await?;
        let owner = authorize::owning_job(caller, pod.as_ref())?;
        let pod = pod.unwrap_or_default();
        let job = self.job(&caller.namespace, &owner.name).await?;
        let (member, workflow_owner) = authorize::owning_workflow(caller, &pod, &owner, job.as_ref())?;
        let workflow = self.workflow(&caller.namespace, &workflow_owner.name).await?;
        let standing = authorize::current(&member, &workflow_owner, workflow.as_ref());
        Ok(Seen {
            member: Arc::new(member),
            standing,
        })
    }

    async fn pod(&self, caller: &PodIdentity) -> Result<Option<Pod>, ChainError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &caller.namespace);
        bounded(pods.get_opt(&caller.name)).await
    }

    async fn job(&self, namespace: &str, name: &str) -> Result<Option<Job>, ChainError> {
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        bounded(jobs.get_opt(name)).await
    }

    async fn workflow(&self, namespace: &str, name: &str) -> Result<Option<DynamicObject>, ChainError> {
        let workflows: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &self.workflows);
        bounded(workflows.get_opt(name)).await
    }

    fn remembered(&self, caller: &PodIdentity) -> Option<(Instant, Seen)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(caller).cloned()
    }

    fn remember(&self, caller: &PodIdentity, at: Instant, reading: &Seen) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= PODS && !seen.contains_key(caller) {
            let oldest = seen
                .iter()
                .min_by_key(|(_, (at, _))| *at)
                .map(|(caller, _)| caller.clone());
            if let Some(oldest) = oldest {
                seen.remove(&oldest);
            }
        }
        // Readings that overlap may end in any order: the one that began last counts.
        let newest = seen.get(caller).map_or(at, |(known, _)| at.max(*known));
        if newest == at {
            seen.insert(caller.clone(), (at, reading.clone()));
        }
    }

    fn forget(&self, caller: &PodIdentity) {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(caller);
    }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<Option<T>>>) -> Result<Option<T>, ChainError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(ChainError::ApiServer(stagecraft_api::error::chain(&error))),
        Err(_) => Err(ChainError::ApiServer("no answer in time".to_owned())),
    }
}
