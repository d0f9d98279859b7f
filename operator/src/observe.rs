//! The first half of the loop: collects what there is to see of one Workflow. Cheap from memory; live where the planner
//! asked for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{Api, ListParams};
use kube::{ResourceExt, runtime::reflector::Store};
use stagecraft_api::budget::ModelUsage;
use stagecraft_api::run::{RUN_ENTRY, Run};
use stagecraft_api::status::{RunRef, StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_api::{
    Agent, Approval, AttemptKey, Digest, ModelProvider, Moment, Workflow, WorkflowTemplate, label, limit,
};
use stagecraft_core::Observation;
use stagecraft_core::admit::Admission;
use stagecraft_core::approval::ApprovalEvidence;
use stagecraft_core::observation::{
    AttemptEvidence, Identity, JobEvidence, OpenJob, PodEvidence, PodPhase, ResultEvidence, RunEvidence,
};
use stagecraft_core::resolve::Catalog;
use stagecraft_core::retry;

use crate::controller::Context;
use crate::evidence;

/// From this age on a Job without a Pod, and a Pod that does not start, are asked for their Events.
const SLOW_MILLIS: u64 = 1_500;

/// What keeps the operator from seeing.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("{what} could not be read")]
    Read { what: &'static str, source: kube::Error },
    #[error("the Workflow has no {0}")]
    Incomplete(&'static str),
}

/// Sees one Workflow; the stages in `live` are read from the API server and asked for at the gateway.
pub async fn observe(
    context: &Context,
    workflow: &Workflow,
    live: &BTreeSet<String>,
) -> Result<Observation, ObserveError> {
    let identity = identity(workflow)?;
    let status = workflow.status.clone().unwrap_or_default();
    let run = run(context, &identity, &workflow.spec, &status).await?;
    let mut attempts = BTreeMap::new();
    for stage in status
        .stages
        .iter()
        .filter(|stage| stage.phase == StagePhase::Running)
    {
        let key = AttemptKey {
            workflow_uid: identity.uid.clone(),
            stage: stage.name.clone(),
            attempt: stage.attempt,
        };
        let seen = if live.contains(&stage.name) {
            look(context, &identity, stage, &key).await?
        } else {
            glance(context, &identity, stage, &key).await?
        };
        attempts.insert(stage.name.clone(), seen);
    }
    let used = used(context, &identity.uid, &run, &attempts).await;
    let model = match &run {
        RunEvidence::Pinned(run) => run.model.as_ref(),
        RunEvidence::NotPinned(_) | RunEvidence::Lost(_) => None,
    };
    let model_trouble = model.and_then(|model| {
        let now = context.clock.now();
        context.model_trouble(&identity.namespace, &model.provider, now)
    });
    Ok(Observation {
        now: context.clock.now(),
        spec: workflow.spec.clone(),
        run,
        attempts,
        open_jobs: open_jobs(context, &identity.uid),
        announced: context.results.of_workflow(&identity.uid),
        approvals: approvals(context, &identity.uid),
        admission: Admission::Unasked,
        used,
        model_trouble,
        superseded_by: context.admission.superseded_by(workflow),
        identity,
        status,
    })
}

/// Of Workflows that may call models.
async fn used(
    context: &Context,
    uid: &str,
    run: &RunEvidence,
    attempts: &BTreeMap<String, AttemptEvidence>,
) -> Option<Vec<ModelUsage>> {
    match run {
        RunEvidence::Pinned(run) if run.model.is_some() => {
            let ended = attempts
                .values()
                .any(|seen| seen.live || matches!(seen.result, ResultEvidence::Some(_)));
            context.usages.get(&*context.gateway, uid, ended).await
        }
        _ => None,
    }
}

fn approvals(context: &Context, uid: &str) -> BTreeMap<String, ApprovalEvidence> {
    let alive = context.approvals.all(uid);
    let alive = alive
        .iter()
        .filter(|approval| approval.metadata.deletion_timestamp.is_none());
    alive
        .map(|approval| {
            let evidence = ApprovalEvidence {
                expires_at: approval.spec.expires_at,
                decision: approval.spec.decision.clone(),
                decided_at: decided_at(approval),
            };
            (approval.name_any(), evidence)
        })
        .collect()
}

/// When the API server took the decision. Whoever decides cannot choose it, since each write has the server's own time.
fn decided_at(approval: &Approval) -> Option<Moment> {
    let entries = approval.metadata.managed_fields.iter().flatten();
    let of_decision = entries.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:decision").is_some())
    });
    let times = of_decision.filter_map(|entry| entry.time.as_ref());
    times.map(|time| Moment::new(time.0)).max()
}

fn identity(workflow: &Workflow) -> Result<Identity, ObserveError> {
    Ok(Identity {
        namespace: workflow
            .namespace()
            .ok_or(ObserveError::Incomplete("namespace"))?,
        name: workflow.name_any(),
        uid: workflow.uid().ok_or(ObserveError::Incomplete("UID"))?,
        generation: workflow.metadata.generation.unwrap_or_default(),
        metadata_bytes: serde_json::to_string(&workflow.metadata)
            .map_or(0, |metadata| limit::stored_bytes(&metadata)),
    })
}

/// Jobs that have not ended, and Pods that outlived theirs.
fn open_jobs(context: &Context, uid: &str) -> Vec<OpenJob> {
    let jobs = context.jobs.all(uid);
    let known: BTreeSet<String> = jobs.iter().map(|job| job.name_any()).collect();
    let pods = context.pods.all(uid);
    let orphans = pods
        .iter()
        .filter_map(|pod| evidence::open_pod(pod))
        .filter(|pod| !known.contains(&pod.name));
    jobs.iter()
        .filter_map(|job| evidence::open_job(job))
        .chain(orphans)
        .collect()
}

/// From memory alone, but for the gateway while the result stream is out of reach.
async fn glance(
    context: &Context,
    identity: &Identity,
    stage: &StageStatus,
    key: &AttemptKey,
) -> Result<AttemptEvidence, ObserveError> {
    let seen_before = context.jobs.seen(&identity.uid, &stage.job);
    let found = context.jobs.get(&identity.uid, &stage.job);
    let pod = pod_of(context, identity, &stage.job);
    let job = match found {
        Some(job) => of_found_job(context, &job, key, pod.is_some()).await?,
        None => missing(context, key, seen_before),
    };
    let result = match context.results.get(key) {
        Some(announced) => ResultEvidence::Some(Box::new(announced.result)),
        None if context.results.is_deaf() => match ask(context, key).await {
            ResultEvidence::None => ResultEvidence::Unknown,
            answer => answer,
        },
        None => ResultEvidence::Unknown,
    };
    Ok(AttemptEvidence {
        job,
        pod: of_found_pod(context, pod).await?,
        result,
        live: false,
    })
}

/// Live, in an order that matters: a runner hands its result in before its Pod ends, so asking the gateway after having
/// seen the end misses nothing.
async fn look(
    context: &Context,
    identity: &Identity,
    stage: &StageStatus,
    key: &AttemptKey,
) -> Result<AttemptEvidence, ObserveError> {
    let read = |what| move |source| ObserveError::Read { what, source };
    let jobs: Api<Job> = Api::namespaced(context.client.clone(), &identity.namespace);
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &identity.namespace);
    // Before the Job is read: one that another operator creates right after that, and the watch brings, was not deleted.
    let seen_before = context.jobs.seen(&identity.uid, &stage.job);
    let job = jobs.get_opt(&stage.job).await.map_err(read("the Job"))?;
    let selector = format!(
        "{}={},{}={},{}={}",
        label::WORKFLOW_UID,
        key.workflow_uid,
        label::STAGE,
        key.stage,
        label::ATTEMPT,
        key.attempt
    );
    let found = pods
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(read("the Pod"))?;
    let pod = newest(found.items.into_iter().map(Arc::new));
    let job = match job {
        Some(job) => of_found_job(context, &job, key, pod.is_some()).await?,
        None => missing(context, key, seen_before),
    };
    let result = ask(context, key).await;
    Ok(AttemptEvidence {
        job,
        pod: of_found_pod(context, pod).await?,
        result,
        live: true,
    })
}

/// There is a Job; without a Pod, its Events may tell why.
async fn of_found_job(
    context: &Context,
    job: &Job,
    key: &AttemptKey,
    has_pod: bool,
) -> Result<JobEvidence, ObserveError> {
    let trouble = if has_pod {
        None
    } else {
        podless_trouble(context, job).await?
    };
    Ok(evidence::of_job(job, key, trouble))
}

/// There is no Job: it was refused, deleted, or never came.
fn missing(context: &Context, key: &AttemptKey, seen_before: bool) -> JobEvidence {
    match context.refusals.get(key) {
        Some(answer) => JobEvidence::Refused(answer),
        None => JobEvidence::Missing { seen_before },
    }
}

async fn ask(context: &Context, key: &AttemptKey) -> ResultEvidence {
    match context.gateway.result(key).await {
        Ok(Some(result)) => ResultEvidence::Some(Box::new(result)),
        Ok(None) => ResultEvidence::None,
        Err(error) => ResultEvidence::Unavailable(error.to_string()),
    }
}

fn pod_of(context: &Context, identity: &Identity, job: &str) -> Option<Arc<Pod>> {
    let belongs = |pod: &Arc<Pod>| {
        pod.labels()
            .get(evidence::JOB_NAME)
            .is_some_and(|name| name == job)
    };
    newest(context.pods.all(&identity.uid).into_iter().filter(belongs))
}

fn newest(pods: impl Iterator<Item = Arc<Pod>>) -> Option<Arc<Pod>> {
    pods.max_by_key(|pod| pod.creation_timestamp().map(|time| time.0))
}

/// There is a Pod; while it does not start, its Events may tell why before its status does.
async fn of_found_pod(context: &Context, pod: Option<Arc<Pod>>) -> Result<Option<PodEvidence>, ObserveError> {
    let Some(pod) = pod else {
        return Ok(None);
    };
    let mut seen = evidence::of_pod(&pod);
    if seen.phase == PodPhase::Pending && seen.trouble.is_none() && seen.deleting_since.is_none() {
        let warning = warning(context, pod.as_ref()).await?;
        seen.trouble = warning.map(|message| format!("the Pod does not start yet: {message}"));
    }
    Ok(Some(seen))
}

/// Why a Job that is a while old has no Pod: quota, Pod Security, a missing service account. Only its Events tell.
async fn podless_trouble(context: &Context, job: &Job) -> Result<Option<String>, ObserveError> {
    if evidence::has_made_a_pod(job) {
        return Ok(None);
    }
    let warning = warning(context, job).await?;
    Ok(warning.map(|message| format!("Kubernetes makes no Pod for the Job: {message}")))
}

/// The latest warning about an object that is a while old.
async fn warning(context: &Context, object: &impl ResourceExt) -> Result<Option<String>, ObserveError> {
    let age = object.creation_timestamp().map_or(0, |created| {
        context.clock.now().millis_since(Moment::new(created.0))
    });
    if age < SLOW_MILLIS {
        return Ok(None);
    }
    let events: Api<Event> = Api::namespaced(context.client.clone(), &object.namespace().unwrap_or_default());
    let fields = format!(
        "involvedObject.uid={},type=Warning",
        object.uid().unwrap_or_default()
    );
    let listed = events
        .list(&ListParams::default().fields(&fields))
        .await
        .map_err(|source| ObserveError::Read {
            what: "Events",
            source,
        })?;
    Ok(evidence::latest_warning(listed.items))
}

/// The run of a Workflow of which something may run.
pub async fn pinned_run(context: &Context, workflow: &Workflow) -> Result<Option<Run>, ObserveError> {
    let status = workflow.status.clone().unwrap_or_default();
    if status.run_ref.is_none() || status.phase.is_terminal() {
        return Ok(None);
    }
    let found = run(context, &identity(workflow)?, &workflow.spec, &status).await?;
    Ok(match found {
        RunEvidence::Pinned(run) => Some(run),
        RunEvidence::NotPinned(_) | RunEvidence::Lost(_) => None,
    })
}

async fn run(
    context: &Context,
    identity: &Identity,
    spec: &WorkflowSpec,
    status: &WorkflowStatus,
) -> Result<RunEvidence, ObserveError> {
    let Some(reference) = &status.run_ref else {
        return Ok(RunEvidence::NotPinned(catalog(context, &identity.namespace)));
    };
    if status.phase.is_terminal() && retry::asked(spec, status).is_none() {
        return Ok(RunEvidence::Lost("not needed any more".to_owned()));
    }
    if let Some(run) = context.runs.get(&reference.digest) {
        return Ok(RunEvidence::Pinned(run));
    }
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &identity.namespace);
    let found = api
        .get_opt(&reference.name)
        .await
        .map_err(|source| ObserveError::Read {
            what: "the ConfigMap of the run",
            source,
        })?;
    Ok(match found {
        None => RunEvidence::Lost(format!("ConfigMap {} was deleted", reference.name)),
        Some(found) => match decode_run(&found, reference) {
            Ok(run) => {
                context.runs.insert(reference.digest.clone(), run.clone());
                RunEvidence::Pinned(run)
            }
            Err(reason) => RunEvidence::Lost(reason),
        },
    })
}

/// The run in a ConfigMap, if it is the one that the status names.
pub fn decode_run(found: &ConfigMap, reference: &RunRef) -> Result<Run, String> {
    let RunRef { name, digest } = reference;
    let text = found.data.as_ref().and_then(|data| data.get(RUN_ENTRY));
    let text = text.ok_or_else(|| format!("ConfigMap {name} has no entry {RUN_ENTRY}"))?;
    if Digest::of(text.as_bytes()) != *digest {
        return Err(format!(
            "ConfigMap {name} was changed: its digest is not {digest}"
        ));
    }
    serde_json::from_str(text).map_err(|error| format!("ConfigMap {name} cannot be decoded: {error}"))
}

/// The namespace's own objects over the release's.
fn catalog(context: &Context, namespace: &str) -> Catalog {
    let release = context.namespace.as_str();
    let mut catalog = Catalog {
        registry: context.settings.registry,
        ..Catalog::default()
    };
    for provider in in_namespace(&context.providers, namespace) {
        catalog
            .providers
            .insert(provider.name_any(), provider.spec.clone());
    }
    for namespace in [release, namespace] {
        for template in in_namespace(&context.templates, namespace) {
            let name = template.name_any();
            if namespace == release && template.labels().contains_key(label::BUILT_IN) {
                catalog.types.insert(name.clone(), template.spec.clone());
            }
            catalog.templates.insert(name, template.spec.clone());
        }
        for agent in in_namespace(&context.agents, namespace) {
            if namespace != release {
                catalog.own_agents.insert(agent.name_any());
            }
            catalog.agents.insert(agent.name_any(), agent.spec.clone());
        }
    }
    catalog
}

fn in_namespace<K>(store: &Store<kube::core::DeserializeGuard<K>>, namespace: &str) -> Vec<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    store
        .state()
        .into_iter()
        .filter(|object| object.namespace().as_deref() == Some(namespace))
        .filter_map(|object| object.0.clone().ok())
        .collect()
}

/// Kinds that a Workflow refers to.
pub type Agents = Store<kube::core::DeserializeGuard<Agent>>;
pub type Templates = Store<kube::core::DeserializeGuard<WorkflowTemplate>>;
pub type Providers = Store<kube::core::DeserializeGuard<ModelProvider>>;

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagecraft_api::Moment;

    use super::decided_at;

    #[test]
    fn a_decision_was_made_when_the_api_server_took_it() {
        let approval = json!({
            "metadata": {"name": "a", "managedFields": [
                {"time": "2026-11-01T10:00:00Z", "fieldsV1": {"f:spec": {"f:expiresAt": {}}}},
                {"time": "2026-11-01T10:05:00Z", "fieldsV1": {"f:spec": {"f:decision": {"f:by": {}}}}},
                {"time": "2026-11-01T11:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {}}}},
            ]},
            "spec": {"workflow": "w", "workflowUid": "u", "stage": "s", "run": 1, "round": 0, "kind": "approval", "question": "?",
                "subject": {"digest": stagecraft_api::Digest::of(b"")}, "selfApproval": "allowed", "requestedBy": "",
                "expiresAt": "2026-11-01T10:10:00Z"},
        });
        let approval = serde_json::from_value(approval).unwrap();
        let expected: Moment = serde_json::from_value(json!("2026-11-01T10:05:00Z")).unwrap();
        assert_eq!(decided_at(&approval), Some(expected));
    }
}
