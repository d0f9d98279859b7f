//! What to do about an observation: the whole policy, without memory.
//!
//! Planning makes no changes. The order of actions matters: whatever follows a [`Action::Store`] happens only if the
//! patch is won, so that winning it licenses exactly one [`Action::Start`].

use stagecraft_api::approval::ApprovalSpec;
use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::{Category, StructuredError, truncate};
use stagecraft_api::limit;
use stagecraft_api::moment::Moment;
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, WorkflowPhase, WorkflowStatus};

use crate::accept::accept;
use crate::admit::Candidate;
use crate::advance::advance;
use crate::bounds;
use crate::observation::{Observation, RunEvidence};
use crate::put_away::put_away;
use crate::retry;
use crate::settings::Settings;
use crate::summary;

/// What to do, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Moment>,
    /// Ready stages about which somebody has to decide, for all Workflows together: then it is planned again.
    pub wants: Vec<Candidate>,
    /// Stages that end in this plan: what they take up is free for those that it starts.
    pub frees: Vec<String>,
}

impl Plan {
    /// Whether it wants to see more before it decides anything.
    pub fn only_looks(&self) -> bool {
        let looks = |action: &Action| matches!(action, Action::Look { .. });
        !self.actions.is_empty() && self.actions.iter().all(looks)
    }

    /// Looks again at `at`, or sooner if that was wanted already.
    pub(crate) fn wake(&mut self, at: Moment) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read Job and Pod of this stage live, ask the gateway for its result, and plan again.
    Look { stage: String },
    /// Create the immutable ConfigMap that holds the run.
    Pin(Box<Run>),
    /// Patch the status. If another writer was quicker, drop the rest of the plan.
    Store(Box<WorkflowStatus>),
    /// Create the Job of an attempt that the stored status licenses, once, and announce its task.
    Start(Box<TaskEnvelope>),
    /// Delete a Job and its Pods, which end within their grace period. The Pods are named, too: the Job may be gone
    /// without them (`kubectl delete --cascade=orphan`), and then nothing else deletes them.
    Close { job: String, key: AttemptKey },
    /// Take the task of an attempt that the stored status has accounted for, and its announced result, out of the queues.
    Acknowledge(AttemptKey),
    /// Create the Approval of this name, once.
    Ask {
        name: String,
        request: Box<ApprovalSpec>,
    },
    /// Tell people.
    Record(Notice),
    /// Delete the Workflow, exactly as it was looked at: its time to live is over.
    Delete,
}

/// An Event on the Workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The attempt that it is about, if it is about one.
    pub about: Option<AttemptKey>,
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// Decides.
pub fn plan(observation: &Observation, settings: &Settings) -> Plan {
    bounds::keep(decide(observation, settings), observation)
}

fn decide(observation: &Observation, settings: &Settings) -> Plan {
    if observation.status.phase.is_terminal() {
        return after_the_end(observation, settings);
    }
    match &observation.run {
        RunEvidence::NotPinned(catalog) => accept(observation, catalog),
        RunEvidence::Lost(reason) => lose_run(observation, observation.status.run, reason),
        RunEvidence::Pinned(run) => advance(observation, run, settings),
    }
}

/// A Workflow that ended: unless its owner asks for a new run, nothing is written any more but that an edit was seen, once for each: who
/// waits for `observedGeneration` would wait for ever. What is left over is put away, and in the end the Workflow itself.
fn after_the_end(observation: &Observation, settings: &Settings) -> Plan {
    let Observation {
        now,
        identity,
        spec,
        status,
        ..
    } = observation;
    if let Some(retry) = retry::asked(spec, status) {
        match &observation.run {
            RunEvidence::Pinned(run) => return retry::begin(observation, run, retry),
            RunEvidence::Lost(reason) => return lose_run(observation, retry.run, reason),
            RunEvidence::NotPinned(_) => {}
        }
    }
    let mut plan = Plan::default();
    put_away(observation, status, settings, &mut plan);
    let due = spec
        .ttl_seconds_after_finished
        .zip(status.finished_at)
        .map(|(seconds, end)| end.plus_seconds(seconds.into()));
    match due {
        Some(due) if due <= *now => {
            plan.actions.push(Action::Delete);
            return plan;
        }
        Some(due) => plan.wake(due),
        None => {}
    }
    if status.observed_generation != Some(identity.generation) {
        let mut seen = status.clone();
        summary::acknowledge(&mut seen, identity.generation);
        plan.actions.push(Action::Store(Box::new(seen)));
    }
    plan
}

/// Without its run nothing can be judged. What runs ends with the Workflow, so that its Jobs are put away.
fn lose_run(observation: &Observation, number: u32, reason: &str) -> Plan {
    let Observation {
        now,
        identity,
        status,
        ..
    } = observation;
    let mut status = status.clone();
    status.observed_generation = Some(identity.generation);
    status.run = number;
    let message = truncate(
        &format!("what this Workflow runs is lost: {reason}"),
        limit::MESSAGE_BYTES,
    );
    let error = StructuredError::new("RunLost", Category::Configuration, message.clone())
        .suggest("create the Workflow anew")
        .fatal();
    for stage in &mut status.stages {
        if matches!(stage.phase, StagePhase::Running | StagePhase::Waiting) {
            stage.phase = StagePhase::Failed;
            stage.finished_at = Some(*now);
            stage.next_attempt_at = None;
            stage.message.clone_from(&message);
            stage.error = Some(error.clone());
        }
    }
    let message = format!("{message}; create the Workflow anew");
    summary::end(&mut status, WorkflowPhase::Failed, &message, *now);
    let notice = Notice {
        about: None,
        warning: true,
        reason: "Failed",
        message: status.message.clone(),
    };
    Plan {
        actions: vec![Action::Store(Box::new(status)), Action::Record(notice)],
        ..Plan::default()
    }
}
