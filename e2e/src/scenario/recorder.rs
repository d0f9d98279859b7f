//! Keeps every version of every Workflow of a namespace, what each runs, and every Job that ever was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::ApiResource;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::Value;
use stagecraft_api::run::{RUN_ENTRY, Run};
use stagecraft_api::status::StagePhase;
use stagecraft_api::{Workflow, WorkflowPhase, label};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// In the order in which they were stored.
    pub versions: Vec<Version>,
    /// Every Job by UID, in the order in which they were created.
    pub jobs: Vec<JobSeen>,
    /// What each Workflow runs, by its UID.
    pub runs: BTreeMap<String, Run>,
    /// A watch had to begin anew: versions in between may be missing.
    pub gaps: bool,
    /// The scenario does what makes watches begin anew.
    pub gaps_are_expected: bool,
}

/// One stored version of a Workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    pub uid: String,
    pub name: String,
    /// Of etcd, and so comparable between kinds.
    pub revision: u64,
    pub phase: WorkflowPhase,
    /// Number of the run.
    pub run: u32,
    pub stages: Vec<StageSeen>,
    /// The whole status, for comparison.
    pub status: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct StageSeen {
    pub name: String,
    pub run: u32,
    pub round: u32,
    pub attempt: u32,
    pub phase: StagePhase,
    pub whole: Value,
}

/// One Job that was created.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSeen {
    pub uid: String,
    pub name: String,
    pub workflow_uid: String,
    pub stage: String,
    pub attempt: u32,
    /// Of the first version that was seen.
    pub revision: u64,
}

/// Records a namespace until it is dropped.
pub struct Recorder {
    workflows: Api<DynamicObject>,
    all_jobs: Api<Job>,
    runs: Api<ConfigMap>,
    recording: Arc<watch::Sender<Recording>>,
    tasks: [JoinHandle<()>; 3],
}

/// How far a watch may be behind before something is wrong with it.
const LAG: Duration = Duration::from_secs(10);

impl Drop for Recorder {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Recorder {
    /// Starts the watches and answers once nothing can be missed any more.
    pub async fn start(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let recording = Arc::new(watch::Sender::new(Recording::default()));
        let resource = ApiResource::erase::<Workflow>(&());
        let workflows: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
        let runs: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let tasks = [
            begin(&workflows, &recording, Recording::add_workflow).await?,
            begin(&jobs, &recording, Recording::add_job).await?,
            begin(&runs, &recording, Recording::add_run).await?,
        ];
        Ok(Self {
            workflows,
            all_jobs: jobs,
            runs,
            recording,
            tasks,
        })
    }

    /// Everything up to now: what the API server has is waited for, since a watch may be a little behind.
    pub async fn recording(&self) -> anyhow::Result<Recording> {
        let workflows = self.workflows.list(&ListParams::default()).await?;
        let jobs = self.all_jobs.list(&ListParams::default()).await?;
        let runs = self.runs.list(&ListParams::default()).await?;
        let mut recording = self.recording.subscribe();
        let complete = recording.wait_for(|seen| seen.holds(&workflows.items, &jobs.items, &runs.items));
        let seen = tokio::time::timeout(LAG, complete)
            .await
            .context("the watches are more than 10 s behind the API server")??;
        Ok(seen.clone())
    }

    /// From here on a watch may have to begin anew.
    pub fn expect_gaps(&self) {
        self.recording
            .send_modify(|recording| recording.gaps_are_expected = true);
    }

    /// What the watches have brought so far.
    pub fn seen(&self) -> Recording {
        self.recording.borrow().clone()
    }
}

/// Follows objects of one kind, once nothing can be missed any more.
async fn begin<K>(
    api: &Api<K>,
    recording: &Arc<watch::Sender<Recording>>,
    add: fn(&mut Recording, &K),
) -> anyhow::Result<JoinHandle<()>>
where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let (ready, begun) = tokio::sync::oneshot::channel();
    let task = tokio::spawn(follow(api.clone(), recording.clone(), ready, add));
    begun.await.context("a watch did not begin")?;
    Ok(task)
}

async fn follow<K>(
    api: Api<K>,
    recording: Arc<watch::Sender<Recording>>,
    ready: tokio::sync::oneshot::Sender<()>,
    add: fn(&mut Recording, &K),
) where
    K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    let mut ready = Some(ready);
    let mut changes = watcher::watcher(api, watcher::Config::default()).boxed();
    while let Some(change) = changes.next().await {
        match change {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                recording.send_modify(|recording| add(recording, &object));
            }
            Ok(Event::InitDone) => {
                if let Some(ready) = ready.take() {
                    let _ = ready.send(());
                }
            }
            Ok(Event::Init) => recording.send_modify(|recording| recording.gaps |= ready.is_none()),
            Ok(Event::Delete(_)) | Err(_) => {}
        }
    }
}

impl Recording {
    /// Whether these versions of Workflows, or later ones, these Jobs and these runs were seen.
    fn holds(&self, workflows: &[DynamicObject], jobs: &[Job], runs: &[ConfigMap]) -> bool {
        let has_version = |workflow: &DynamicObject| {
            let (uid, wanted) = (workflow.uid(), revision(workflow.resource_version()));
            let mut versions = self.versions.iter();
            versions.any(|version| Some(&version.uid) == uid.as_ref() && version.revision >= wanted)
        };
        let has_job = |job: &Job| {
            let ours = job.labels().contains_key(label::WORKFLOW_UID);
            !ours || self.jobs.iter().any(|seen| Some(&seen.uid) == job.uid().as_ref())
        };
        let has_run = |map: &ConfigMap| pinned(map).is_none_or(|(uid, _)| self.runs.contains_key(&uid));
        workflows.iter().all(has_version) && jobs.iter().all(has_job) && runs.iter().all(has_run)
    }

    fn add_workflow(&mut self, workflow: &DynamicObject) {
        let status = workflow.data.get("status").cloned().unwrap_or_default();
        let stages = status.get("stages").and_then(Value::as_array);
        let version = Version {
            uid: workflow.uid().unwrap_or_default(),
            name: workflow.name_any(),
            revision: revision(workflow.resource_version()),
            phase: field(&status, "phase").unwrap_or_default(),
            run: field(&status, "run").unwrap_or_default(),
            stages: stages.into_iter().flatten().map(stage).collect(),
            status,
        };
        if self.versions.last() != Some(&version) {
            self.versions.push(version);
        }
    }

    fn add_job(&mut self, job: &Job) {
        let uid = job.uid().unwrap_or_default();
        let label = |name: &str| job.labels().get(name).cloned().unwrap_or_default();
        if self.jobs.iter().any(|known| known.uid == uid) || label(label::WORKFLOW_UID).is_empty() {
            return;
        }
        self.jobs.push(JobSeen {
            uid,
            name: job.name_any(),
            workflow_uid: label(label::WORKFLOW_UID),
            stage: label(label::STAGE),
            attempt: label(label::ATTEMPT).parse().unwrap_or_default(),
            revision: revision(job.resource_version()),
        });
    }

    fn add_run(&mut self, map: &ConfigMap) {
        if let Some((uid, run)) = pinned(map) {
            self.runs.entry(uid).or_insert(run);
        }
    }

    /// Jobs of one Workflow, by its UID.
    pub fn jobs_of(&self, uid: &str) -> Vec<&JobSeen> {
        self.jobs.iter().filter(|job| job.workflow_uid == uid).collect()
    }
}

/// What a ConfigMap says that a Workflow runs, with the Workflow's UID, if it is one of those.
fn pinned(map: &ConfigMap) -> Option<(String, Run)> {
    let uid = map.labels().get(label::WORKFLOW_UID)?;
    let run = map.data.as_ref()?.get(RUN_ENTRY)?;
    Some((uid.clone(), serde_json::from_str(run).ok()?))
}

fn stage(value: &Value) -> StageSeen {
    StageSeen {
        name: field(value, "name").unwrap_or_default(),
        run: field(value, "run").unwrap_or_default(),
        round: field(value, "round").unwrap_or_default(),
        attempt: field(value, "attempt").unwrap_or_default(),
        phase: field(value, "phase").unwrap_or_default(),
        whole: value.clone(),
    }
}

fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Option<T> {
    serde_json::from_value(value.get(name)?.clone()).ok()
}

fn revision(text: Option<String>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}
