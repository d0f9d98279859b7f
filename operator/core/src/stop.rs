//! Ends a Workflow before its stages have: its owner asked for it, or its time is over.

use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::status::{Ending, StagePhase, WorkflowPhase};

use crate::advance::Draft;
use crate::ending::Part;

/// Why everything ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// `spec.cancel`.
    Cancelled,
    /// `spec.concurrency` of a newer Workflow, which has this name.
    Superseded(String),
    /// `spec.deadlineSeconds`: this many have passed.
    Deadline(u32),
}

impl Stop {
    pub(crate) fn ending(&self) -> Ending {
        let phase = match self {
            Self::Cancelled | Self::Superseded(_) => WorkflowPhase::Cancelled,
            Self::Deadline(_) => WorkflowPhase::Failed,
        };
        Ending {
            phase,
            message: self.message(),
        }
    }

    /// What the Workflow says.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Cancelled => {
                "cancelled by spec.cancel: what was done stays, nothing else begins".to_owned()
            }
            Self::Superseded(by) => format!(
                "cancelled by spec.concurrency of Workflow {by}, which is newer: what was done stays, nothing else begins"
            ),
            Self::Deadline(seconds) => format!(
                "the run took longer than its limit of {seconds} s (spec.deadlineSeconds): what was done stays; go on with spec.retry, \
                 or create a Workflow with a longer limit"
            ),
        }
    }

    fn because(&self) -> String {
        match self {
            Self::Cancelled => "the Workflow was cancelled".to_owned(),
            Self::Superseded(by) => format!("Workflow {by}, which is newer, took its place"),
            Self::Deadline(seconds) => format!("the run took longer than {seconds} s (spec.deadlineSeconds)"),
        }
    }

    fn error(&self, message: String) -> StructuredError {
        let (code, category) = match self {
            Self::Cancelled => ("Cancelled", Category::Execution),
            Self::Superseded(_) => ("ReplacedByNewer", Category::Execution),
            Self::Deadline(_) => ("DeadlineExceeded", Category::Timeout),
        };
        StructuredError::new(code, category, message).fatal()
    }
}

impl Draft<'_> {
    /// What ends the Workflow now, if something does. One that has come to its end by itself keeps that.
    pub(crate) fn stop_asked(&mut self) -> Option<Stop> {
        if !self.goes_on() {
            return None;
        }
        if self.observation.spec.cancel {
            return Some(Stop::Cancelled);
        }
        if let Some(by) = &self.observation.superseded_by {
            return Some(Stop::Superseded(by.clone()));
        }
        let seconds = self.run.deadline_seconds?;
        let deadline = self.status.started_at?.plus_seconds(seconds.into());
        if deadline <= self.observation.now {
            return Some(Stop::Deadline(seconds));
        }
        self.plan.wake(deadline);
        None
    }

    fn goes_on(&self) -> bool {
        let stages = || Part::Main.stages(self.run, &self.status);
        let busy = stages().any(|stage| stage.phase == StagePhase::Running);
        let failed = stages().any(|stage| stage.phase == StagePhase::Failed);
        let done = stages().all(|stage| stage.phase.lets_others_start());
        !done && (busy || !failed)
    }

    /// Whether the stages of `finally` are not to run to their end.
    pub(crate) fn finally_is_cancelled(&self) -> bool {
        self.observation.spec.cancel && self.observation.spec.cancel_finally
    }

    /// Ends every stage of a part that has not ended. The Jobs of those that run are closed: their agents are told to stop, and are killed
    /// when their grace is over.
    pub(crate) fn stop(&mut self, stop: &Stop, part: Part) {
        let now = self.observation.now;
        let because = stop.because();
        let stages = self.run.stages.iter().filter(|stage| part.has(stage));
        for name in stages.map(|stage| stage.name.as_str()) {
            let Some(attempt) = self.stage_mut(name).map(|stage| stage.attempt) else {
                continue;
            };
            let key = self.key(name, attempt);
            let Some(stage) = self.stage_mut(name) else {
                continue;
            };
            match stage.phase {
                StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => continue,
                StagePhase::Pending => {
                    stage.message = format!("not started: {because}");
                    continue;
                }
                StagePhase::Running | StagePhase::Waiting => {}
            }
            let runs = stage.phase == StagePhase::Running;
            let message = if runs {
                format!("attempt {attempt} was stopped: {because}")
            } else {
                format!("no further attempt after {attempt}: {because}")
            };
            stage.phase = StagePhase::Failed;
            stage.finished_at = Some(now);
            stage.next_attempt_at = None;
            stage.message.clone_from(&message);
            stage.error = Some(stop.error(message));
            let job = stage.job.clone();
            if runs {
                self.closes.push((job, key.clone()));
                self.ended.push(key);
            }
        }
    }
}
