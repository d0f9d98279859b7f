//! The second half of the loop, and the only writer.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::run::{RUN_ENTRY, Run};
use stagecraft_api::status::WorkflowStatus;
use stagecraft_api::{AttemptKey, Moment, Workflow, name};
use stagecraft_core::envelope::{run_digest, run_text};
use stagecraft_core::merge::merge_patch;
use stagecraft_core::plan::{Action, Notice, Plan};

use crate::controller::Context;
use crate::job::{JobError, job};

/// What keeps an action from being done. The next look at the Workflow decides what follows.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the status could not be stored")]
    Store(#[source] kube::Error),
    #[error("the ConfigMap of the run could not be created")]
    Pin(#[source] kube::Error),
    #[error("Job {name} could not be deleted")]
    Close { name: String, source: kube::Error },
    #[error("the Job could not be made")]
    Job(#[from] JobError),
    #[error("the run has no stage {0}")]
    NoStage(String),
    #[error("a value could not be encoded")]
    Encode(#[from] serde_json::Error),
    #[error("the Workflow has no namespace")]
    NoNamespace,
}

/// How a plan ended.
#[derive(Debug)]
pub enum Applied {
    /// Everything was done.
    Done,
    /// The status was stored; this is what the API server answered.
    Stored(Arc<Workflow>),
    /// The planner wants live evidence on these stages.
    Look(Vec<String>),
    /// Another writer was quicker: what it wrote comes by the watch.
    Outrun,
}

/// Longest wait for the creation of a Job. The planner's `job_grace_millis` must exceed it.
const CREATE_TIMEOUT: Duration = Duration::from_secs(8);

/// Does what the plan says, in its order.
pub async fn apply(context: &Context, workflow: &Arc<Workflow>, plan: Plan) -> Result<Applied, ApplyError> {
    let looks: Vec<String> = plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Look { stage } => Some(stage.clone()),
            _ => None,
        })
        .collect();
    if !looks.is_empty() {
        return Ok(Applied::Look(looks));
    }
    let mut stored = None;
    for action in plan.actions {
        let current = stored.as_ref().unwrap_or(workflow);
        match action {
            Action::Look { .. } => {}
            Action::Pin(run) => pin(context, workflow, &run).await?,
            Action::Store(status) => match store(context, current, &status).await? {
                Some(updated) => stored = Some(updated),
                None => return Ok(Applied::Outrun),
            },
            Action::Start(task) => start(context, current, &task).await?,
            Action::Close { job } => close(context, workflow, &job).await?,
            Action::Acknowledge(key) => acknowledge(context, current, &key),
            Action::Record(notice) => record(context, current, notice),
        }
    }
    Ok(stored.map_or(Applied::Done, Applied::Stored))
}

/// Keeps the run in an immutable ConfigMap. That it is there already means that an earlier try got this far; the digest
/// in the status tells whether it is the same.
async fn pin(context: &Context, workflow: &Workflow, run: &Run) -> Result<(), ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let uid = workflow.uid().unwrap_or_default();
    let config_map: ConfigMap = serde_json::from_value(json!({
        "metadata": {
            "name": name::run(&workflow.name_any(), &uid),
            "labels": {
                stagecraft_api::label::MANAGED_BY: stagecraft_api::label::MANAGED_BY_VALUE,
                stagecraft_api::label::WORKFLOW: workflow.name_any(),
                stagecraft_api::label::WORKFLOW_UID: uid,
            },
            "ownerReferences": [workflow.controller_owner_ref(&())],
        },
        "immutable": true,
        "data": {RUN_ENTRY: run_text(run)},
    }))?;
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    match api.create(&PostParams::default(), &config_map).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            // A crash between creation and status left it; what it refers to may have changed since. Nothing names it yet.
            replace_leftover(&api, &config_map).await?;
        }
        Err(error) => return Err(ApplyError::Pin(error)),
    }
    context.runs.insert(run_digest(run), run.clone());
    Ok(())
}

async fn replace_leftover(api: &Api<ConfigMap>, config_map: &ConfigMap) -> Result<(), ApplyError> {
    let name = config_map.name_any();
    let found = api.get(&name).await.map_err(ApplyError::Pin)?;
    if found.data == config_map.data {
        return Ok(());
    }
    api.delete(&name, &DeleteParams::default())
        .await
        .map_err(ApplyError::Pin)?;
    api.create(&PostParams::default(), config_map)
        .await
        .map_err(ApplyError::Pin)?;
    Ok(())
}

/// Patches the status of exactly the version that was looked at. None: somebody else has written since.
async fn store(
    context: &Context,
    workflow: &Workflow,
    status: &WorkflowStatus,
) -> Result<Option<Arc<Workflow>>, ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let before = serde_json::to_value(workflow.status.clone().unwrap_or_default())?;
    let Some(mut change) = merge_patch(&before, &serde_json::to_value(status)?) else {
        return Ok(None);
    };
    if workflow.status.is_none() {
        change = serde_json::to_value(status)?;
    }
    let patch = json!({
        "metadata": {"resourceVersion": workflow.resource_version()},
        "status": change,
    });
    let api: Api<Workflow> = Api::namespaced(context.client.clone(), &namespace);
    let timer = context.metrics.status_patch.start_timer();
    let answer = api
        .patch_status(
            &workflow.name_any(),
            &PatchParams::default(),
            &Patch::Merge(&patch),
        )
        .await;
    timer.observe_duration();
    match answer {
        Ok(updated) => {
            let updated = Arc::new(updated);
            context.written.remember(updated.clone());
            Ok(Some(updated))
        }
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() || refusal.is_not_found() => Ok(None),
        Err(error) => Err(ApplyError::Store(error)),
    }
}

/// Creates the Job of a licensed attempt, once. Every doubt about the outcome is left to the next look: it finds the Job,
/// or burns the attempt after its grace.
async fn start(context: &Context, workflow: &Workflow, task: &TaskEnvelope) -> Result<(), ApplyError> {
    let reference = workflow
        .status
        .as_ref()
        .and_then(|status| status.run_ref.as_ref())
        .and_then(|run| context.runs.get(&run.digest));
    let run = reference.ok_or_else(|| ApplyError::NoStage(task.attempt.stage.clone()))?;
    let stage = run
        .stage(&task.attempt.stage)
        .ok_or_else(|| ApplyError::NoStage(task.attempt.stage.clone()))?;
    let job = job(workflow, &stage.agent, task, &context.pod)?;
    let api: Api<Job> = Api::namespaced(context.client.clone(), &task.workflow.namespace);
    let parameters = PostParams::default();
    let creation = api.create(&parameters, &job);
    match tokio::time::timeout(CREATE_TIMEOUT, creation).await {
        Ok(Ok(created)) => {
            context.jobs.note(&created);
            measure_hand_off(context, workflow, task);
            tracing::info!(
                workflow = task.workflow.name,
                namespace = task.workflow.namespace,
                stage = task.attempt.stage,
                attempt = task.attempt.attempt,
                trace_id = task.trace_id,
                job = created.name_any(),
                "job created"
            );
            announce(context, task);
        }
        Ok(Err(error)) => {
            context.refusals.note(&task.attempt, &error);
            tracing::warn!(
            workflow = task.workflow.name,
            namespace = task.workflow.namespace,
            stage = task.attempt.stage,
            attempt = task.attempt.attempt,
            trace_id = task.trace_id,
            error = &error as &dyn std::error::Error,
            "the job was not created"
        );
        }
        Err(_) => tracing::warn!(
            workflow = task.workflow.name,
            namespace = task.workflow.namespace,
            stage = task.attempt.stage,
            attempt = task.attempt.attempt,
            trace_id = task.trace_id,
            "whether the job was created is not known yet"
        ),
    }
    Ok(())
}

/// From the gateway's acceptance of a result to the API server's acceptance of the Job that follows it.
fn measure_hand_off(context: &Context, workflow: &Workflow, task: &TaskEnvelope) {
    let now = Moment::now();
    let stages = workflow.status.iter().flat_map(|status| &status.stages);
    let accepted = stages
        .map(|stage| AttemptKey {
            workflow_uid: task.attempt.workflow_uid.clone(),
            stage: stage.name.clone(),
            attempt: stage.attempt,
        })
        .filter_map(|key| context.results.get(&key))
        .filter_map(|announced| announced.accepted_at)
        .max();
    if let Some(accepted) = accepted {
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds of a hand-off are far below 2^52"
        )]
        context
            .metrics
            .hand_off
            .observe(now.millis_since(accepted) as f64 / 1000.0);
        tracing::info!(
            workflow = task.workflow.name,
            stage = task.attempt.stage,
            attempt = task.attempt.attempt,
            hand_off_millis = now.millis_since(accepted),
            "handed off"
        );
    }
}

/// Redis is never waited for on the way of a Workflow.
fn announce(context: &Context, task: &TaskEnvelope) {
    let (queue, task) = (context.queue.clone(), task.clone());
    tokio::spawn(async move {
        if let Err(error) = queue.announce(&task).await {
            tracing::warn!(
                workflow = task.workflow.name,
                stage = task.attempt.stage,
                attempt = task.attempt.attempt,
                error = &error as &dyn std::error::Error,
                "the task was not announced; its runner adds it"
            );
        }
    });
}

fn acknowledge(context: &Context, workflow: &Workflow, key: &AttemptKey) {
    let entries = context
        .results
        .take(key)
        .map(|announced| announced.entries)
        .unwrap_or_default();
    let stages = workflow.status.iter().flat_map(|status| &status.stages);
    let agent = stages
        .into_iter()
        .find(|stage| stage.name == key.stage)
        .map(|stage| stage.agent.clone());
    let (queue, key, agent) = (context.queue.clone(), key.clone(), agent.unwrap_or_default());
    tokio::spawn(async move {
        if let Err(error) = queue.remove(&agent, &key, &entries).await {
            tracing::debug!(attempt = %key, error = &error as &dyn std::error::Error, "not acknowledged");
        }
    });
}

async fn close(context: &Context, workflow: &Workflow, name: &str) -> Result<(), ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let api: Api<Job> = Api::namespaced(context.client.clone(), &namespace);
    match api.delete(name, &DeleteParams::background()).await {
        Ok(_) => {
            tracing::info!(
                workflow = workflow.name_any(),
                namespace,
                job = name,
                "job deleted"
            );
            Ok(())
        }
        Err(kube::Error::Api(refusal)) if refusal.is_not_found() => Ok(()),
        Err(source) => Err(ApplyError::Close {
            name: name.to_owned(),
            source,
        }),
    }
}

/// Events are for people; losing one loses nothing.
fn record(context: &Context, workflow: &Workflow, notice: Notice) {
    let Notice {
        warning,
        reason,
        message,
    } = notice;
    context.metrics.events.with_label_values(&[reason]).inc();
    tracing::info!(
        workflow = workflow.name_any(),
        namespace = workflow.namespace().unwrap_or_default(),
        trace_id = name::trace_id(&workflow.uid().unwrap_or_default()),
        reason,
        "{message}"
    );
    let event = Event {
        type_: if warning {
            EventType::Warning
        } else {
            EventType::Normal
        },
        reason: reason.to_owned(),
        note: Some(message),
        action: reason.to_owned(),
        secondary: None,
    };
    let (recorder, reference) = (context.recorder.clone(), workflow.object_ref(&()));
    tokio::spawn(async move {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "an Event was not recorded"
            );
        }
    });
}
