//! From Kubernetes objects to the planner's evidence: pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use stagecraft_api::moment::Moment;
use stagecraft_api::{AttemptKey, label};
use stagecraft_core::observation::{ContainerEnd, JobEvidence, OpenJob, PodEvidence, PodPhase};

/// Label by which Kubernetes joins a Pod to its Job.
pub const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Evidence from a Job that was found under the name of the attempt.
pub fn of_job(job: &Job, key: &AttemptKey, trouble: Option<String>) -> JobEvidence {
    if !belongs(job, key) {
        return JobEvidence::Foreign;
    }
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let holds = |type_: &str| {
        conditions
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == "True")
    };
    let failure = holds("Failed")
        .or_else(|| holds("FailureTarget"))
        .map(|condition| {
            let reason = condition.reason.as_deref().unwrap_or("Failed");
            let message = condition.message.as_deref().unwrap_or_default();
            format!("{reason}: {message}")
        });
    JobEvidence::Present {
        failure,
        complete: holds("Complete").is_some() || holds("SuccessCriteriaMet").is_some(),
        deleting: job.metadata.deletion_timestamp.is_some(),
        trouble,
    }
}

/// A Job that has not ended, for putting away what is left over.
pub fn open_job(job: &Job) -> Option<OpenJob> {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    let ended = conditions.iter().any(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    });
    if ended {
        return None;
    }
    let labels = job.metadata.labels.as_ref()?;
    Some(OpenJob {
        name: job.metadata.name.clone()?,
        stage: labels.get(label::STAGE)?.clone(),
        attempt: labels.get(label::ATTEMPT)?.parse().ok()?,
        deleting: job.metadata.deletion_timestamp.is_some(),
    })
}

/// A Pod that has not ended, as its Job would be: for one whose Job is gone.
pub fn open_pod(pod: &Pod) -> Option<OpenJob> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return None;
    }
    let labels = pod.metadata.labels.as_ref()?;
    Some(OpenJob {
        name: labels.get(JOB_NAME)?.clone(),
        stage: labels.get(label::STAGE)?.clone(),
        attempt: labels.get(label::ATTEMPT)?.parse().ok()?,
        deleting: pod.metadata.deletion_timestamp.is_some(),
    })
}

/// The labels are ours and the controller is the Workflow of this UID.
fn belongs(job: &Job, key: &AttemptKey) -> bool {
    let labels = job.metadata.labels.clone().unwrap_or_default();
    let labelled = labels.get(label::STAGE) == Some(&key.stage)
        && labels.get(label::ATTEMPT) == Some(&key.attempt.to_string())
        && labels.get(label::WORKFLOW_UID) == Some(&key.workflow_uid);
    let owners = job.metadata.owner_references.as_deref().unwrap_or_default();
    labelled
        && owners
            .iter()
            .any(|owner| owner.controller == Some(true) && owner.uid == key.workflow_uid)
}

/// Whether the Job's controller has been able to make a Pod.
pub fn has_made_a_pod(job: &Job) -> bool {
    job.status.as_ref().is_some_and(|status| {
        [status.active, status.failed, status.succeeded]
            .iter()
            .any(|count| count.unwrap_or(0) > 0)
    })
}

/// Evidence from the Pod of an attempt.
pub fn of_pod(pod: &Pod) -> PodEvidence {
    let status = pod.status.clone().unwrap_or_default();
    let phase = match status.phase.as_deref() {
        Some("Pending") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        _ => PodPhase::Unknown,
    };
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let sidecars = status.init_container_statuses.as_deref().unwrap_or_default();
    let agent = containers.iter().find(|container| container.name == "agent");
    let reason = status.reason.as_ref().map(|reason| match &status.message {
        Some(message) => format!("{reason}: {message}"),
        None => reason.clone(),
    });
    let node_lost = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "Ready"
            && condition.status != "True"
            && condition.reason.as_deref() == Some("NodeLost")
    });
    PodEvidence {
        name: pod.metadata.name.clone().unwrap_or_default(),
        phase,
        deleting_since: pod
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|time| deletion_requested(pod, time)),
        node_lost_since: node_lost
            .and_then(|condition| condition.last_transition_time.as_ref())
            .map(moment),
        reason,
        trouble: trouble(&status.conditions.unwrap_or_default(), sidecars, containers),
        agent_end: agent.and_then(container_end),
    }
}

/// The message of the newest of these Events. That no node took a Pod stays among its Events when one has taken it; its status says how
/// that stands.
pub fn latest_warning(events: Vec<Event>) -> Option<String> {
    let told = events
        .into_iter()
        .filter(|event| event.reason.as_deref() != Some("FailedScheduling"));
    let newest = told.max_by_key(|event| {
        let series = event
            .series
            .as_ref()
            .and_then(|series| series.last_observed_time.as_ref());
        let micro = series.or(event.event_time.as_ref()).map(|time| time.0);
        let time = event.last_timestamp.as_ref().map(|time| time.0).max(micro);
        // Of one second: "Failed to pull image ...: connection refused" before "Error: ErrImagePull".
        (time, event.message.as_ref().map(String::len))
    });
    newest?.message
}

/// The deletion timestamp lies in the future by the grace period.
fn deletion_requested(pod: &Pod, deletion: &Time) -> Moment {
    let grace = u64::try_from(pod.metadata.deletion_grace_period_seconds.unwrap_or(0)).unwrap_or(0);
    let millis = jiff::SignedDuration::from_secs(i64::try_from(grace).unwrap_or(0));
    Moment::new(deletion.0.checked_sub(millis).unwrap_or(deletion.0))
}

fn moment(time: &Time) -> Moment {
    Moment::new(time.0)
}

fn container_end(container: &ContainerStatus) -> Option<ContainerEnd> {
    let terminated = container.state.as_ref()?.terminated.as_ref()?;
    Some(ContainerEnd {
        exit_code: terminated.exit_code,
        reason: terminated.reason.clone().unwrap_or_default(),
        message: terminated.message.clone().unwrap_or_default(),
    })
}

/// Reasons for which a container waits that a person should see at once; starting up is none of them.
const TROUBLE: [&str; 9] = [
    "ImagePullBackOff",
    "ErrImagePull",
    "InvalidImageName",
    "ErrImageNeverPull",
    "RegistryUnavailable",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
];

fn trouble(
    conditions: &[k8s_openapi::api::core::v1::PodCondition],
    sidecars: &[ContainerStatus],
    containers: &[ContainerStatus],
) -> Option<String> {
    let unscheduled = conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| {
            format!(
                "no node takes the Pod: {}",
                condition.message.as_deref().unwrap_or("no reason given")
            )
        });
    unscheduled.or_else(|| sidecars.iter().chain(containers).find_map(waiting_trouble))
}

fn waiting_trouble(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if !TROUBLE.contains(&reason) {
        return None;
    }
    // The kubelet alternates between a pull and its backoff, with growing times: one text for both keeps status still.
    if matches!(reason, "ErrImagePull" | "ImagePullBackOff") {
        return Some(format!(
            "image {} of container {} cannot be pulled: check the image's name and the registry's access; the Pod's \
             Events have the details",
            container.image, container.name
        ));
    }
    let detail = if reason.contains("BackOff") {
        ""
    } else {
        waiting.message.as_deref().unwrap_or_default()
    };
    Some(
        format!("container {} cannot start: {reason} {detail}", container.name)
            .trim_end()
            .to_owned(),
    )
}
