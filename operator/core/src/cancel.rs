//! Ends a Workflow because its owner asked for it.

use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::status::StagePhase;

use crate::advance::Draft;

/// What a Workflow that was cancelled says.
pub(crate) const CANCELLED: &str = "cancelled by spec.cancel: what was done stays, nothing else begins";

impl Draft<'_> {
    /// Whether there is something left to cancel: a Workflow that has come to its end by itself keeps that.
    pub(crate) fn goes_on(&self) -> bool {
        let stages = || {
            let names = self.run.stages.iter().map(|stage| stage.name.as_str());
            names.filter_map(|name| self.status.stages.iter().find(|stage| stage.name == name))
        };
        let busy = stages().any(|stage| stage.phase == StagePhase::Running);
        let failed = stages().any(|stage| stage.phase == StagePhase::Failed);
        let done = stages().all(|stage| stage.phase == StagePhase::Succeeded);
        !done && (busy || !failed)
    }

    /// Ends every stage that has not ended. The Jobs of those that run are closed: their agents are told to stop, and are killed
    /// when their grace is over.
    pub(crate) fn cancel(&mut self) {
        let now = self.observation.now;
        self.cancelled = true;
        let names: Vec<&str> = self.run.stages.iter().map(|stage| stage.name.as_str()).collect();
        for name in names {
            let Some(attempt) = self.stage_mut(name).map(|stage| stage.attempt) else {
                continue;
            };
            let key = self.key(name, attempt);
            let Some(stage) = self.stage_mut(name) else {
                continue;
            };
            match stage.phase {
                StagePhase::Succeeded | StagePhase::Failed => continue,
                StagePhase::Pending => {
                    "not started: the Workflow was cancelled".clone_into(&mut stage.message);
                    continue;
                }
                StagePhase::Running | StagePhase::Waiting => {}
            }
            let runs = stage.phase == StagePhase::Running;
            let message = if runs {
                format!("attempt {attempt} was stopped: the Workflow was cancelled")
            } else {
                format!("no further attempt after {attempt}: the Workflow was cancelled")
            };
            stage.phase = StagePhase::Failed;
            stage.finished_at = Some(now);
            stage.next_attempt_at = None;
            stage.message.clone_from(&message);
            stage.error = Some(StructuredError::new("Cancelled", Category::Execution, message).fatal());
            let job = stage.job.clone();
            if runs {
                self.closes.push((job, key.clone()));
                self.ended.push(key);
            }
        }
    }
}
