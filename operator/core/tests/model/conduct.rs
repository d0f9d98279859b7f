//! How operators do what they plan, and what comes of it.

use std::collections::BTreeSet;

use stagecraft_api::status::{StagePhase, WorkflowStatus};
use stagecraft_core::Action;

use crate::evidence::number;
use crate::ledger::{self, NEEDS, ONE_EFFECT, ONE_JOB};
use crate::model::{Check, Luck};
use crate::shared::Shared;
use crate::state::{Job, Jobs, Key, Operator, Pinned, State};

impl Check {
    pub fn plan(&self, state: &mut State, at: usize) {
        let mut operator = state.operators[at].clone();
        operator.woken = false;
        let base = operator
            .written
            .clone()
            .unwrap_or_else(|| operator.workflow.clone());
        let mut live = BTreeSet::new();
        loop {
            let observation = self.fixed.observe(state, &operator, &base, &live);
            let planned = (self.mutant.plan)(&self.fixed, &observation, &self.fixed.settings);
            let looks: BTreeSet<String> = planned
                .actions
                .iter()
                .filter_map(|action| match action {
                    Action::Look { stage } => Some(stage.clone()),
                    _ => None,
                })
                .collect();
            if looks.is_empty() {
                if !live.is_empty() {
                    state.seen.asked_live = true;
                }
                operator.pending = planned
                    .actions
                    .into_iter()
                    .filter(|action| !matches!(action, Action::Record(_)))
                    .map(Shared::new)
                    .collect();
                break;
            }
            assert!(!looks.is_subset(&live), "live evidence asks for live evidence");
            live.extend(looks);
        }
        operator.base = (!operator.pending.is_empty()).then_some(base);
        state.operators[at] = operator;
    }

    pub fn perform(&self, state: &mut State, at: usize, luck: Luck) {
        let action = state.operators[at].pending.remove(0);
        match &*action {
            Action::Store(status) => self.store(state, at, status, luck),
            Action::Start(task) => {
                let key = (number(&task.attempt.stage), task.attempt.attempt);
                self.post(state, at, key, luck);
            }
            Action::Close { key, .. } => {
                let key = (number(&key.stage), key.attempt);
                self.remove(state, key);
                Self::answer(state, at, luck);
            }
            Action::Acknowledge(key) => {
                let key = (number(&key.stage), key.attempt);
                if state.runs(key) {
                    state.broken = state.broken.or(Some(ONE_EFFECT));
                }
                state.stream.remove(&key);
                state.operators[at].announced.remove(&key);
                Self::answer(state, at, luck);
            }
            Action::Pin(_) => {
                state.seen.pinned_twice |= state.pinned != Pinned::NotYet;
                if state.pinned == Pinned::NotYet {
                    state.pinned = Pinned::There;
                }
                Self::answer(state, at, luck);
            }
            Action::Look { .. } | Action::Ask { .. } | Action::Record(_) | Action::Delete => {}
        }
        let operator = &mut state.operators[at];
        if operator.pending.is_empty() {
            operator.base = None;
        }
    }

    /// What is left of a plan is dropped when nobody hears how an action of it went.
    fn answer(state: &mut State, at: usize, luck: Luck) {
        if luck == Luck::ReplyLost {
            state.spent.lost_replies += 1;
            state.operators[at].pending.clear();
            state.operators[at].woken = true;
        }
    }

    /// A Job goes, and its Pod within its grace.
    pub fn remove(&self, state: &mut State, key: Key) {
        let works = state.jobs.get(&key) == Some(&Job::Works);
        if works && state.spent.late < self.bounds.late {
            state.leaving.insert(key);
        }
        change(&mut state.jobs, |jobs| {
            jobs.remove(&key);
        });
    }

    fn store(&self, state: &mut State, at: usize, status: &WorkflowStatus, luck: Luck) {
        let operator = &mut state.operators[at];
        let fresh = operator.base.as_ref() == Some(&state.workflow);
        if !fresh && !self.mutant.ignores_versions {
            operator.pending.clear();
            state.seen.lost_race = true;
            // The watch brings what the other wrote.
            operator.woken = true;
            return;
        }
        let before = state.workflow.status.clone();
        ledger::write(state, &before, status);
        state.workflow.status = Shared::new(status.clone());
        let operator = &mut state.operators[at];
        operator.woken = true;
        if luck == Luck::ReplyLost {
            operator.pending.clear();
            state.spent.lost_replies += 1;
            return;
        }
        operator.written = Some(state.workflow.clone());
        operator.base = Some(state.workflow.clone());
    }

    fn post(&self, state: &mut State, at: usize, key: Key, luck: Luck) {
        if luck != Luck::Good {
            state.spent.lost_posts += 1;
        }
        match luck {
            Luck::Good | Luck::Twice => {
                self.create(state, key);
                if luck == Luck::Twice {
                    self.create(state, key);
                }
                if let Some(job) = state.jobs.get(&key).copied() {
                    let operator = &mut state.operators[at];
                    change(&mut operator.jobs, |jobs| {
                        jobs.insert(key, job);
                    });
                    operator.seen.insert(key);
                }
            }
            Luck::ReplyLost => self.create(state, key),
            Luck::Lost => {}
            Luck::Late => drop(state.posts.insert(key)),
        }
        if self.mutant.repeats_posts && luck == Luck::ReplyLost {
            state.posts.insert(key);
        }
    }

    /// A Job of this name is created at most once while it is there.
    pub fn create(&self, state: &mut State, key: Key) {
        if state.jobs.contains_key(&key) && !self.mutant.random_names {
            return;
        }
        let count = state.created.entry(key).or_insert(0);
        *count += 1;
        if *count > 1 {
            state.broken = state.broken.or(Some(ONE_JOB));
        }
        if state.stage(key.0).is_none_or(|found| found.attempt < key.1) {
            state.broken = state.broken.or(Some(ONE_JOB));
        }
        let is_open = |need: &String| {
            state
                .stage(number(need))
                .is_none_or(|found| found.phase != StagePhase::Succeeded)
        };
        // One that lands late may belong to a round that was sent back meanwhile: it hears so from the gateway.
        let is_current = state.runs(key);
        let pinned = self.fixed.run.stage(&self.fixed.attempt(key).stage);
        if is_current && pinned.is_none_or(|pinned| pinned.needs.iter().any(is_open)) {
            state.broken = state.broken.or(Some(NEEDS));
        }
        change(&mut state.jobs, |jobs| {
            jobs.insert(key, Job::Works);
        });
    }

    /// True when the gateway takes the result.
    pub fn report(state: &mut State, key: Key, good: bool) -> bool {
        let granted = state.granted.get(&key.0).copied().unwrap_or(0);
        let taken = state.runs(key) && key.1 >= granted;
        if taken {
            state.granted.insert(key.0, key.1);
            state.results.entry(key).or_insert(good);
            state.stream.insert(key);
        } else {
            state.seen.refused = true;
        }
        taken
    }

    pub fn crash(state: &mut State, at: usize) {
        state.spent.crashes += 1;
        state.operators[at] = Operator {
            workflow: state.workflow.clone(),
            jobs: state.jobs.clone(),
            pods: state.jobs.clone(),
            written: None,
            seen: state.jobs.keys().copied().collect(),
            announced: state.stream.clone(),
            pending: Vec::new(),
            base: None,
            woken: true,
        };
    }
}

pub fn change(jobs: &mut Shared<Jobs>, how: impl FnOnce(&mut Jobs)) {
    let mut changed = (**jobs).clone();
    how(&mut changed);
    *jobs = Shared::new(changed);
}
