//! A namespace of a scenario's own.

use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, NamespaceResourceScope};
use kube::runtime::watcher;
use kube::{Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stagecraft_api::status::StageStatus;
use stagecraft_api::{Workflow, WorkflowPhase, WorkflowStatus, label};

use super::Isolation;
use super::recorder::{Recorder, Recording};
use super::release::Release;
use super::waiting::until;

/// Finalizer of [`World::hold`].
const HOLD: &str = "stagecraft.dev/e2e";

/// What a scenario works with.
pub struct World {
    pub client: Client,
    pub namespace: String,
    pub release: Release,
    pub isolation: Isolation,
    others: Mutex<Vec<String>>,
    recorder: Recorder,
}

impl World {
    /// Makes a namespace and begins to record it.
    pub(super) async fn begin(isolation: Isolation) -> anyhow::Result<Self> {
        let client = crate::client::connect().await?;
        let release = Release::find(&client).await?;
        let namespace = make_namespace(&client).await?;
        println!("namespace {namespace}");
        let recorder = Recorder::start(&client, &namespace).await?;
        Ok(Self {
            client,
            namespace,
            release,
            isolation,
            others: Mutex::default(),
            recorder,
        })
    }

    /// Another namespace, which nobody records. It goes when the scenario ends.
    pub async fn another_namespace(&self) -> anyhow::Result<String> {
        let namespace = make_namespace(&self.client).await?;
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.push(namespace.clone());
        Ok(namespace)
    }

    /// Deletes the namespaces, and does not wait until they are gone.
    pub(super) async fn end(self) {
        if let Err(error) = self.release_pods().await {
            println!("Pods may still be held: {error:#}");
        }
        if std::env::var_os("STAGECRAFT_KEEP").is_some_and(|keep| !keep.is_empty()) {
            println!("kept, because of STAGECRAFT_KEEP: namespace {}", self.namespace);
            return;
        }
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let others = self.others.into_inner().unwrap_or_else(PoisonError::into_inner);
        for namespace in others.iter().chain([&self.namespace]) {
            match namespaces.delete(namespace, &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => println!("namespace {namespace} was not deleted: {error}"),
            }
        }
    }

    /// Keeps a Pod in existence after its deletion, until the scenario ends.
    pub async fn hold(&self, pod: &Pod) -> anyhow::Result<()> {
        let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
        finalizers.push(HOLD.to_owned());
        let hold = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        self.api::<Pod>()
            .patch(&pod.name_any(), &PatchParams::default(), &hold)
            .await?;
        Ok(())
    }

    async fn release_pods(&self) -> anyhow::Result<()> {
        let pods = self.api::<Pod>();
        for pod in pods.list(&ListParams::default()).await? {
            let mut finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
            if finalizers.iter().any(|finalizer| finalizer == HOLD) {
                finalizers.retain(|finalizer| finalizer != HOLD);
                let release = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
                pods.patch(&pod.name_any(), &PatchParams::default(), &release)
                    .await?;
            }
        }
        Ok(())
    }

    /// Everything that has happened in the namespace up to now.
    pub async fn recording(&self) -> anyhow::Result<Recording> {
        self.recorder.recording().await
    }

    /// What of it the watches have brought so far.
    pub(super) fn seen(&self) -> Recording {
        self.recorder.seen()
    }

    /// The scenario makes the API server forget versions, so that watches begin anew and what happens between two versions may stay unseen.
    /// Whoever does not say so fails when that happens.
    pub fn expect_gaps(&self) {
        self.recorder.expect_gaps();
    }

    /// Objects of one kind in the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object in another namespace from its JSON.
    pub async fn create_in<K>(&self, namespace: &str, object: Value) -> anyhow::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let object: K = serde_json::from_value(object)?;
        let api = Api::namespaced(self.client.clone(), namespace);
        Ok(api.create(&PostParams::default(), &object).await?)
    }

    /// Creates an object from its JSON.
    pub async fn create<K>(&self, object: Value) -> anyhow::Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        self.create_in(&self.namespace, object).await
    }

    /// Has a Workflow refused by the API server, and answers why. It need not fit the type.
    pub async fn refusal(&self, workflow: Value) -> anyhow::Result<String> {
        let resource = ApiResource::erase::<Workflow>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let mut object: DynamicObject = serde_json::from_value(workflow)?;
        object.types = Some(kube::core::TypeMeta::resource::<Workflow>());
        match api.create(&PostParams::default(), &object).await {
            Ok(created) => bail!("the API server took Workflow {} in", created.name_any()),
            Err(kube::Error::Api(status)) => Ok(status.message.clone()),
            Err(error) => Err(error).context("the API server did not judge"),
        }
    }

    /// Waits until a Workflow is as `condition` wants it.
    pub async fn until(
        &self,
        name: &str,
        limit: Duration,
        what: &str,
        condition: impl Fn(&WorkflowStatus) -> bool,
    ) -> anyhow::Result<Workflow> {
        let one = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let what = format!("Workflow {name} {what}");
        let met = |status: &Option<WorkflowStatus>| status.as_ref().is_some_and(&condition);
        let found = until(self.api::<Workflow>(), one, limit, &what, |found| {
            found.first().is_some_and(|workflow| met(&workflow.status))
        })
        .await;
        match found {
            Ok(found) => found.into_iter().next().context("it vanished"),
            Err(error) => {
                let current = self.api::<Workflow>().get_opt(name).await.ok().flatten();
                let status = current.and_then(|workflow| workflow.status).unwrap_or_default();
                Err(error.context(format!("{name} is {}: {}", status.phase.as_str(), status.message)))
            }
        }
    }

    /// Waits until a Workflow ended, and makes sure that it completed.
    pub async fn completed(&self, name: &str, limit: Duration) -> anyhow::Result<WorkflowStatus> {
        let status = self.ended(name, limit).await?;
        ensure!(
            status.phase == WorkflowPhase::Completed,
            "Workflow {name} was to complete, but: {}",
            status.message
        );
        Ok(status)
    }

    /// Waits until a Workflow ended, and makes sure that it failed.
    pub async fn failed(&self, name: &str, limit: Duration) -> anyhow::Result<WorkflowStatus> {
        let status = self.ended(name, limit).await?;
        ensure!(
            status.phase == WorkflowPhase::Failed,
            "Workflow {name} was to fail, but completed"
        );
        Ok(status)
    }

    async fn ended(&self, name: &str, limit: Duration) -> anyhow::Result<WorkflowStatus> {
        let ended = self
            .until(name, limit, "ends", |status| status.phase.is_terminal())
            .await?;
        Ok(ended.status.unwrap_or_default())
    }

    /// Waits until a stage runs its attempt of this number with an agent that has started, and answers its Pod.
    pub async fn running_pod(
        &self,
        workflow: &str,
        stage_name: &str,
        attempt: u32,
        limit: Duration,
    ) -> anyhow::Result<Pod> {
        let selector = format!(
            "{}={workflow},{}={stage_name},{}={attempt}",
            label::WORKFLOW,
            label::STAGE,
            label::ATTEMPT
        );
        let config = watcher::Config::default().labels(&selector);
        let what = format!("the agent of {stage_name}, attempt {attempt}, runs");
        let found = until(self.api::<Pod>(), config, limit, &what, |pods| {
            pods.iter().any(agent_runs)
        })
        .await?;
        found.into_iter().find(agent_runs).context("the Pod vanished")
    }

    /// Waits until neither Job nor Pod of Stagecraft is left in the namespace.
    pub async fn nothing_left(&self, limit: Duration) -> anyhow::Result<()> {
        let ours = watcher::Config::default().labels(label::WORKFLOW_UID);
        until(
            self.api::<Job>(),
            ours.clone(),
            limit,
            "no Job is left",
            <[Job]>::is_empty,
        )
        .await?;
        until(
            self.api::<Pod>(),
            ours,
            limit,
            "no Pod is left",
            <[Pod]>::is_empty,
        )
        .await?;
        Ok(())
    }
}

async fn make_namespace(client: &Client) -> anyhow::Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let wanted: Namespace = serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("e2e-{}-", scenario_name()),
            "labels": {"stagecraft.dev/e2e": "true", "pod-security.kubernetes.io/enforce": "restricted"},
        },
    }))?;
    let made = namespaces.create(&PostParams::default(), &wanted).await?;
    Ok(made.name_any())
}

/// Whether the container of the agent runs.
pub fn agent_runs(pod: &Pod) -> bool {
    let containers = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    containers.into_iter().any(|container| {
        container.name == "agent"
            && container
                .state
                .as_ref()
                .is_some_and(|state| state.running.is_some())
    })
}

/// A stage of a status.
pub fn stage<'a>(status: &'a WorkflowStatus, name: &str) -> anyhow::Result<&'a StageStatus> {
    status
        .stages
        .iter()
        .find(|stage| stage.name == name)
        .with_context(|| format!("the status has no stage {name}"))
}

/// The name of the test, as a part of a DNS label: the test harness names its threads so.
fn scenario_name() -> String {
    let thread = std::thread::current();
    let name = thread
        .name()
        .unwrap_or("scenario")
        .rsplit("::")
        .next()
        .unwrap_or("scenario")
        .replace('_', "-");
    name.chars()
        .take(40)
        .collect::<String>()
        .trim_end_matches('-')
        .to_owned()
}
