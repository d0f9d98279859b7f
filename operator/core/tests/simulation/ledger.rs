//! Everything that ever happened, and the promises about it.

use std::collections::{BTreeMap, VecDeque};

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};

/// Lines that are kept to tell how a promise was broken.
const TRACE: usize = 120;

pub struct Ledger {
    seed: u64,
    posted: BTreeMap<AttemptKey, u32>,
    created: BTreeMap<AttemptKey, u32>,
    pub codes: Vec<String>,
    pub writes: u64,
    trace: VecDeque<String>,
}

impl Ledger {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            posted: BTreeMap::new(),
            created: BTreeMap::new(),
            codes: Vec::new(),
            writes: 0,
            trace: VecDeque::new(),
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(line());
    }

    #[track_caller]
    pub fn promise(&self, holds: bool, what: &str) {
        if !holds {
            let lines: Vec<&str> = self.trace.iter().map(String::as_str).collect();
            panic!("seed {}: {what}\n{}", self.seed, lines.join("\n"));
        }
    }

    /// I1: one POST for each attempt, and I5: nothing starts before what it needs.
    pub fn post(&mut self, key: &AttemptKey, run: &Run, stored: &WorkflowStatus) {
        self.check_license(key, run, stored);
        let count = self.posted.entry(key.clone()).or_insert(0);
        *count += 1;
        let once = *count == 1;
        self.promise(once, &format!("I1: the Job of {key} was posted twice"));
    }

    pub fn create(&mut self, key: &AttemptKey, run: &Run, stored: &WorkflowStatus) {
        self.check_license(key, run, stored);
        let count = self.created.entry(key.clone()).or_insert(0);
        *count += 1;
        let once = *count == 1;
        self.promise(once, &format!("I1: the Job of {key} was created twice"));
    }

    fn check_license(&self, key: &AttemptKey, run: &Run, stored: &WorkflowStatus) {
        let stage = find(stored, &key.stage);
        let licensed = stage.is_some_and(|stage| key.attempt <= stage.attempt);
        self.promise(licensed, &format!("I1: the stored status licenses no {key}"));
        let Some(pinned) = run.stage(&key.stage) else {
            return self.promise(false, &format!("I1: {key} is of a stage that is not pinned"));
        };
        for need in &pinned.needs {
            let done = find(stored, need).is_some_and(|stage| stage.phase.lets_others_start());
            self.promise(done, &format!("I5: {key} starts before {need} has succeeded"));
        }
        for other in run.stages.iter().filter(|other| pinned.finally && !other.finally) {
            let busy = |stage: &StageStatus| matches!(stage.phase, StagePhase::Running | StagePhase::Waiting);
            let over = find(stored, &other.name).is_some_and(|stage| !busy(stage));
            self.promise(
                over,
                &format!("I5: {key} of finally starts before {} is over", other.name),
            );
        }
    }

    /// I2 and I3 for one patch that was won.
    pub fn write(&mut self, before: &WorkflowStatus, after: &WorkflowStatus) {
        self.writes += 1;
        self.promise(
            !before.phase.is_terminal() || after.run == before.run + 1,
            "I3: a terminal Workflow was written to, and not by a new run",
        );
        self.promise(before != after, "I7: a patch that changes nothing");
        for old in &before.stages {
            let Some(new) = find(after, &old.name) else {
                self.promise(false, &format!("I2: stage {} vanished", old.name));
                continue;
            };
            self.check_stage(old, new);
            for past in &new.history {
                if past.attempt > old.history.last().map_or(0, |last| last.attempt) {
                    self.codes.push(past.code.clone());
                }
            }
        }
    }

    fn check_stage(&self, old: &StageStatus, new: &StageStatus) {
        let name = &old.name;
        self.promise(
            new.attempt >= old.attempt
                && (new.run, new.round, new.attempt, rank(new.phase))
                    >= (old.run, old.round, old.attempt, rank(old.phase)),
            &format!("I2: stage {name} went backwards"),
        );
        self.promise(
            new.attempt <= old.attempt + 1,
            &format!("I1: stage {name} skipped an attempt"),
        );
        self.promise(
            !old.phase.is_terminal() || old == new || (new.run, new.round) > (old.run, old.round),
            &format!("I3: stage {name} changed after its end"),
        );
        self.promise(
            old.phase != StagePhase::Waiting
                || new.attempt > old.attempt
                || new.phase != StagePhase::Succeeded,
            &format!(
                "I3: attempt {} of stage {name} had failed and now succeeded",
                old.attempt
            ),
        );
        for past in &new.history {
            let known = old.history.iter().find(|known| known.attempt == past.attempt);
            self.promise(
                known.is_none_or(|known| known == past),
                &format!("I3: the history of stage {name} changed"),
            );
        }
    }
}

fn rank(phase: StagePhase) -> u8 {
    match phase {
        StagePhase::Pending => 0,
        StagePhase::Running => 1,
        StagePhase::Waiting => 2,
        StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => 3,
    }
}

fn find<'a>(status: &'a WorkflowStatus, name: &str) -> Option<&'a StageStatus> {
    status.stages.iter().find(|stage| stage.name == name)
}
