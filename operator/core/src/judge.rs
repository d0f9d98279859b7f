//! What the evidence says of one attempt that the status calls running.

use serde_json::Value;
use stagecraft_api::error::{Category, StructuredError, truncate};
use stagecraft_api::limit;
use stagecraft_api::moment::Moment;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::RunStage;
use stagecraft_api::status::StageStatus;

use crate::observation::{AttemptEvidence, JobEvidence, PodEvidence, PodPhase, ResultEvidence};
use crate::settings::Settings;

/// The judgement.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It goes on. `trouble` says what keeps it from doing so, and `until` when to look again.
    Running { trouble: Option<String>, until: Moment },
    /// The cache hints at an end: read Job and Pod live, then ask the gateway, and judge again.
    Look,
    /// The time is over: delete the Job. The attempt is judged when its Pod is gone.
    Close { message: String, until: Moment },
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
    if let ResultEvidence::Some(result) = &evidence.result {
        return judge_result(result, run);
    }
    let started = stage.attempt_started_at.unwrap_or(now);
    let deadline = started.plus_seconds(run.timeout_seconds.into());
    let last_call = deadline.plus_millis(settings.deadline_grace_millis);
    match end(now, started, last_call, evidence, settings) {
        None if now >= last_call && !job_deleting(evidence) => {
            if evidence.live {
                Verdict::Close {
                    message: format!(
                        "the time limit of {} s passed; the Job is deleted",
                        run.timeout_seconds
                    ),
                    until: now.plus_seconds(2),
                }
            } else {
                Verdict::Look
            }
        }
        // Without a Pod only Events tell why, and nothing wakes the operator for those.
        None if evidence.pod.is_none() => Verdict::Running {
            trouble: trouble(evidence),
            until: last_call.min(now.plus_seconds(2)),
        },
        None => Verdict::Running {
            trouble: trouble(evidence),
            until: last_call.max(now.plus_seconds(1)),
        },
        Some(_) if !evidence.live => Verdict::Look,
        Some(End::Wait { trouble, until }) => Verdict::Running {
            trouble: Some(trouble),
            until,
        },
        Some(End::Over(error)) => match &evidence.result {
            ResultEvidence::Unavailable(reason) => Verdict::Running {
                trouble: Some(format!(
                    "the Pod ended; waiting for the gateway, which knows its result: {reason}"
                )),
                until: now.plus_seconds(2),
            },
            _ if now >= last_call => Verdict::Failed(timeout(stage, run, trouble(evidence))),
            _ => Verdict::Failed(error),
        },
    }
}

/// How an attempt without a result is at its end, or nearly so.
enum End {
    Wait { trouble: String, until: Moment },
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
        (JobEvidence::Foreign, _) => Some(End::Over(
            StructuredError::new(
                "JobNameTaken",
                Category::Configuration,
                "a Job of this name exists and belongs to something else",
            )
            .suggest("delete the Job that has the name of this attempt, or rename the Workflow")
            .fatal(),
        )),
        (JobEvidence::Missing { .. } | JobEvidence::Present { .. }, Some(pod))
            if pod_is_over(now, pod, settings) =>
        {
            Some(End::Over(pod_end(pod)))
        }
        (JobEvidence::Missing { .. }, Some(pod)) => Some(End::Wait {
            trouble: format!("the Job was deleted; waiting for Pod {} to end", pod.name),
            until: now.plus_seconds(1),
        }),
        (JobEvidence::Missing { seen_before: true }, None) => Some(End::Over(
            StructuredError::new(
                "JobDeleted",
                Category::Network,
                "the Job was deleted before it had ended",
            )
            .suggest("nothing, if this was on purpose: the next attempt starts by itself"),
        )),
        (JobEvidence::Missing { seen_before: false }, None) => {
            let until = started.plus_millis(settings.job_grace_millis);
            Some(if now < until {
                End::Wait {
                    trouble: "waiting for the Job to appear".to_owned(),
                    until,
                }
            } else {
                End::Over(StructuredError::new(
                    "JobMissing",
                    Category::Network,
                    "the Job never appeared: its creation was lost or it was deleted while no operator ran",
                ))
            })
        }
        (JobEvidence::Present { deleting: true, .. }, None) => Some(End::Wait {
            trouble: "the Job is being deleted".to_owned(),
            until: now.plus_seconds(1),
        }),
        (JobEvidence::Present { deleting: true, .. }, Some(pod)) => Some(End::Wait {
            trouble: format!("the Job is being deleted; waiting for Pod {} to end", pod.name),
            until: now.plus_seconds(1),
        }),
        (
            JobEvidence::Present {
                failure: Some(failure),
                ..
            },
            None,
        ) => Some(End::Over(StructuredError::new(
            "PodGone",
            Category::Network,
            format!("the Pod was deleted or lost before it reported a result: {failure}"),
        ))),
        (JobEvidence::Present { complete: true, .. }, None) => Some(End::Over(StructuredError::new(
            "ResultMissing",
            Category::Execution,
            "the Job completed without a result in the gateway",
        ))),
        (JobEvidence::Present { .. }, Some(pod)) => leaving(now, pod, settings),
        (JobEvidence::Present { .. }, None) => (now >= last_call && evidence.live && job_deleting(evidence))
            .then(|| End::Wait {
                trouble: "the Job is being deleted".to_owned(),
                until: now.plus_seconds(1),
            }),
    }
}

fn job_deleting(evidence: &AttemptEvidence) -> bool {
    matches!(
        evidence.job,
        JobEvidence::Present { deleting: true, .. } | JobEvidence::Missing { .. }
    )
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
        return Some(End::Wait {
            trouble,
            until: now.plus_seconds(1).max(now),
        });
    }
    if let Some(since) = pod.node_lost_since {
        let trouble = format!(
            "the node of Pod {} does not answer; it counts as lost at {}",
            pod.name,
            lost(since)
        );
        return Some(End::Wait {
            trouble,
            until: now.plus_seconds(5),
        });
    }
    pod.agent_end.as_ref().map(|end| End::Wait {
        trouble: format!(
            "the agent's container ended ({}); waiting for Pod {} to end",
            end.reason, pod.name
        ),
        until: now.plus_seconds(2),
    })
}

/// What a Pod that ended without a result says of itself.
fn pod_end(pod: &PodEvidence) -> StructuredError {
    if let Some(reason) = &pod.reason {
        return StructuredError::new(
            "PodLost",
            Category::Network,
            format!("Kubernetes ended the Pod: {reason}"),
        )
        .suggest(
            "nothing, if the node was short of something for a while: the next attempt starts by itself",
        );
    }
    if pod.deleting_since.is_some() {
        return StructuredError::new(
            "PodDeleted",
            Category::Network,
            "the Pod was deleted before it reported a result",
        );
    }
    if pod.node_lost_since.is_some() {
        return StructuredError::new(
            "NodeLost",
            Category::Network,
            "the node of the Pod stopped answering",
        );
    }
    match &pod.agent_end {
        Some(end) if end.reason == "OOMKilled" => StructuredError::new(
            "OutOfMemory",
            Category::Resource,
            "the agent's container used more memory than its limit and was killed",
        )
        .suggest("raise spec.resources.limits.memory of the Agent, or make the task smaller"),
        Some(end) if end.reason == "ContainerCannotRun" || end.reason == "StartError" => {
            StructuredError::new(
                "ContainerCannotRun",
                Category::Configuration,
                format!("the agent's container did not start: {}", end.message),
            )
            .suggest("check spec.image and spec.command of the Agent")
        }
        Some(end) if end.exit_code >= 128 => StructuredError::new(
            "AgentContainerKilled",
            Category::Network,
            format!(
                "the agent's container was killed by signal {} from outside",
                end.exit_code - 128
            ),
        ),
        Some(end) => StructuredError::new(
            "AgentContainerEnded",
            Category::Execution,
            format!(
                "the agent's container ended with status {} ({}) and no result",
                end.exit_code, end.reason
            ),
        ),
        None => StructuredError::new(
            "PodEnded",
            Category::Unknown,
            "the Pod ended without a result and without saying why; see its logs and Events",
        ),
    }
}

fn trouble(evidence: &AttemptEvidence) -> Option<String> {
    let of_job = match &evidence.job {
        JobEvidence::Present { trouble, .. } => trouble.clone(),
        JobEvidence::Missing { .. } | JobEvidence::Foreign => None,
    };
    evidence
        .pod
        .as_ref()
        .and_then(|pod| pod.trouble.clone())
        .or(of_job)
}

/// The error of an attempt that the operator had to end.
fn timeout(stage: &StageStatus, run: &RunStage, trouble: Option<String>) -> StructuredError {
    let why = trouble
        .map(|trouble| format!("; its Pod did not start: {trouble}"))
        .unwrap_or_default();
    StructuredError::new(
        "StageTimeout",
        Category::Timeout,
        format!(
            "attempt {} took longer than its limit of {} s{why}",
            stage.attempt, run.timeout_seconds
        ),
    )
    .suggest(format!(
        "raise spec.stages[name={}].timeoutSeconds, or make the task smaller",
        run.name
    ))
}

fn judge_result(result: &AttemptResult, run: &RunStage) -> Verdict {
    match &result.outcome {
        Outcome::Failed { error } => Verdict::Failed(error.clone().bounded()),
        Outcome::Succeeded { outputs, .. } => {
            let outputs = Value::Object(outputs.clone());
            match check_outputs(&outputs, run) {
                Ok(()) => Verdict::Succeeded(Box::new(result.clone())),
                Err(error) => Verdict::Failed(error),
            }
        }
    }
}

fn check_outputs(outputs: &Value, run: &RunStage) -> Result<(), StructuredError> {
    let bytes = outputs.to_string().len();
    if bytes > limit::OUTPUTS_BYTES {
        return Err(StructuredError::new(
            "OutputsTooLarge",
            Category::Validation,
            format!(
                "outputs have {bytes} bytes; the limit is {}",
                limit::OUTPUTS_BYTES
            ),
        )
        .suggest("keep large data as artifacts"));
    }
    let Some(schema) = &run.agent.outputs_schema else {
        return Ok(());
    };
    let validator = jsonschema::validator_for(&Value::Object(schema.clone())).map_err(|error| {
        StructuredError::new(
            "OutputsSchemaInvalid",
            Category::Configuration,
            format!(
                "outputsSchema of Agent {} is not a JSON Schema: {error}",
                run.agent.name
            ),
        )
        .suggest("correct the Agent and start the Workflow anew")
        .fatal()
    })?;
    let problems: Vec<String> = validator
        .iter_errors(outputs)
        .take(5)
        .map(|error| {
            format!(
                "outputs{}: {}",
                error.instance_path(),
                truncate(&error.to_string(), 200)
            )
        })
        .collect();
    if problems.is_empty() {
        return Ok(());
    }
    Err(StructuredError::new(
        "OutputsInvalid",
        Category::Validation,
        format!(
            "outputs do not match outputsSchema of Agent {}: {}",
            run.agent.name,
            problems.join("; ")
        ),
    )
    .suggest("correct the agent, or its outputsSchema"))
}
