//! Which stages begin an attempt now, and what holds the others back.

use serde_json::{Map, Value};
use stagecraft_api::condition::Reason;
use stagecraft_api::error::{Category, StructuredError, one_line, truncate};
use stagecraft_api::moment::Moment;
use stagecraft_api::run::{Run, RunStage};
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::{limit, name};

use crate::admit::{Admission, Candidate, Place, Seat};
use crate::advance::{Draft, failed_message, running_message};
use crate::approval::Leave;
use crate::ending::{Part, culprit, is_blocked};
use crate::envelope::workspace;
use crate::expression::{holds, scope};
use crate::observation::Observation;
use crate::reference::resolve;
use crate::schema::check_payload;
use crate::size::bytes_of;

/// Whether anything of the latest run has begun. A stage that was sent back to has, though its next round has not.
pub fn has_begun(status: &WorkflowStatus) -> bool {
    let began = |stage: &StageStatus| {
        stage.run == status.run && stage.attempt > 0 && (stage.started_at.is_some() || stage.round > 0)
    };
    status.stages.iter().any(began)
}

/// What a stage takes up while it runs.
pub fn seat(namespace: &str, run: &RunStage) -> Seat {
    let owner = if run.agent.own { namespace } else { "" };
    Seat {
        namespace: namespace.to_owned(),
        agent: format!("{owner}/{}", run.agent.name),
    }
}

/// When all that a stage waits for was over. The same each time that it is asked, after a restart, too.
pub(crate) fn ready_since(stage: &RunStage, run: &Run, status: &WorkflowStatus) -> Option<Moment> {
    let find = |name: &str| status.stages.iter().find(|known| known.name == name);
    let next = find(&stage.name).and_then(|known| known.next_attempt_at);
    let over = |name: &String| find(name)?.finished_at;
    let needs = || stage.needs.iter().filter_map(over).max();
    let others = || {
        let main = Part::Main.stages(run, status);
        main.filter(|_| stage.finally)
            .filter_map(|known| known.finished_at)
            .max()
    };
    next.or_else(needs).or_else(others).or(status.started_at)
}

impl Draft<'_> {
    /// Licenses an attempt for every stage of a part that is ready and admitted. When a stage failed, nothing else of the template
    /// starts any more; the stages of `finally` do, whatever happens to each other.
    pub(crate) fn start_ready(&mut self, part: Part) {
        if self.give_up_if_failed(part) {
            return;
        }
        if self.observation.spec.suspend {
            for name in self.ready(part) {
                self.suspend(&name);
            }
            self.wake_for_backoff();
            return;
        }
        self.decide_conditions(part);
        if self.give_up_if_failed(part) {
            return;
        }
        for name in self.ready(part) {
            let Some(stage) = self.run.stage(&name) else {
                continue;
            };
            if self.ask_leave(stage) == Leave::Wait {
                continue;
            }
            if self.awaits_model(stage) {
                continue;
            }
            let Some(candidate) = self.candidate(&name) else {
                self.license(&name);
                continue;
            };
            match &self.observation.admission {
                Admission::Unasked => self.plan.wants.push(candidate),
                Admission::Decided { granted, .. } if granted.contains(&name) => self.license(&name),
                Admission::Decided { held, .. } => {
                    let reason = held.get(&name).cloned().unwrap_or_default();
                    self.hold(&name, &reason);
                }
            }
        }
        self.wake_for_backoff();
        self.give_up_if_failed(part);
        self.tell_what_is_blocked(part);
    }

    /// Stages of `finally` do not wait for each other's success for ever.
    fn tell_what_is_blocked(&mut self, part: Part) {
        let Some(culprit) =
            culprit(part, &self.status, self.run, self.settings).map(|stage| stage.name.clone())
        else {
            return;
        };
        let stages = self.run.stages.iter().filter(|stage| part.has(stage));
        for name in stages.map(|stage| stage.name.as_str()) {
            let blocked = is_blocked(name, self.run, &self.status);
            if let Some(stage) = self.stage_mut(name)
                && stage.phase == StagePhase::Pending
                && blocked
            {
                stage.message = not_started(&culprit);
            }
        }
    }

    /// A ready stage on which a limit bears.
    fn candidate(&self, name: &str) -> Option<Candidate> {
        let Observation { identity, spec, .. } = self.observation;
        let run = self.run.stage(name)?;
        let key = spec.concurrency.as_ref().filter(|_| !self.has_begun());
        let limits = [
            self.settings.max_running_stages.is_some(),
            self.settings.max_running_stages_per_namespace.is_some(),
            run.agent.max_running.is_some(),
            key.is_some(),
        ];
        limits.contains(&true).then(|| Candidate {
            place: Place {
                workflow_uid: identity.uid.clone(),
                stage: name.to_owned(),
            },
            seat: seat(&identity.namespace, run),
            priority: spec.priority,
            since: self.ready_since(run),
            agent_limit: run
                .agent
                .max_running
                .and_then(|limit| usize::try_from(limit).ok()),
            key: key.map(|concurrency| concurrency.key.clone()),
        })
    }

    fn has_begun(&self) -> bool {
        has_begun(&self.status)
    }

    pub(crate) fn ready_since(&self, stage: &RunStage) -> Moment {
        ready_since(stage, self.run, &self.status).unwrap_or(self.observation.now)
    }

    fn give_up_if_failed(&mut self, part: Part) -> bool {
        let culprit = culprit(part, &self.status, self.run, self.settings).map(|stage| stage.name.clone());
        match culprit {
            Some(culprit) if part == Part::Main => {
                self.give_up(&culprit);
                true
            }
            _ => false,
        }
    }

    fn ready(&self, part: Part) -> Vec<String> {
        let stages = self.run.stages.iter().filter(|stage| part.has(stage));
        let ready = stages.filter(|stage| self.is_ready(stage));
        ready.map(|stage| stage.name.clone()).collect()
    }

    fn is_ready(&self, stage: &RunStage) -> bool {
        let find = |name: &str| self.status.stages.iter().find(|known| known.name == name);
        let lets_start = |need: &String| find(need).is_some_and(|need| need.phase.lets_others_start());
        let Some(status) = find(&stage.name) else {
            return false;
        };
        match status.phase {
            StagePhase::Pending => stage.needs.iter().all(lets_start),
            StagePhase::Waiting => status.next_attempt_at.is_none_or(|at| at <= self.observation.now),
            StagePhase::Running | StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => false,
        }
    }

    /// Skips what is ready and whose condition does not hold. That may make others ready.
    fn decide_conditions(&mut self, part: Part) {
        loop {
            let mut changed = false;
            for name in self.ready(part) {
                let pending = self
                    .stage_mut(&name)
                    .is_some_and(|stage| stage.phase == StagePhase::Pending);
                let when = self.run.stage(&name).and_then(|stage| stage.when.as_deref());
                let Some(when) = when.filter(|_| pending) else {
                    continue;
                };
                match holds(when, &self.scope(&name)) {
                    Ok(true) => {}
                    Ok(false) => {
                        self.skip(&name, when);
                        changed = true;
                    }
                    Err(error) => {
                        let message = format!("when: {when}: {error}");
                        self.fail_to_start(&name, "ConditionFailed", &message);
                        changed = true;
                    }
                }
            }
            if !changed {
                return;
            }
        }
    }

    fn scope(&self, name: &str) -> Value {
        let stage = self.run.stage(name);
        stage.map_or(Value::Null, |stage| {
            let mut scope = scope(&self.observation.identity, self.run, stage, &self.status);
            if let Some(scope) = scope.as_object_mut() {
                scope.insert("approval".to_owned(), self.answer(stage));
            }
            scope
        })
    }

    fn skip(&mut self, name: &str, when: &str) {
        let now = self.observation.now;
        let Some(run) = self.run.stage(name) else { return };
        let inherited = workspace(run, self.run, &self.status.stages);
        let message = truncate(
            &format!("skipped, since this does not hold: {when}"),
            limit::MESSAGE_BYTES,
        );
        let Some(stage) = self.stage_mut(name) else { return };
        stage.phase = StagePhase::Skipped;
        stage.finished_at = Some(now);
        stage.workspace = inherited;
        stage.message.clone_from(&message);
        let key = self.key(name, 0);
        self.notice(key, false, "StageSkipped", &format!("stage {name}: {message}"));
    }

    /// A stage that cannot begin, however often it is tried.
    fn fail_to_start(&mut self, name: &str, code: &str, message: &str) {
        let error = StructuredError::new(code, Category::Configuration, message)
            .suggest("correct the expression, or what it reads, in another Workflow")
            .fatal();
        self.refuse(name, error);
    }

    /// Ends a stage before it has begun.
    pub(crate) fn refuse(&mut self, name: &str, error: StructuredError) {
        let now = self.observation.now;
        let message = one_line(&error.message);
        let Some(stage) = self.stage_mut(name) else { return };
        stage.phase = StagePhase::Failed;
        stage.finished_at = Some(now);
        stage.next_attempt_at = None;
        stage.message = truncate(&message, limit::MESSAGE_BYTES);
        stage.error = Some(error);
        let key = self.key(name, 0);
        self.notice(
            key,
            true,
            "StageFailed",
            &format!("stage {name} cannot start: {message}"),
        );
    }

    fn license(&mut self, name: &str) {
        let now = self.observation.now;
        let workflow = self.observation.identity.name.as_str();
        let Some(run) = self.run.stage(name) else { return };
        let payload = match payload(run, &self.scope(name)) {
            Ok(payload) => payload,
            Err(error) => return self.fail_to_start(name, "ReferenceFailed", &error),
        };
        let Some(last) = self.stage_mut(name).map(|stage| stage.attempt) else {
            return;
        };
        let Some(attempt) = last.checked_add(1) else {
            return self.refuse(name, attempts_used_up(last));
        };
        let key = self.key(name, attempt);
        let job = name::job(workflow, &key);
        let Some(stage) = self.stage_mut(name) else { return };
        stage.attempt = attempt;
        stage.phase = StagePhase::Running;
        stage.started_at = stage.started_at.or(Some(now));
        stage.attempt_started_at = Some(now);
        stage.next_attempt_at = None;
        stage.error = None;
        stage.message = running_message(stage, run);
        stage.job = job;
        self.reasons.insert(name.to_owned(), Reason::StageRunning);
        self.started.push(RunStage {
            payload,
            ..run.clone()
        });
        let message = format!("stage {name}: attempt {attempt} by agent {}", run.agent.name);
        self.notice(key, false, "StageStarted", &message);
    }

    fn hold(&mut self, name: &str, reason: &str) {
        self.reasons.insert(name.to_owned(), Reason::Limit);
        if let Some(stage) = self.stage_mut(name) {
            stage.message = truncate(
                &format!("ready; held back by a limit: {reason}"),
                limit::MESSAGE_BYTES,
            );
        }
    }

    /// No Pod is begun for a provider that cannot be called.
    fn awaits_model(&mut self, run: &RunStage) -> bool {
        let trouble = self.observation.model_trouble.as_ref();
        let Some(trouble) = trouble.filter(|_| run.agent.needs_model) else {
            return false;
        };
        let provider = self
            .run
            .model
            .as_ref()
            .map_or("", |model| model.provider.as_str());
        let message = format!("ready; waits for ModelProvider {provider}: {}", trouble.message);
        self.reasons.insert(run.name.clone(), Reason::ModelProvider);
        if let Some(until) = trouble.until {
            self.plan.wake(until);
        }
        if let Some(stage) = self.stage_mut(&run.name) {
            stage.message = truncate(&message, limit::MESSAGE_BYTES);
        }
        true
    }

    fn suspend(&mut self, name: &str) {
        self.reasons.insert(name.to_owned(), Reason::Suspended);
        if let Some(stage) = self.stage_mut(name) {
            "ready; suspended: set spec.suspend to false to go on".clone_into(&mut stage.message);
        }
    }

    fn wake_for_backoff(&mut self) {
        let waits = self
            .status
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Waiting);
        let times = waits.filter_map(|stage| stage.next_attempt_at);
        // What is due by now is held back by a limit, which asks again by itself.
        let next = times.filter(|at| *at > self.observation.now).min();
        if let Some(at) = next {
            self.plan.wake(at);
        }
    }

    /// Ends what waits for another attempt, and says of what never began why it does not.
    fn give_up(&mut self, culprit: &str) {
        let now = self.observation.now;
        let run = self.run;
        let main = |stage: &&mut StageStatus| run.stage(&stage.name).is_some_and(|run| Part::Main.has(run));
        for stage in self.status.stages.iter_mut().filter(main) {
            match stage.phase {
                StagePhase::Pending => stage.message = not_started(culprit),
                StagePhase::Waiting => {
                    stage.phase = StagePhase::Failed;
                    stage.finished_at = Some(now);
                    stage.next_attempt_at = None;
                    stage.message = given_up_message(stage, culprit);
                }
                StagePhase::Running | StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => {}
            }
        }
    }
}

/// The payload with its references resolved. Where it has any, only now can it be checked.
fn payload(run: &RunStage, scope: &Value) -> Result<Map<String, Value>, String> {
    let payload = resolve(&run.payload, scope)?;
    let bytes = bytes_of(&payload);
    let most = limit::RESOLVED_PAYLOAD_BYTES.max(bytes_of(&run.payload));
    if bytes > most {
        return Err(format!(
            "payload: {bytes} bytes with its references resolved; at most {most}: refer to less, or hand it on as an artifact"
        ));
    }
    if let Some(schema) = &run.payload_schema {
        check_payload(schema, &payload)
            .map_err(|problem| format!("payload{}: {}: {}", problem.path, problem.value, problem.what))?;
    }
    Ok(payload)
}

/// A number is never used again, so that after the last one nothing can begin.
fn attempts_used_up(last: u32) -> StructuredError {
    StructuredError::new(
        "AttemptsUsedUp",
        Category::Configuration,
        format!("status.stages.attempt is {last}, after which there is no number for another attempt"),
    )
    .suggest("create the Workflow anew")
    .fatal()
}

fn not_started(culprit: &str) -> String {
    format!("not started: stage {culprit} failed")
}

fn given_up_message(stage: &StageStatus, culprit: &str) -> String {
    let what = stage
        .error
        .as_ref()
        .map(|error| failed_message(stage.attempt, error))
        .unwrap_or_default();
    truncate(
        &format!("no further attempt, since stage {culprit} failed; {what}"),
        limit::MESSAGE_BYTES,
    )
}
