//! What the evidence says of one attempt that the status calls running.

use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::failure::{POD_NOT_STARTED, POD_TERMINATED};
use stagecraft_api::moment::Moment;
use stagecraft_api::result::AttemptResult;
use stagecraft_api::run::RunStage;
use stagecraft_api::status::StageStatus;

use crate::observation::{AttemptEvidence, JobEvidence, PodEvidence, PodPhase, ResultEvidence};
use crate::outcome::judge_result;
use crate::post_mortem::post_mortem;
use crate::settings::Settings;

/// The judgement.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It goes on. `trouble` says what keeps it from doing so, and `until` when to look again.
    Running { trouble: Option<String>, until: Moment },
    /// The cache hints at an end: read Job and Pod live, then ask the gateway, and judge again.
    Look,
    /// The time is over: record the error, delete Job and Pod, and look again at `until`. The attempt is judged when its
    /// Pod is gone; a result that comes before still counts.
    Close { error: StructuredError, until: Moment },
    /// It succeeded.
    Succeeded(Box<AttemptResult>),
    /// It failed.
    Failed(StructuredError),
}

/// Judges the current attempt of a stage. A stored result decides; without one, only live evidence that the Pod ended
/// or never came does. Silence never does.
pub fn judge(
    now: Moment,
    stage: &StageStatus,
    run: &RunStage,
    evidence: &AttemptEvidence,
    settings: &Settings,
) -> Verdict {
    let started = stage.attempt_started_at.unwrap_or(now);
    let last_call = started
        .plus_seconds(run.timeout_seconds.into())
        .plus_millis(settings.deadline_grace_millis);
    if let ResultEvidence::Some(result) = &evidence.result {
        return match judge_result(result, run) {
            Ok(result) => Verdict::Succeeded(Box::new(result)),
            Err(error) if error.code == POD_TERMINATED => told_to_end(now, last_call, stage, evidence, error),
            Err(error) => Verdict::Failed(error),
        };
    }
    match end(now, started, last_call, evidence, settings) {
        None | Some(End::Lingering { .. }) if now >= last_call && evidence.live => Verdict::Close {
            error: timeout(stage, run, evidence),
            until: now.plus_seconds(2),
        },
        None if now < last_call => Verdict::Running {
            trouble: trouble(evidence),
            until: next_look(now, started, last_call, evidence),
        },
        None => Verdict::Look,
        Some(_) if !evidence.live => Verdict::Look,
        Some(End::Lingering { trouble }) => Verdict::Running {
            trouble: Some(trouble),
            until: last_call.min(now.plus_seconds(2)),
        },
        Some(End::Going { trouble, until }) => Verdict::Running {
            trouble: Some(trouble),
            until,
        },
        Some(End::Over(error)) => over(now, stage, evidence, error),
    }
}

/// Before anything runs only Events may tell why, and nothing wakes the operator for those.
fn next_look(now: Moment, started: Moment, last_call: Moment, evidence: &AttemptEvidence) -> Moment {
    let soon = |seconds| last_call.min(now.plus_seconds(seconds));
    match &evidence.pod {
        None => soon(2),
        Some(pod) if pod.phase == PodPhase::Pending && pod.trouble.is_none() => {
            soon((now.millis_since(started) / 2_000).clamp(2, 5))
        }
        Some(_) => last_call,
    }
}

/// The runner heard the signal and no more: an eviction for too much disk, a drain and a deletion look the same to it. What the Pod says of
/// itself may come a moment later.
fn told_to_end(
    now: Moment,
    last_call: Moment,
    stage: &StageStatus,
    evidence: &AttemptEvidence,
    error: StructuredError,
) -> Verdict {
    let error = stage.error.clone().unwrap_or(error);
    let (JobEvidence::Present { deleting: false, .. }, Some(pod)) = (&evidence.job, &evidence.pod) else {
        return Verdict::Failed(error);
    };
    if pod.reason.is_some() {
        return Verdict::Failed(post_mortem(pod));
    }
    let has_ended = matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    if has_ended || pod.deleting_since.is_some() || pod.node_lost_since.is_some() || now >= last_call {
        return Verdict::Failed(error);
    }
    if !evidence.live {
        return Verdict::Look;
    }
    Verdict::Running {
        trouble: Some(format!(
            "{}; waiting for Pod {} to say which",
            error.message, pod.name
        )),
        until: last_call.min(now.plus_seconds(1)),
    }
}

/// Nothing more will come from the attempt; the gateway has the last word. What it was ended for counts before what its
/// end looked like.
fn over(now: Moment, stage: &StageStatus, evidence: &AttemptEvidence, error: StructuredError) -> Verdict {
    let error = stage.error.clone().unwrap_or(error);
    match &evidence.result {
        ResultEvidence::Unavailable(reason) => Verdict::Running {
            trouble: Some(format!(
                "{}; waiting for the gateway, which knows whether there is a result: {reason}",
                error.message
            )),
            until: now.plus_seconds(2),
        },
        ResultEvidence::Unknown | ResultEvidence::None | ResultEvidence::Some(_) => Verdict::Failed(error),
    }
}

/// How an attempt without a result is at its end, or nearly so.
enum End {
    /// Something is on its way that ends the waiting by itself.
    Going { trouble: String, until: Moment },
    /// What is left of it may stay for ever.
    Lingering { trouble: String },
    /// Nothing of it is left.
    Over(StructuredError),
}

fn end(
    now: Moment,
    started: Moment,
    last_call: Moment,
    evidence: &AttemptEvidence,
    settings: &Settings,
) -> Option<End> {
    match (&evidence.job, &evidence.pod) {
        (JobEvidence::Foreign, _) => Some(End::Over(name_taken())),
        (JobEvidence::Refused(answer), _) => Some(End::Over(refused(answer))),
        (JobEvidence::Missing { .. } | JobEvidence::Present { .. }, Some(pod))
            if pod_is_over(now, pod, settings) =>
        {
            Some(End::Over(post_mortem(pod)))
        }
        (JobEvidence::Missing { .. }, Some(pod)) => Some(leaving(now, pod, settings).unwrap_or_else(|| {
            let trouble = format!("the Job was deleted; waiting for Pod {} to end", pod.name);
            End::Lingering { trouble }
        })),
        (JobEvidence::Missing { seen_before }, None) => Some(missing(now, started, *seen_before, settings)),
        (JobEvidence::Present { deleting: true, .. }, None) => Some(if now >= last_call {
            End::Over(job_deleted())
        } else {
            End::Going {
                trouble: "the Job is being deleted".to_owned(),
                until: now.plus_seconds(1),
            }
        }),
        (JobEvidence::Present { deleting: true, .. }, Some(pod)) => {
            Some(leaving(now, pod, settings).unwrap_or_else(|| {
                let trouble = format!("the Job is being deleted; waiting for Pod {} to end", pod.name);
                End::Lingering { trouble }
            }))
        }
        (JobEvidence::Present { .. }, Some(pod)) => leaving(now, pod, settings).or_else(|| agent_ended(pod)),
        (
            JobEvidence::Present {
                failure, complete, ..
            },
            None,
        ) => podless(failure.as_deref(), *complete).map(End::Over),
    }
}

/// Kubernetes does not take the Job. In a namespace that goes away it never will.
fn refused(answer: &str) -> StructuredError {
    let error = StructuredError::new(
        "JobRefused",
        Category::Configuration,
        format!("Kubernetes refused the Job: {answer}"),
    );
    if answer.contains("being terminated") {
        return error.suggest("create the Workflow in another namespace").fatal();
    }
    if answer.contains("exceeded quota") {
        // What others hold of the quota gets free: the agent never ran, so none of its retries is spent.
        return StructuredError {
            category: Category::Network,
            ..error
        }
        .suggest("raise the quota that the answer names, or wait until others are over");
    }
    error.suggest("raise the quota or relax the policy that the answer names, then create the Workflow anew")
}

/// The end of an attempt that has neither Job nor Pod.
fn missing(now: Moment, started: Moment, seen_before: bool, settings: &Settings) -> End {
    if seen_before {
        return End::Over(job_deleted());
    }
    let until = started.plus_millis(settings.job_grace_millis);
    if now < until {
        let trouble = "waiting for the Job to appear".to_owned();
        return End::Going { trouble, until };
    }
    End::Over(StructuredError::new(
        "JobMissing",
        Category::Network,
        "the Job never appeared: its creation was lost or it was deleted while no operator ran",
    ))
}

fn job_deleted() -> StructuredError {
    StructuredError::new(
        "JobDeleted",
        Category::Network,
        "the Job was deleted before it had ended",
    )
    .suggest("nothing, if this was on purpose: the next attempt starts by itself")
}

fn name_taken() -> StructuredError {
    StructuredError::new(
        "JobNameTaken",
        Category::Configuration,
        "a Job of this name exists and belongs to something else",
    )
    .suggest("delete the Job that has the name of this attempt, or rename the Workflow")
    .fatal()
}

/// How a Job ended of which the Pod is gone.
fn podless(failure: Option<&str>, complete: bool) -> Option<StructuredError> {
    if let Some(failure) = failure {
        let message = format!("the Pod was deleted or lost before it reported a result: {failure}");
        return Some(StructuredError::new("PodGone", Category::Network, message));
    }
    complete.then(|| {
        StructuredError::new(
            "ResultMissing",
            Category::Execution,
            "the Job completed without a result in the gateway",
        )
    })
}

/// A Pod is over when it says so in a terminal phase, or when nobody will ever say it.
fn pod_is_over(now: Moment, pod: &PodEvidence, settings: &Settings) -> bool {
    let waited = |since: Option<Moment>| {
        since.is_some_and(|since| now.millis_since(since) >= settings.lost_pod_millis)
    };
    matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
        || waited(pod.deleting_since)
        || waited(pod.node_lost_since)
}

/// A Pod on its way out may still report.
fn leaving(now: Moment, pod: &PodEvidence, settings: &Settings) -> Option<End> {
    let lost = |since: Moment| since.plus_millis(settings.lost_pod_millis);
    if let Some(since) = pod.deleting_since {
        let trouble = format!(
            "Pod {} is being deleted; it counts as lost at {}",
            pod.name,
            lost(since)
        );
        let until = now.plus_seconds(1);
        return Some(End::Going { trouble, until });
    }
    if let Some(since) = pod.node_lost_since {
        let trouble = format!(
            "the node of Pod {} does not answer; it counts as lost at {}",
            pod.name,
            lost(since)
        );
        let until = now.plus_seconds(5);
        return Some(End::Going { trouble, until });
    }
    None
}

/// The runner outlives the agent's container by an upload; one that hangs is ended with the attempt's time.
fn agent_ended(pod: &PodEvidence) -> Option<End> {
    pod.agent_end.as_ref().map(|end| End::Lingering {
        trouble: format!(
            "the agent's container ended ({}); waiting for Pod {} to end",
            end.reason, pod.name
        ),
    })
}

/// Why an attempt does not work yet.
fn trouble(evidence: &AttemptEvidence) -> Option<String> {
    let of_job = match &evidence.job {
        JobEvidence::Present { trouble, .. } => trouble.clone(),
        JobEvidence::Missing { .. } | JobEvidence::Foreign | JobEvidence::Refused(_) => None,
    };
    evidence
        .pod
        .as_ref()
        .and_then(|pod| pod.trouble.clone())
        .or(of_job)
}

/// The error of an attempt that the operator has to end.
fn timeout(stage: &StageStatus, run: &RunStage, evidence: &AttemptEvidence) -> StructuredError {
    let attempt = stage.attempt;
    let limit = run.timeout_seconds;
    if let Some(trouble) = trouble(evidence) {
        return StructuredError::new(
            POD_NOT_STARTED,
            Category::Dependency,
            format!("the Pod of attempt {attempt} did not start within its limit of {limit} s: {trouble}"),
        )
        .suggest(
            "make room for it or correct the image, as the message says; the next attempt starts by itself",
        );
    }
    StructuredError::new(
        "StageTimeout",
        Category::Timeout,
        format!("attempt {attempt} took longer than its limit of {limit} s"),
    )
    .suggest(format!(
        "raise spec.stages[name={}].timeoutSeconds, or make the task smaller",
        run.name
    ))
}
