//! Judges what runs, then starts what is ready.

use std::collections::BTreeMap;

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::condition::Reason;
use stagecraft_api::error::{StructuredError, one_line, truncate};
use stagecraft_api::failure::FailureClass;
use stagecraft_api::limit;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::{Run, RunStage};
use stagecraft_api::status::{
    AttemptSummary, Ending, StagePhase, StageStatus, WorkflowPhase, WorkflowStatus,
};

use crate::bounds::bounded_usage;
use crate::ending::{Part, cut_short, main_ending, whole_ending};
use crate::envelope::{envelope, workspace};
use crate::failure::{Next, count, next};
use crate::gate::{gate_failure, gate_warnings, judge_gates};
use crate::judge::{Verdict, judge};
use crate::merge::without_nulls;
use crate::observation::{Observation, ResultEvidence};
use crate::plan::{Action, Notice, Plan};
use crate::put_away::put_away;
use crate::repair::digest_of_findings;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::summary;

/// Plans for a Workflow that runs.
pub(crate) fn advance(observation: &Observation, run: &Run, settings: &Settings) -> Plan {
    let mut draft = Draft {
        observation,
        run,
        settings,
        status: observation.status.clone(),
        plan: Plan::default(),
        reasons: BTreeMap::new(),
        notices: Vec::new(),
        closes: Vec::new(),
        ended: Vec::new(),
        started: Vec::new(),
        asks: Vec::new(),
        stopped: None,
        end: None,
    };
    for stage in &run.stages {
        draft.judge_stage(stage);
    }
    // Judging plans nothing but looks; what they show is awaited before anything is written.
    if !draft.plan.actions.is_empty() {
        return draft.plan;
    }
    draft.note_models();
    draft.go_on();
    draft.finish()
}

/// A plan in the making.
pub(crate) struct Draft<'a> {
    pub(crate) observation: &'a Observation,
    pub(crate) run: &'a Run,
    pub(crate) settings: &'a Settings,
    pub(crate) status: WorkflowStatus,
    pub(crate) plan: Plan,
    /// Why stages are where they are, by name, where their phase does not tell.
    pub(crate) reasons: BTreeMap<String, Reason>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) closes: Vec<(String, AttemptKey)>,
    /// Attempts that ended in this plan: they make room for others, and their tasks are done.
    pub(crate) ended: Vec<AttemptKey>,
    /// Stages of which an attempt begins, with their payloads resolved.
    pub(crate) started: Vec<RunStage>,
    /// Approvals that are to be created.
    pub(crate) asks: Vec<Action>,
    /// How the stages ended when something ended them in this plan.
    pub(crate) stopped: Option<Ending>,
    /// How the Workflow ends in this plan, if it does.
    pub(crate) end: Option<Ending>,
}

impl Draft<'_> {
    pub(crate) fn stage_mut(&mut self, name: &str) -> Option<&mut StageStatus> {
        self.status.stages.iter_mut().find(|stage| stage.name == name)
    }

    pub(crate) fn key(&self, stage: &str, attempt: u32) -> AttemptKey {
        AttemptKey {
            workflow_uid: self.observation.identity.uid.clone(),
            stage: stage.to_owned(),
            attempt,
        }
    }

    pub(crate) fn notice(&mut self, about: AttemptKey, warning: bool, reason: &'static str, message: &str) {
        self.notices.push(Notice {
            about: Some(about),
            warning,
            reason,
            message: truncate(message, limit::MESSAGE_BYTES),
        });
    }

    fn judge_stage(&mut self, run: &RunStage) {
        let now = self.observation.now;
        let Some(stage) = self.status.stages.iter().find(|stage| stage.name == run.name) else {
            return;
        };
        if stage.phase != StagePhase::Running {
            return;
        }
        let look = Action::Look {
            stage: run.name.clone(),
        };
        let Some(evidence) = self.observation.attempts.get(&run.name) else {
            self.plan.actions.push(look);
            return;
        };
        match judge(now, stage, run, evidence, self.settings) {
            Verdict::Look => self.plan.actions.push(look),
            Verdict::Running { trouble: None, until } => {
                self.say(run, Reason::StageRunning, None);
                self.plan.wake(until);
            }
            Verdict::Running { trouble, until } => {
                self.say(run, Reason::StagePending, trouble);
                self.plan.wake(until);
            }
            Verdict::Close { error, until } => {
                let closed = (stage.job.clone(), self.key(&run.name, stage.attempt));
                self.closes.push(closed);
                let message = format!("{}; its Job is being deleted", error.message);
                self.say(run, Reason::StageRunning, Some(message));
                if let Some(stage) = self.stage_mut(&run.name) {
                    stage.error = Some(error);
                }
                self.plan.wake(until);
            }
            Verdict::Succeeded(result) => {
                self.note_usage(run);
                self.succeed(run, *result);
            }
            Verdict::Failed(error) => {
                self.note_usage(run);
                self.fail(run, error);
            }
        }
    }

    /// Starts what is ready, and what is to run when the others are over.
    fn go_on(&mut self) {
        if self.status.ending.is_none() {
            match self.stop_asked() {
                Some(stop) => {
                    self.stop(&stop, Part::Main);
                    self.stopped = Some(stop.ending());
                }
                None => self.start_ready(Part::Main),
            }
            let stopped = self.stopped.take();
            let ending = stopped.or_else(|| main_ending(&self.status, self.run, self.settings));
            if self.run.stages.iter().any(|stage| stage.finally) {
                self.status.ending = ending;
            } else {
                self.end = ending;
            }
        }
        let Some(ending) = self.status.ending.clone() else {
            return;
        };
        let is_cancelled = self.finally_is_cancelled();
        if !is_cancelled {
            self.start_ready(Part::Finally);
        }
        self.end = whole_ending(&ending, &self.status, self.run, self.settings);
        if is_cancelled && self.end.is_none() {
            self.stop(&Stop::Cancelled, Part::Finally);
            self.end = Some(cut_short(&ending));
        }
    }

    /// Tells of a stage that runs; by default that it does.
    fn say(&mut self, run: &RunStage, reason: Reason, message: Option<String>) {
        self.reasons.insert(run.name.clone(), reason);
        if let Some(stage) = self.stage_mut(&run.name) {
            let message = message.unwrap_or_else(|| running_message(stage, run));
            stage.message = truncate(&one_line(&message), limit::MESSAGE_BYTES);
        }
    }

    /// Keeps what the latest result tells, whichever way it ended.
    fn note_usage(&mut self, run: &RunStage) {
        let evidence = self.observation.attempts.get(&run.name);
        let Some(ResultEvidence::Some(result)) = evidence.map(|evidence| &evidence.result) else {
            return;
        };
        if let Some(stage) = self.stage_mut(&run.name) {
            stage.usage = result.usage.map(bounded_usage);
        }
    }

    fn succeed(&mut self, run: &RunStage, result: AttemptResult) {
        let now = self.observation.now;
        let inherited = workspace(run, self.run, &self.status.stages);
        let Outcome::Succeeded {
            summary,
            outputs,
            workspace,
            artifacts,
            metrics,
        } = result.outcome
        else {
            return;
        };
        let Some(stage) = self.stage_mut(&run.name) else {
            return;
        };
        stage.summary = truncate(&summary, limit::MESSAGE_BYTES);
        stage.outputs = without_nulls(outputs);
        stage.artifacts = artifacts;
        stage.gates = judge_gates(&run.gates, &metrics);
        if let Some(error) = gate_failure(&run.name, &stage.gates, &stage.outputs) {
            self.fail(run, error);
            return;
        }
        stage.phase = StagePhase::Succeeded;
        stage.finished_at = Some(now);
        let which = if stage.attempt == 1 {
            "succeeded".to_owned()
        } else {
            format!("succeeded in attempt {}", stage.attempt)
        };
        stage.message = match gate_warnings(&stage.gates) {
            Some(warnings) => truncate(
                &format!("{which}, with warnings: {warnings}"),
                limit::MESSAGE_BYTES,
            ),
            None => which,
        };
        stage.workspace = workspace.or(inherited);
        stage.error = None;
        let attempt = stage.attempt;
        let took = stage.started_at.map_or(0, |started| now.millis_since(started));
        let key = self.key(&run.name, attempt);
        self.ended.push(key.clone());
        let message = format!("stage {} succeeded in {}", run.name, seconds(took));
        self.notice(key, false, "StageSucceeded", &message);
    }

    fn fail(&mut self, run: &RunStage, error: StructuredError) {
        let now = self.observation.now;
        let settings = self.settings;
        let uid = self.observation.identity.uid.clone();
        let Some(stage) = self.stage_mut(&run.name) else {
            return;
        };
        let key = AttemptKey {
            workflow_uid: uid,
            stage: run.name.clone(),
            attempt: stage.attempt,
        };
        count(stage, &error);
        stage.history.push(AttemptSummary {
            attempt: stage.attempt,
            started_at: stage.attempt_started_at,
            finished_at: now,
            code: error.code.clone(),
            category: error.category,
            message: truncate(&error.message, limit::HISTORY_MESSAGE_BYTES),
        });
        let surplus = stage.history.len().saturating_sub(limit::HISTORY);
        stage.history.drain(..surplus);
        let what = failed_message(stage.attempt, &error);
        let next = next(&error, stage, run, &key, settings);
        let mut in_vain = String::new();
        if next == Next::GiveUp
            && FailureClass::of(&error) == FailureClass::WrongResult
            && let Some(repair) = &run.repair
        {
            let digest = digest_of_findings(stage);
            self.ended.push(key.clone());
            match self.send_back(run, repair, &error, digest) {
                Ok(()) => return,
                Err(why) => in_vain = format!("{why}; "),
            }
        }
        let Some(stage) = self.stage_mut(&run.name) else {
            return;
        };
        let message = match next {
            Next::GiveUp => {
                stage.phase = StagePhase::Failed;
                stage.finished_at = Some(now);
                match &error.suggested_action {
                    Some(action) => format!("{in_vain}{what}; {action}"),
                    None => format!("{in_vain}{what}"),
                }
            }
            Next::Retry { after_millis } => {
                let at = now.plus_millis(after_millis);
                stage.phase = StagePhase::Waiting;
                stage.next_attempt_at = Some(at);
                format!("next attempt at {at}; {what}")
            }
        };
        stage.message = truncate(&one_line(&message), limit::MESSAGE_BYTES);
        stage.error = Some(error);
        if !self.ended.contains(&key) {
            self.ended.push(key.clone());
        }
        self.notice(key, true, "AttemptFailed", &format!("stage {}: {what}", run.name));
    }

    fn finish(mut self) -> Plan {
        let Observation {
            now,
            identity,
            status: before,
            ..
        } = self.observation;
        self.status.observed_generation = Some(identity.generation);
        summary::summarize(&mut self.status, self.run, &self.reasons, *now);
        if let Some(Ending { phase, message }) = self.end {
            summary::end(&mut self.status, phase, &message, *now);
        }
        let status = self.status;
        let mut plan = self.plan;
        plan.frees = self.ended.iter().map(|key| key.stage.clone()).collect();
        if status != *before {
            plan.actions.push(Action::Store(Box::new(status.clone())));
        }
        for stage in &self.started {
            let task = envelope(identity, self.run, stage, &status.stages, *now);
            plan.actions.push(Action::Start(Box::new(task)));
        }
        plan.actions.extend(self.asks);
        // Why a Job is deleted is stored before: without that its end would look like a stranger's work.
        plan.actions.extend(
            self.closes
                .into_iter()
                .map(|(job, key)| Action::Close { job, key }),
        );
        plan.actions
            .extend(self.ended.into_iter().map(Action::Acknowledge));
        plan.actions.extend(self.notices.into_iter().map(Action::Record));
        if status.phase.is_terminal() {
            let (warning, reason) = match status.phase {
                WorkflowPhase::Completed => (false, "Completed"),
                WorkflowPhase::Cancelled => (false, "Cancelled"),
                _ => (true, "Failed"),
            };
            plan.actions.push(Action::Record(Notice {
                about: None,
                warning,
                reason,
                message: status.message.clone(),
            }));
        }
        put_away(self.observation, &status, self.settings, &mut plan);
        plan
    }
}

/// How an attempt failed, in a sentence.
pub(crate) fn failed_message(attempt: u32, error: &StructuredError) -> String {
    format!(
        "attempt {attempt} failed ({}): {}",
        error.category.as_str(),
        error.message
    )
}

pub(crate) fn running_message(stage: &StageStatus, run: &RunStage) -> String {
    let until = stage
        .attempt_started_at
        .map(|since| since.plus_seconds(run.timeout_seconds.into()));
    let until = until.map(|until| format!(", until {until}")).unwrap_or_default();
    format!("attempt {} by agent {}{until}", stage.attempt, run.agent.name)
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, (millis % 1000) / 100)
}
