//! Which stages begin an attempt now, and what holds the others back.

use stagecraft_api::condition::Reason;
use stagecraft_api::error::truncate;
use stagecraft_api::run::RunStage;
use stagecraft_api::status::{StagePhase, StageStatus};
use stagecraft_api::{limit, name};

use crate::admit::admit;
use crate::advance::{Draft, failed_message, running_message};

/// How long a stage that a limit holds back waits before it asks again: nothing wakes it when others end.
const HELD_SECONDS: u64 = 2;

impl Draft<'_> {
    /// Licenses an attempt for every stage that is ready and admitted, and names those. A Workflow of which a stage
    /// failed starts nothing any more.
    pub(crate) fn start_ready(&mut self) -> Vec<String> {
        let culprit = crate::summary::culprit(&self.status, self.run, self.settings);
        if let Some(culprit) = culprit.map(|stage| stage.name.clone()) {
            self.give_up(&culprit);
            return Vec::new();
        }
        let ready: Vec<&str> = self
            .run
            .stages
            .iter()
            .filter(|stage| self.is_ready(stage))
            .map(|stage| stage.name.as_str())
            .collect();
        if self.observation.spec.suspend {
            let ready: Vec<String> = ready.into_iter().map(str::to_owned).collect();
            for name in ready {
                self.suspend(&name);
            }
            self.wake_for_backoff();
            return Vec::new();
        }
        let mut usage = self.observation.usage;
        usage.running_stages = usage.running_stages.saturating_sub(self.ended.len());
        let (picks, held) = admit(&ready, usage, self.settings);
        for name in &picks {
            self.license(name);
        }
        if let Some(held) = held {
            for name in ready.iter().filter(|name| !picks.contains(name)) {
                self.hold(name, &held.reason);
            }
            self.plan.wake(self.observation.now.plus_seconds(HELD_SECONDS));
        }
        self.wake_for_backoff();
        picks.into_iter().map(str::to_owned).collect()
    }

    fn is_ready(&self, stage: &RunStage) -> bool {
        let phase_of = |name: &str| {
            let known = self.status.stages.iter().find(|known| known.name == name);
            known.map(|known| known.phase)
        };
        let Some(status) = self.status.stages.iter().find(|known| known.name == stage.name) else {
            return false;
        };
        match status.phase {
            StagePhase::Pending => stage
                .needs
                .iter()
                .all(|need| phase_of(need) == Some(StagePhase::Succeeded)),
            StagePhase::Waiting => status.next_attempt_at.is_none_or(|at| at <= self.observation.now),
            StagePhase::Running | StagePhase::Succeeded | StagePhase::Failed => false,
        }
    }

    fn license(&mut self, name: &str) {
        let now = self.observation.now;
        let workflow = self.observation.identity.name.as_str();
        let Some(run) = self.run.stage(name) else { return };
        let Some(attempt) = self.stage_mut(name).map(|stage| stage.attempt + 1) else {
            return;
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
        let message = format!("stage {name}: attempt {attempt} by agent {}", run.agent.name);
        self.notice(key, false, "StageStarted", &message);
    }

    fn hold(&mut self, name: &str, reason: &str) {
        self.reasons.insert(name.to_owned(), Reason::Limit);
        if let Some(stage) = self.stage_mut(name) {
            stage.message = format!("ready; held back by a limit: {reason}");
        }
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
        for stage in &mut self.status.stages {
            match stage.phase {
                StagePhase::Pending => stage.message = format!("not started: stage {culprit} failed"),
                StagePhase::Waiting => {
                    stage.phase = StagePhase::Failed;
                    stage.finished_at = Some(now);
                    stage.next_attempt_at = None;
                    stage.message = given_up_message(stage, culprit);
                }
                StagePhase::Running | StagePhase::Succeeded | StagePhase::Failed => {}
            }
        }
    }
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
