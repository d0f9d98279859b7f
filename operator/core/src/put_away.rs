//! What is left over of attempts that the status has accounted for.

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::moment::Moment;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};

use crate::observation::Observation;
use crate::plan::{Action, Plan};
use crate::settings::Settings;

/// Acknowledges results that `status` has accounted for, and closes Jobs of attempts that are over: at once below the
/// stage's current attempt, after a grace at it, and never above it, where a status older than the Job would be wrong.
pub(crate) fn put_away(
    observation: &Observation,
    status: &WorkflowStatus,
    settings: &Settings,
    plan: &mut Plan,
) {
    for key in &observation.announced {
        let acknowledge = Action::Acknowledge(key.clone());
        if standing(status, &key.stage, key.attempt) != Standing::Current
            && !plan.actions.contains(&acknowledge)
        {
            plan.actions.push(acknowledge);
        }
    }
    for job in observation.open_jobs.iter().filter(|job| !job.deleting) {
        let due = match standing(status, &job.stage, job.attempt) {
            Standing::Current => continue,
            Standing::Superseded | Standing::Judged(None) => observation.now,
            Standing::Judged(Some(at)) => at.plus_millis(settings.close_grace_millis),
        };
        if due <= observation.now {
            plan.actions.push(Action::Close {
                job: job.name.clone(),
                key: AttemptKey {
                    workflow_uid: observation.identity.uid.clone(),
                    stage: job.stage.clone(),
                    attempt: job.attempt,
                },
            });
        } else {
            plan.wake(due);
        }
    }
}

/// Where an attempt stands in the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It runs, or the status does not know of it yet.
    Current,
    /// It was the latest and has been judged, at this time.
    Judged(Option<Moment>),
    /// A later attempt began, or the stage is none of the Workflow's.
    Superseded,
}

fn standing(status: &WorkflowStatus, stage: &str, attempt: u32) -> Standing {
    let Some(stage) = status.stages.iter().find(|known| known.name == stage) else {
        return Standing::Superseded;
    };
    if attempt < stage.attempt {
        Standing::Superseded
    } else if attempt == stage.attempt && stage.phase != StagePhase::Running {
        Standing::Judged(judged_at(stage))
    } else {
        Standing::Current
    }
}

fn judged_at(stage: &StageStatus) -> Option<Moment> {
    let of_history = || stage.history.last().map(|summary| summary.finished_at);
    stage.finished_at.or_else(of_history)
}
