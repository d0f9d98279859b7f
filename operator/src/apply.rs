//! The second half of the loop, and the only writer.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType};
use kube::{Resource as _, ResourceExt as _};
use serde_json::json;
use stagecraft_api::run::{RUN_ENTRY, Run};
use stagecraft_api::status::WorkflowStatus;
use stagecraft_api::{Approval, ApprovalSpec, AttemptKey, Workflow, label, name};
use stagecraft_core::envelope::{run_digest, run_text};
use stagecraft_core::merge::merge_patch;
use stagecraft_core::plan::{Action, Notice, Plan};
use stagecraft_core::tally::tally;

use crate::controller::Context;
use crate::dispatch::{close, start};
use crate::metrics::seconds;

/// What keeps an action from being done. The next look at the Workflow decides what follows.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error("the status could not be stored")]
    Store(#[source] kube::Error),
    #[error("the ConfigMap of the run could not be created")]
    Pin(#[source] kube::Error),
    #[error("Job {name} could not be deleted")]
    Close { name: String, source: kube::Error },
    #[error("the Workflow, whose time to live is over, could not be deleted")]
    Delete(#[source] kube::Error),
    #[error("the Approval could not be created")]
    Ask(#[source] kube::Error),
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
    let mut closed = Ok(());
    let (mut tasks, mut accounted, mut notices) = (Vec::new(), Vec::new(), Vec::new());
    for action in plan.actions {
        let current = stored.as_ref().unwrap_or(workflow);
        match action {
            Action::Look { .. } => {}
            Action::Pin(run) => pin(context, workflow, &run).await?,
            Action::Store(status) => match store(context, current, &status).await? {
                Some(updated) => stored = Some(updated),
                None => return Ok(Applied::Outrun),
            },
            Action::Start(task) => tasks.push(task),
            // What the patch licensed is started all the same.
            Action::Close { job, key } => closed = close(context, workflow, &job, &key).await.and(closed),
            Action::Acknowledge(key) => accounted.push(key),
            Action::Record(notice) => notices.push(notice),
            Action::Ask { name, request } => ask(context, current, &name, *request).await?,
            Action::Delete => delete(context, current).await?,
        }
    }
    let current = stored.as_ref().unwrap_or(workflow);
    // Together, since a later one must not wait for an earlier one's timeout.
    join_all(tasks.iter().map(|task| start(context, current, task))).await;
    for key in &accounted {
        acknowledge(context, current, key);
    }
    // After the Jobs, whose creation the Events would slow down.
    for notice in notices {
        record(context, current, notice);
    }
    closed?;
    Ok(stored.map_or(Applied::Done, Applied::Stored))
}

/// Keeps the run in an immutable ConfigMap. That it is there already means that an earlier try, or another operator, got this far.
async fn pin(context: &Context, workflow: &Workflow, run: &Run) -> Result<(), ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let uid = workflow.uid().unwrap_or_default();
    let digest = run_digest(run);
    let config_map: ConfigMap = serde_json::from_value(json!({
        "metadata": {
            "name": name::run(&workflow.name_any(), &uid, &digest),
            "labels": {
                label::MANAGED_BY: label::MANAGED_BY_VALUE,
                label::WORKFLOW: workflow.name_any(),
                label::WORKFLOW_UID: uid,
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
            replace_forgery(&api, &config_map).await?;
        }
        Err(error) => return Err(ApplyError::Pin(error)),
    }
    context.runs.insert(digest, run.clone());
    Ok(())
}

/// Takes the name from whatever has other content than the name says: that nobody here has made.
async fn replace_forgery(api: &Api<ConfigMap>, config_map: &ConfigMap) -> Result<(), ApplyError> {
    let name = config_map.name_any();
    let found = api.get(&name).await.map_err(ApplyError::Pin)?;
    if found.data == config_map.data {
        return Ok(());
    }
    let this_one = Preconditions {
        uid: found.metadata.uid,
        resource_version: None,
    };
    api.delete(&name, &DeleteParams::default().preconditions(this_one))
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
    let outcome = |name| context.metrics.status_patches.with_label_values(&[name]).inc();
    match answer {
        Ok(updated) => {
            outcome("stored");
            let before = workflow.status.clone().unwrap_or_default();
            context.metrics.count(&tally(&before, status));
            let updated = Arc::new(updated);
            context.written.remember(updated.clone());
            Ok(Some(updated))
        }
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() || refusal.is_not_found() => {
            outcome("conflict");
            Ok(None)
        }
        Err(error) => {
            outcome("failed");
            Err(ApplyError::Store(error))
        }
    }
}

/// Asks a person. That the Approval is there already means that an earlier try got this far.
async fn ask(
    context: &Context,
    workflow: &Workflow,
    name: &str,
    request: ApprovalSpec,
) -> Result<(), ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let mut approval = Approval::new(name, request);
    approval.metadata.labels = Some(
        [
            (label::MANAGED_BY, label::MANAGED_BY_VALUE.to_owned()),
            (label::WORKFLOW, workflow.name_any()),
            (label::WORKFLOW_UID, workflow.uid().unwrap_or_default()),
            (label::STAGE, approval.spec.stage.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    );
    approval.metadata.owner_references = workflow.controller_owner_ref(&()).map(|owner| vec![owner]);
    let api: Api<Approval> = Api::namespaced(context.client.clone(), &namespace);
    match api.create(&PostParams::default(), &approval).await {
        Ok(created) => {
            context.approvals.note(&created);
            Ok(())
        }
        Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => Ok(()),
        Err(error) => Err(ApplyError::Ask(error)),
    }
}

/// Deletes exactly what was looked at: whoever asks for a new run at the same moment keeps the Workflow.
async fn delete(context: &Context, workflow: &Workflow) -> Result<(), ApplyError> {
    let namespace = workflow.namespace().ok_or(ApplyError::NoNamespace)?;
    let parameters = DeleteParams::background().preconditions(Preconditions {
        uid: workflow.uid(),
        resource_version: workflow.resource_version(),
    });
    let api: Api<Workflow> = Api::namespaced(context.client.clone(), &namespace);
    match api.delete(&workflow.name_any(), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(refusal)) if refusal.is_conflict() || refusal.is_not_found() => Ok(()),
        Err(error) => Err(ApplyError::Delete(error)),
    }
}

fn acknowledge(context: &Context, workflow: &Workflow, key: &AttemptKey) {
    let announced = context.results.take(key);
    if let Some(accepted) = announced.as_ref().and_then(|announced| announced.accepted_at) {
        let latency = context.clock.now().millis_since(accepted);
        context.metrics.result_latency.observe(seconds(latency));
    }
    let entries = announced.map(|announced| announced.entries).unwrap_or_default();
    let stages = workflow.status.iter().flat_map(|status| &status.stages);
    let agent = stages
        .into_iter()
        .find(|stage| stage.name == key.stage)
        .map(|stage| stage.agent.clone());
    let (queue, key, agent) = (context.queue.clone(), key.clone(), agent.unwrap_or_default());
    tokio::spawn(async move {
        if let Err(error) = queue.remove(&agent, &key, &entries).await {
            tracing::debug!(
                stage = key.stage,
                attempt = key.attempt,
                trace_id = name::trace_id(&key.workflow_uid),
                error = &error as &dyn std::error::Error,
                "not acknowledged"
            );
        }
    });
}

/// Events are for people; losing one loses nothing.
fn record(context: &Context, workflow: &Workflow, notice: Notice) {
    let Notice {
        about,
        warning,
        reason,
        message,
    } = notice;
    context.metrics.events.with_label_values(&[reason]).inc();
    tracing::info!(
        workflow = workflow.name_any(),
        namespace = workflow.namespace().unwrap_or_default(),
        stage = about.as_ref().map(|key| key.stage.as_str()),
        attempt = about.as_ref().map(|key| key.attempt),
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
