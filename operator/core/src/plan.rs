//! What to do about an observation: the whole policy, without memory.
//!
//! Planning makes no changes. The order of actions matters: whatever follows a [`Action::Store`] happens only if the
//! patch is won, so that winning it licenses exactly one [`Action::Start`].

use serde_json::{Map, Value, json};
use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::{StructuredError, truncate};
use stagecraft_api::moment::Moment;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::{INITIALIZE, Run, RunStage};
use stagecraft_api::status::{AttemptSummary, StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};
use stagecraft_api::{limit, name};

use crate::admit::admit;
use crate::envelope::envelope;
use crate::failure::{Count, Next, count, next};
use crate::judge::{Verdict, judge};
use crate::observation::{JobEvidence, Observation, RunEvidence};
use crate::resolve::{Catalog, NO_REQUIREMENTS, Refusal, resolve};
use crate::settings::Settings;
use crate::summary;

/// What to do, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub wake_at: Option<Moment>,
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
    /// Delete a Job; its Pod ends within its grace period.
    Close { job: String },
    /// Take the task of an attempt that the stored status has accounted for, and its announced result, out of the queues.
    Acknowledge(AttemptKey),
    /// Tell people.
    Record(Notice),
}

/// An Event on the Workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// Decides.
pub fn plan(observation: &Observation, settings: &Settings) -> Plan {
    if observation.status.phase.is_terminal() {
        return settle(observation, settings);
    }
    match &observation.run {
        RunEvidence::NotPinned(catalog) => accept(observation, catalog),
        RunEvidence::Lost(reason) => lose_run(observation, reason),
        RunEvidence::Pinned(run) => advance(observation, run, settings),
    }
}

/// A Workflow that ended: nothing is written any more; what is left over is put away.
fn settle(observation: &Observation, settings: &Settings) -> Plan {
    let mut plan = Plan::default();
    put_away(observation, &observation.status, settings, &mut plan);
    plan
}

fn accept(observation: &Observation, catalog: &Catalog) -> Plan {
    let Observation {
        now,
        identity,
        spec,
        status: before,
        ..
    } = observation;
    let mut status = before.clone();
    let mut plan = Plan::default();
    match resolve(&identity.name, spec, catalog) {
        Ok(run) => {
            initialize(&mut status, observation, &run);
            let message = format!(
                "accepted: {} stages of template {}",
                run.stages.len(),
                run.template
            );
            plan.actions.push(Action::Pin(Box::new(run)));
            plan.actions.push(Action::Store(Box::new(status)));
            plan.actions.push(Action::Record(Notice {
                warning: false,
                reason: "Accepted",
                message,
            }));
        }
        Err(Refusal::NoRequirements) => {
            status.observed_generation = Some(identity.generation);
            summary::end(
                &mut status,
                WorkflowPhase::Failed,
                NO_REQUIREMENTS.to_owned(),
                *now,
            );
            plan.actions.push(Action::Store(Box::new(status)));
            let message = NO_REQUIREMENTS.to_owned();
            plan.actions.push(Action::Record(Notice {
                warning: true,
                reason: "Failed",
                message,
            }));
        }
        Err(Refusal::Violations(violations)) => {
            let problems: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let problems = problems.join("; ");
            summary::accept(&mut status, Some(&problems), identity.generation, *now);
            if status != *before {
                plan.actions.push(Action::Store(Box::new(status)));
                let message = truncate(&problems, limit::MESSAGE_BYTES);
                plan.actions.push(Action::Record(Notice {
                    warning: true,
                    reason: "NotAccepted",
                    message,
                }));
            }
        }
    }
    plan
}

/// Records what was understood, as the first of the stage outputs.
fn initialize(status: &mut WorkflowStatus, observation: &Observation, run: &Run) {
    let Observation { now, identity, .. } = observation;
    summary::accept(status, None, identity.generation, *now);
    status.template.clone_from(&run.template);
    status.run_ref = Some(stagecraft_api::status::RunRef {
        name: name::run(&identity.name, &identity.uid),
        digest: crate::envelope::run_digest(run),
    });
    status.trace_id = name::trace_id(&identity.uid);
    status.started_at = Some(*now);
    let understood = StageStatus {
        name: INITIALIZE.to_owned(),
        phase: StagePhase::Succeeded,
        started_at: Some(*now),
        finished_at: Some(*now),
        message: "the request was understood".to_owned(),
        summary: format!(
            "{} requirements for project {}",
            run.project.requirements.len(),
            run.project.name
        ),
        outputs: understood(run),
        ..StageStatus::default()
    };
    let pending = run.stages.iter().map(|stage| StageStatus {
        name: stage.name.clone(),
        agent: stage.agent.name.clone(),
        message: waits_for(&stage.needs),
        ..StageStatus::default()
    });
    status.stages = std::iter::once(understood).chain(pending).collect();
    summary::summarize(status, run, *now);
}

fn waits_for(needs: &[String]) -> String {
    if needs.is_empty() {
        "ready to start".to_owned()
    } else {
        format!("waits for {}", needs.join(", "))
    }
}

fn understood(run: &Run) -> Map<String, Value> {
    let stages: Vec<Value> = run
        .stages
        .iter()
        .map(|stage| json!({"name": stage.name, "agent": stage.agent.name}))
        .collect();
    // The texts themselves stand in the spec; here they would not fit the bound.
    let value = json!({
        "project": run.project.name,
        "template": run.template,
        "requirements": run.project.requirements.len(),
        "stages": stages,
    });
    match value {
        Value::Object(outputs) => outputs,
        _ => Map::new(),
    }
}

fn lose_run(observation: &Observation, reason: &str) -> Plan {
    let mut status = observation.status.clone();
    let message = format!("what this Workflow runs is lost: {reason}; create the Workflow anew");
    summary::end(
        &mut status,
        WorkflowPhase::Failed,
        message.clone(),
        observation.now,
    );
    let notice = Notice {
        warning: true,
        reason: "Failed",
        message,
    };
    Plan {
        actions: vec![Action::Store(Box::new(status)), Action::Record(notice)],
        wake_at: None,
    }
}

/// Judges what runs, starts what is ready.
fn advance(observation: &Observation, run: &Run, settings: &Settings) -> Plan {
    let mut draft = Draft {
        observation,
        run,
        settings,
        status: observation.status.clone(),
        plan: Plan::default(),
        notices: Vec::new(),
        closes: Vec::new(),
        ended: Vec::new(),
    };
    for stage in &run.stages {
        draft.judge_stage(stage);
    }
    if !draft.plan.actions.is_empty() {
        return draft.plan;
    }
    let started = draft.start_ready();
    draft.finish(&started)
}

/// A plan in the making.
struct Draft<'a> {
    observation: &'a Observation,
    run: &'a Run,
    settings: &'a Settings,
    status: WorkflowStatus,
    plan: Plan,
    notices: Vec<Notice>,
    closes: Vec<String>,
    /// Attempts that ended in this plan: they make room for others, and their tasks are done.
    ended: Vec<AttemptKey>,
}

impl Draft<'_> {
    fn wake(&mut self, at: Moment) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |known| known.min(at)));
    }

    fn stage_mut(&mut self, name: &str) -> Option<&mut StageStatus> {
        self.status.stages.iter_mut().find(|stage| stage.name == name)
    }

    fn key(&self, stage: &str, attempt: u32) -> AttemptKey {
        AttemptKey {
            workflow_uid: self.observation.identity.uid.clone(),
            stage: stage.to_owned(),
            attempt,
        }
    }

    fn judge_stage(&mut self, run: &RunStage) {
        let now = self.observation.now;
        let Some(stage) = self.status.stages.iter().find(|stage| stage.name == run.name) else {
            return;
        };
        if stage.phase != StagePhase::Running {
            return;
        }
        let Some(evidence) = self.observation.attempts.get(&run.name) else {
            self.plan.actions.push(Action::Look {
                stage: run.name.clone(),
            });
            return;
        };
        let verdict = judge(now, stage, run, evidence, self.settings);
        let running = running_message(stage, run);
        match verdict {
            Verdict::Look => self.plan.actions.push(Action::Look {
                stage: run.name.clone(),
            }),
            Verdict::Running { trouble, until } => {
                let message = truncate(&trouble.unwrap_or(running), limit::MESSAGE_BYTES);
                if let Some(stage) = self.stage_mut(&run.name) {
                    stage.message = message;
                }
                self.wake(until);
            }
            Verdict::Close { message, until } => {
                if !matches!(evidence.job, JobEvidence::Missing { .. }) {
                    self.closes.push(stage.job.clone());
                }
                if let Some(stage) = self.stage_mut(&run.name) {
                    stage.message = message;
                }
                self.wake(until);
            }
            Verdict::Succeeded(result) => self.succeed(run, *result),
            Verdict::Failed(error) => self.fail(run, error),
        }
    }

    fn succeed(&mut self, run: &RunStage, result: AttemptResult) {
        let now = self.observation.now;
        let attempt = self.stage_mut(&run.name).map_or(0, |stage| stage.attempt);
        let key = self.key(&run.name, attempt);
        let inherited = envelope(
            &self.observation.identity,
            self.run,
            run,
            &self.status.stages,
            now,
        )
        .workspace;
        let Some(stage) = self.stage_mut(&run.name) else {
            return;
        };
        let Outcome::Succeeded {
            summary,
            outputs,
            workspace,
            artifacts,
        } = result.outcome
        else {
            return;
        };
        stage.phase = StagePhase::Succeeded;
        stage.finished_at = Some(now);
        stage.message = if stage.attempt == 1 {
            "succeeded".to_owned()
        } else {
            format!("succeeded in attempt {}", stage.attempt)
        };
        stage.summary = truncate(&summary, limit::MESSAGE_BYTES);
        stage.outputs = outputs;
        stage.workspace = workspace.or(inherited);
        stage.artifacts = artifacts.into_iter().take(limit::ARTIFACTS).collect();
        stage.error = None;
        let took = stage.started_at.map_or(0, |started| now.millis_since(started));
        let message = format!("stage {} succeeded in {}", run.name, seconds(took));
        self.ended.push(key);
        self.notices.push(Notice {
            warning: false,
            reason: "StageSucceeded",
            message,
        });
    }

    fn fail(&mut self, run: &RunStage, error: StructuredError) {
        let now = self.observation.now;
        let settings = self.settings;
        let attempt = self.stage_mut(&run.name).map_or(0, |stage| stage.attempt);
        let key = self.key(&run.name, attempt);
        let Some(stage) = self.stage_mut(&run.name) else {
            return;
        };
        match count(&error) {
            Count::Failure => stage.failures += 1,
            Count::Loss => stage.losses += 1,
        }
        stage.history.push(AttemptSummary {
            attempt: stage.attempt,
            started_at: stage.attempt_started_at,
            finished_at: now,
            code: error.code.clone(),
            category: error.category,
            message: truncate(&error.message, 256),
        });
        let surplus = stage.history.len().saturating_sub(limit::HISTORY);
        stage.history.drain(..surplus);
        let what = format!(
            "attempt {} failed ({}): {}",
            stage.attempt,
            error.category.as_str(),
            error.message
        );
        match next(&error, stage.failures, stage.losses, run.retries, &key, settings) {
            Next::GiveUp => {
                stage.phase = StagePhase::Failed;
                stage.finished_at = Some(now);
                let action = error
                    .suggested_action
                    .as_deref()
                    .map(|action| format!("; {action}"))
                    .unwrap_or_default();
                stage.message = truncate(&format!("{what}{action}"), limit::MESSAGE_BYTES);
            }
            Next::Retry { after_millis } => {
                let at = now.plus_millis(after_millis);
                stage.phase = StagePhase::Waiting;
                stage.next_attempt_at = Some(at);
                stage.message = truncate(&format!("next attempt at {at}; {what}"), limit::MESSAGE_BYTES);
            }
        }
        stage.error = Some(error);
        let message = truncate(&format!("stage {}: {what}", run.name), limit::MESSAGE_BYTES);
        self.ended.push(key);
        self.notices.push(Notice {
            warning: true,
            reason: "AttemptFailed",
            message,
        });
    }

    /// Licenses an attempt for every stage that is ready and admitted.
    fn start_ready(&mut self) -> Vec<String> {
        let now = self.observation.now;
        let doomed = self
            .status
            .stages
            .iter()
            .any(|stage| stage.phase == StagePhase::Failed);
        let succeeded: Vec<&str> = self
            .status
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Succeeded)
            .map(|stage| stage.name.as_str())
            .collect();
        let mut ready = Vec::new();
        let mut wake_at = None;
        for stage in &self.run.stages {
            let Some(status) = self.status.stages.iter().find(|status| status.name == stage.name) else {
                continue;
            };
            let due = match status.phase {
                StagePhase::Pending => stage.needs.iter().all(|need| succeeded.contains(&need.as_str())),
                StagePhase::Waiting => {
                    let at = status.next_attempt_at.unwrap_or(now);
                    if at > now {
                        wake_at = Some(wake_at.map_or(at, |known: Moment| known.min(at)));
                    }
                    at <= now
                }
                StagePhase::Running | StagePhase::Succeeded | StagePhase::Failed => false,
            };
            if due && !doomed {
                ready.push(stage.name.as_str());
            }
        }
        let mut usage = self.observation.usage;
        usage.running_stages = usage.running_stages.saturating_sub(self.ended.len());
        let (picks, held) = admit(&ready, usage, self.settings);
        let picks: Vec<String> = picks.into_iter().map(str::to_owned).collect();
        let waiting: Vec<String> = ready
            .iter()
            .filter(|name| !picks.iter().any(|pick| pick == *name))
            .map(|&name| name.to_owned())
            .collect();
        if let Some(at) = wake_at {
            self.wake(at);
        }
        for name in &picks {
            self.license(name);
        }
        if let Some(held) = held {
            for name in &waiting {
                if let Some(stage) = self.stage_mut(name) {
                    stage.message = format!("ready; held back by a limit: {}", held.reason);
                }
            }
            self.wake(now.plus_seconds(2));
        }
        if doomed {
            self.give_up_waiting();
        }
        picks
    }

    /// A Workflow that is going to fail starts no further attempts.
    fn give_up_waiting(&mut self) {
        for stage in &mut self.status.stages {
            if stage.phase == StagePhase::Waiting {
                stage.phase = StagePhase::Failed;
                stage.finished_at = Some(self.observation.now);
                stage.next_attempt_at = None;
            }
        }
    }

    fn license(&mut self, name: &str) {
        let Observation { now, identity, .. } = self.observation;
        let Some(run) = self.run.stage(name) else { return };
        let Some(stage) = self.status.stages.iter_mut().find(|stage| stage.name == name) else {
            return;
        };
        stage.attempt += 1;
        stage.phase = StagePhase::Running;
        stage.started_at = stage.started_at.or(Some(*now));
        stage.attempt_started_at = Some(*now);
        stage.next_attempt_at = None;
        stage.message = running_message(stage, run);
        let key = AttemptKey {
            workflow_uid: identity.uid.clone(),
            stage: name.to_owned(),
            attempt: stage.attempt,
        };
        stage.job = name::job(&identity.name, &key);
        let message = format!(
            "stage {name}: attempt {} by agent {}",
            stage.attempt, run.agent.name
        );
        self.notices.push(Notice {
            warning: false,
            reason: "StageStarted",
            message,
        });
    }

    fn finish(mut self, started: &[String]) -> Plan {
        let Observation {
            now,
            identity,
            status: before,
            ..
        } = self.observation;
        summary::summarize(&mut self.status, self.run, *now);
        let status = self.status;
        let mut plan = self.plan;
        plan.actions
            .extend(self.closes.into_iter().map(|job| Action::Close { job }));
        if status != *before {
            plan.actions.push(Action::Store(Box::new(status.clone())));
        }
        for stage in started.iter().filter_map(|name| self.run.stage(name)) {
            let task = envelope(identity, self.run, stage, &status.stages, *now);
            plan.actions.push(Action::Start(Box::new(task)));
        }
        plan.actions
            .extend(self.ended.into_iter().map(Action::Acknowledge));
        plan.actions.extend(self.notices.into_iter().map(Action::Record));
        if status.phase.is_terminal() {
            let (warning, reason) = match status.phase {
                WorkflowPhase::Completed => (false, "Completed"),
                _ => (true, "Failed"),
            };
            plan.actions.push(Action::Record(Notice {
                warning,
                reason,
                message: status.message.clone(),
            }));
        }
        put_away(self.observation, &status, self.settings, &mut plan);
        plan
    }
}

/// Acknowledges results that the status has accounted for, and closes Jobs of attempts that are over.
fn put_away(observation: &Observation, status: &WorkflowStatus, settings: &Settings, plan: &mut Plan) {
    let stage_of = |name: &str| status.stages.iter().find(|stage| stage.name == name);
    let over = |stage: &str, attempt: u32| match stage_of(stage) {
        Some(stage) => {
            attempt < stage.attempt || (attempt == stage.attempt && stage.phase != StagePhase::Running)
        }
        None => true,
    };
    for key in &observation.announced {
        let acknowledge = Action::Acknowledge(key.clone());
        if over(&key.stage, key.attempt) && !plan.actions.contains(&acknowledge) {
            plan.actions.push(acknowledge);
        }
    }
    for job in observation
        .open_jobs
        .iter()
        .filter(|job| !job.deleting && over(&job.stage, job.attempt))
    {
        let stage = stage_of(&job.stage);
        let superseded = stage.is_none_or(|stage| job.attempt < stage.attempt);
        let judged_at = stage.and_then(|stage| {
            stage
                .finished_at
                .or_else(|| stage.history.last().map(|summary| summary.finished_at))
        });
        let due = judged_at
            .unwrap_or(observation.now)
            .plus_millis(settings.close_grace_millis);
        if superseded || due <= observation.now {
            plan.actions.push(Action::Close {
                job: job.name.clone(),
            });
        } else {
            plan.wake_at = Some(plan.wake_at.map_or(due, |known| known.min(due)));
        }
    }
}

fn running_message(stage: &StageStatus, run: &RunStage) -> String {
    let until = stage
        .attempt_started_at
        .map(|since| since.plus_seconds(run.timeout_seconds.into()));
    let until = until.map(|until| format!(", until {until}")).unwrap_or_default();
    format!("attempt {} by agent {}{until}", stage.attempt, run.agent.name)
}

fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, (millis % 1000) / 100)
}
