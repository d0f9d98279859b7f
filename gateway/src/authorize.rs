//! Is this Pod the current attempt? Pure decisions over the Pod, its Job and its Workflow as they were read.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::DynamicObject;
use serde::Deserialize;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::{AttemptKey, GROUP, label};

use crate::identity::PodIdentity;

/// A Pod of an attempt, current or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    pub key: AttemptKey,
    pub namespace: String,
    /// Name of the Workflow.
    pub workflow: String,
    /// Name of the Job.
    pub job: String,
    pub pod: MemberPod,
    pub envelope: TaskEnvelope,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberPod {
    pub uid: String,
    pub name: String,
    pub node: String,
}

/// Why a Pod may not act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// It never belonged to an attempt.
    #[error("{0}")]
    NoAttempt(String),
    /// It belongs to an attempt that is over, or not what the Workflow waits for.
    #[error("{0}")]
    NotCurrent(String),
    /// The Workflow cannot be understood, so nothing can be said.
    #[error("{0}")]
    Unreadable(String),
}

/// Name and UID of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub name: String,
    pub uid: String,
}

/// The Job that the caller's Pod belongs to.
pub fn owning_job(caller: &PodIdentity, pod: Option<&Pod>) -> Result<Owner, Denial> {
    let pod = pod.ok_or_else(|| no_attempt("it is gone"))?;
    if pod.metadata.uid.as_deref() != Some(caller.uid.as_str()) {
        return Err(no_attempt("another Pod has its name now"));
    }
    let owner =
        controller(&pod.metadata, "batch", "Job").ok_or_else(|| no_attempt("no Job controls the Pod"))?;
    match pod.status.as_ref().and_then(|status| status.phase.as_deref()) {
        Some(phase @ ("Succeeded" | "Failed")) => Err(not_current(format!("the Pod has phase {phase}"))),
        _ => Ok(owner),
    }
}

/// The attempt that the Job stands for, and the Workflow that it belongs to.
pub fn owning_workflow(
    caller: &PodIdentity,
    pod: &Pod,
    owner: &Owner,
    job: Option<&Job>,
) -> Result<(Member, Owner), Denial> {
    let job = job.ok_or_else(|| not_current("the Job is gone"))?;
    if job.metadata.uid.as_deref() != Some(owner.uid.as_str()) {
        return Err(not_current("another Job has the name of the Pod's"));
    }
    let labelled = |key: &str| {
        job.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .ok_or_else(|| no_attempt(format!("the Job has no label {key}")))
    };
    if labelled(label::MANAGED_BY)? != label::MANAGED_BY_VALUE {
        return Err(no_attempt("the Job is not Stagecraft's"));
    }
    let key = AttemptKey {
        workflow_uid: labelled(label::WORKFLOW_UID)?.clone(),
        stage: labelled(label::STAGE)?.clone(),
        attempt: labelled(label::ATTEMPT)?
            .parse()
            .ok()
            .filter(|attempt| *attempt > 0)
            .ok_or_else(|| no_attempt("the Job's attempt is not a number"))?,
    };
    let workflow = controller(&job.metadata, GROUP, "Workflow")
        .ok_or_else(|| no_attempt("no Workflow controls the Job"))?;
    if workflow.uid != key.workflow_uid {
        return Err(no_attempt("the Job is labelled for another Workflow"));
    }
    let envelope: TaskEnvelope = job
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(label::ENVELOPE))
        .and_then(|text| serde_json::from_str(text).ok())
        .ok_or_else(|| no_attempt("the Job carries no task that can be read"))?;
    if envelope.attempt != key {
        return Err(no_attempt("the Job carries the task of another attempt"));
    }
    let member = Member {
        key,
        namespace: caller.namespace.clone(),
        workflow: workflow.name.clone(),
        job: owner.name.clone(),
        pod: MemberPod {
            uid: caller.uid.clone(),
            name: caller.name.clone(),
            node: pod
                .spec
                .as_ref()
                .and_then(|spec| spec.node_name.clone())
                .unwrap_or_default(),
        },
        envelope,
    };
    Ok((member, workflow))
}

/// Whether the Workflow waits for this attempt. Only what is needed is decoded, so that a Workflow which a newer or older
/// release wrote still counts.
pub fn current(member: &Member, owner: &Owner, workflow: Option<&DynamicObject>) -> Result<(), Denial> {
    let workflow = workflow.ok_or_else(|| not_current("the Workflow is gone"))?;
    if workflow.metadata.uid.as_deref() != Some(owner.uid.as_str()) {
        return Err(not_current("another Workflow has the name of the Job's"));
    }
    if workflow.metadata.deletion_timestamp.is_some() {
        return Err(not_current("the Workflow is being deleted"));
    }
    let status = workflow.data.get("status").cloned().unwrap_or_default();
    let status: Option<Status> = serde_json::from_value(status).map_err(|error| {
        Denial::Unreadable(format!(
            "the status of the Workflow {}/{} cannot be decoded: {error}",
            member.namespace, member.workflow
        ))
    })?;
    let stages = status.unwrap_or_default().stages;
    let stage = stages
        .iter()
        .find(|stage| stage.name == member.key.stage)
        .ok_or_else(|| not_current("the Workflow has no such stage"))?;
    if stage.attempt != member.key.attempt {
        return Err(not_current(format!("the stage is at attempt {}", stage.attempt)));
    }
    if stage.phase != "Running" {
        return Err(not_current(format!("the stage has phase {}", stage.phase)));
    }
    if stage.job != member.job {
        return Err(not_current("the stage runs in another Job"));
    }
    Ok(())
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    stages: Vec<Stage>,
}

#[derive(Deserialize)]
struct Stage {
    name: String,
    #[serde(default)]
    phase: String,
    #[serde(default)]
    attempt: u32,
    #[serde(default)]
    job: String,
}

/// The controlling owner, if it is of this group and kind.
fn controller(metadata: &ObjectMeta, group: &str, kind: &str) -> Option<Owner> {
    let is_wanted = |reference: &&OwnerReference| {
        reference.controller == Some(true)
            && reference.kind == kind
            && reference.api_version.split('/').next() == Some(group)
    };
    metadata
        .owner_references
        .as_ref()?
        .iter()
        .find(is_wanted)
        .map(|reference| Owner {
            name: reference.name.clone(),
            uid: reference.uid.clone(),
        })
}

fn no_attempt(reason: impl Into<String>) -> Denial {
    Denial::NoAttempt(reason.into())
}

fn not_current(reason: impl Into<String>) -> Denial {
    Denial::NotCurrent(reason.into())
}

#[cfg(test)]
mod tests;
