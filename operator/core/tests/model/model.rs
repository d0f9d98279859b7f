//! The states and what leads from one to the next.

use std::collections::{BTreeMap, BTreeSet};

use stagecraft_api::status::{StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};
use stagecraft_core::Action;
use stateright::{Model, Property};

use crate::conduct::change;
use crate::evidence::{Fixed, number};
use crate::mutants::{self, Mutant};
use crate::properties;
use crate::shared::Shared;
use crate::state::{Job, Jobs, Key, Operator, Pinned, Seen, Spent, State, Workflow};

/// How much of everything there is.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is asked for by a search of its own"
)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub operators: usize,
    /// Stages, each of which needs the one before it.
    pub stages: usize,
    /// How often time passes; each time more than every grace and timeout.
    pub ticks: u8,
    pub crashes: u8,
    /// Status patches that are stored without their writer being told.
    pub lost_replies: u8,
    /// Creations of Jobs that are lost, unanswered, or late.
    pub lost_posts: u8,
    /// Jobs that are deleted by hand.
    pub deletions: u8,
    /// Pods that end without a result.
    pub deaths: u8,
    /// Agents that fail.
    pub failures: u8,
    /// Results that are announced again.
    pub repeats: u8,
    /// Pods that report after their Job has gone.
    pub late: u8,
    pub cancels: bool,
    /// Runs that the owner asks for, with the first.
    pub runs: u32,
    /// It begins with the request, before anything was pinned.
    pub from_request: bool,
    /// The last stage is judged, and sends the work back to the first.
    pub repairs: bool,
    /// Views of Jobs and Pods lag each by itself.
    pub pods_lag: bool,
    /// The ConfigMap of the run may be deleted by hand.
    pub loses_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    SeeWorkflow(usize),
    SeeJobs(usize),
    SeePods(usize),
    Hear(usize, Key),
    /// Plans, or does the next action of the plan in hand.
    Act(usize, Luck),
    Crash(usize),
    Land(Key),
    Report(Key, bool),
    ReportLate(Key),
    End(Key),
    Die(Key, bool),
    DeleteJob(Key),
    DeletePod(Key),
    LoseRun,
    Repeat(Key),
    TimePasses,
    Cancel,
    AskAgain,
}

/// How an action goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Luck {
    Good,
    /// It takes place; nobody is told.
    ReplyLost,
    Lost,
    /// It takes place later; nobody is told.
    Late,
    /// Something on the way sends it twice.
    Twice,
}

pub struct Check {
    pub bounds: Bounds,
    pub fixed: Fixed,
    pub mutant: Mutant,
}

impl Check {
    pub fn new(bounds: Bounds) -> Self {
        Self::broken(bounds, mutants::none())
    }

    pub fn broken(bounds: Bounds, mutant: Mutant) -> Self {
        Self {
            bounds,
            fixed: Fixed::new(bounds.stages, bounds.repairs),
            mutant,
        }
    }

    /// The Workflow right after it was accepted, or created.
    fn begin(&self) -> State {
        let jobs = Shared::new(Jobs::new());
        let empty = Workflow {
            status: Shared::new(WorkflowStatus::default()),
            cancel: false,
            retry: 0,
        };
        let mut state = State {
            workflow: empty,
            pinned: Pinned::NotYet,
            jobs: jobs.clone(),
            leaving: BTreeSet::new(),
            created: BTreeMap::new(),
            results: BTreeMap::new(),
            granted: BTreeMap::new(),
            stream: BTreeSet::new(),
            posts: BTreeSet::new(),
            operators: Vec::new(),
            ticks: 0,
            spent: Spent::default(),
            seen: Seen::default(),
            broken: None,
        };
        if !self.bounds.from_request {
            state.pinned = Pinned::There;
            state.workflow.status = Shared::new(self.fixed.accepted.clone());
        }
        let operator = Operator {
            workflow: state.workflow.clone(),
            pods: jobs.clone(),
            jobs,
            written: None,
            seen: BTreeSet::new(),
            announced: BTreeSet::new(),
            pending: Vec::new(),
            base: None,
            woken: true,
        };
        state.operators = vec![operator; self.bounds.operators];
        state
    }
}

impl Model for Check {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        let (bounds, spent) = (&self.bounds, &state.spent);
        for (at, operator) in state.operators.iter().enumerate() {
            if operator.workflow != state.workflow {
                steps.push(Step::SeeWorkflow(at));
            }
            if operator.jobs != state.jobs {
                steps.push(Step::SeeJobs(at));
            }
            if bounds.pods_lag && operator.pods != state.jobs {
                steps.push(Step::SeePods(at));
            }
            let unheard = state
                .stream
                .iter()
                .filter(|key| !operator.announced.contains(*key));
            steps.extend(unheard.map(|key| Step::Hear(at, *key)));
            let (write, start) = match operator.pending.first().map(|action| &**action) {
                Some(Action::Store(_) | Action::Pin(_) | Action::Close { .. } | Action::Acknowledge(_)) => {
                    (true, false)
                }
                Some(Action::Start(_)) => (false, true),
                _ => (false, false),
            };
            if !operator.pending.is_empty() || operator.woken {
                steps.push(Step::Act(at, Luck::Good));
            }
            if write && spent.lost_replies < bounds.lost_replies {
                steps.push(Step::Act(at, Luck::ReplyLost));
            }
            if start && spent.lost_posts < bounds.lost_posts {
                let lucks = [Luck::ReplyLost, Luck::Lost, Luck::Late, Luck::Twice];
                steps.extend(lucks.map(|luck| Step::Act(at, luck)));
            }
            if spent.crashes < bounds.crashes {
                steps.push(Step::Crash(at));
            }
        }
        steps.extend(state.posts.iter().map(|key| Step::Land(*key)));
        for (key, job) in &*state.jobs {
            match job {
                Job::Works => {
                    steps.push(Step::Report(*key, true));
                    if spent.failures < bounds.failures {
                        steps.push(Step::Report(*key, false));
                    }
                    if spent.deaths < bounds.deaths {
                        steps.extend([Step::Die(*key, false), Step::Die(*key, true)]);
                    }
                }
                Job::Reported => steps.push(Step::End(*key)),
                Job::Ended(_) | Job::Podless => {}
            }
            if spent.deletions < bounds.deletions {
                steps.push(Step::DeleteJob(*key));
                if job.is_open() {
                    steps.push(Step::DeletePod(*key));
                }
            }
        }
        steps.extend(state.leaving.iter().map(|key| Step::ReportLate(*key)));
        if bounds.loses_run && state.pinned == Pinned::There && !state.workflow.status.phase.is_terminal() {
            steps.push(Step::LoseRun);
        }
        let announced = state.results.keys().filter(|key| !state.stream.contains(*key));
        if spent.repeats < bounds.repeats {
            steps.extend(announced.map(|key| Step::Repeat(*key)));
        }
        // The request's own timeout is shorter than the grace: none that may still be answered is under way when time passes.
        let starting = state.operators.iter().any(|operator| {
            operator
                .pending
                .iter()
                .any(|action| matches!(**action, Action::Start(_)))
        });
        if state.ticks < bounds.ticks && !starting {
            steps.push(Step::TimePasses);
        }
        if bounds.cancels && !state.workflow.cancel && state.workflow.retry == 0 {
            steps.push(Step::Cancel);
        }
        let status = &state.workflow.status;
        if status.phase.is_terminal() && status.run < bounds.runs && state.workflow.retry <= status.run {
            steps.push(Step::AskAgain);
        }
    }

    #[expect(clippy::too_many_lines, reason = "an arm for each step")]
    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::SeeWorkflow(at) => {
                let operator = &mut state.operators[at];
                operator.workflow = state.workflow.clone();
                operator.written = None;
                operator.woken = true;
            }
            Step::SeeJobs(at) => {
                let operator = &mut state.operators[at];
                operator.jobs = state.jobs.clone();
                operator.seen.extend(state.jobs.keys().copied());
                if !self.bounds.pods_lag {
                    operator.pods = state.jobs.clone();
                }
                operator.woken = true;
            }
            Step::SeePods(at) => {
                let operator = &mut state.operators[at];
                operator.pods = state.jobs.clone();
                operator.woken = true;
            }
            Step::Hear(at, key) => {
                let operator = &mut state.operators[at];
                operator.announced.insert(key);
                operator.woken = true;
            }
            Step::Act(at, luck) => {
                if state.operators[at].pending.is_empty() {
                    self.plan(&mut state, at);
                } else {
                    self.perform(&mut state, at, luck);
                }
            }
            Step::Crash(at) => Self::crash(&mut state, at),
            Step::Land(key) => {
                state.posts.remove(&key);
                self.create(&mut state, key);
            }
            Step::Report(key, good) => {
                state.spent.failures += u8::from(!good);
                let taken = Self::report(&mut state, key, good);
                change(&mut state.jobs, |jobs| {
                    jobs.insert(key, if taken { Job::Reported } else { Job::Ended(false) });
                });
            }
            Step::ReportLate(key) => {
                state.leaving.remove(&key);
                state.spent.late += 1;
                state.seen.late |= Self::report(&mut state, key, true);
            }
            Step::End(key) => {
                let good = state.results.get(&key).copied().unwrap_or(false);
                change(&mut state.jobs, |jobs| {
                    jobs.insert(key, Job::Ended(good));
                });
            }
            Step::Die(key, good) => {
                state.spent.deaths += 1;
                change(&mut state.jobs, |jobs| {
                    jobs.insert(key, Job::Ended(good));
                });
            }
            Step::DeleteJob(key) => {
                state.spent.deletions += 1;
                self.remove(&mut state, key);
            }
            Step::DeletePod(key) => {
                state.spent.deletions += 1;
                if state.jobs.get(&key) == Some(&Job::Works) && state.spent.late < self.bounds.late {
                    state.leaving.insert(key);
                }
                change(&mut state.jobs, |jobs| {
                    jobs.insert(key, Job::Podless);
                });
            }
            Step::LoseRun => {
                state.pinned = Pinned::Lost;
                for operator in &mut state.operators {
                    operator.woken = true;
                }
            }
            Step::Repeat(key) => {
                state.spent.repeats += 1;
                state.stream.insert(key);
                for operator in &mut state.operators {
                    operator.announced.remove(&key);
                }
            }
            Step::TimePasses => {
                state.ticks += 1;
                for operator in &mut state.operators {
                    operator.woken = true;
                }
            }
            Step::Cancel => state.workflow.cancel = true,
            Step::AskAgain => {
                state.workflow.cancel = false;
                state.workflow.retry = state.workflow.status.run + 1;
            }
        }
        let after = state.reached(last);
        Some(after)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }
}

impl State {
    pub fn phase(&self) -> WorkflowPhase {
        self.workflow.status.phase
    }

    pub fn stage(&self, stage: u8) -> Option<&StageStatus> {
        let mut stages = self.workflow.status.stages.iter();
        stages.find(|found| number(&found.name) == stage)
    }

    /// Whether the stored status says that this attempt runs.
    pub fn runs(&self, key: Key) -> bool {
        let runs = |found: &StageStatus| found.phase == StagePhase::Running && found.attempt == key.1;
        self.stage(key.0).is_some_and(runs)
    }

    /// Takes down what is worth reaching.
    fn reached(mut self, before: &Self) -> Self {
        if self.workflow.status != before.workflow.status {
            for stage in &self.workflow.status.stages {
                let key = (number(&stage.name), stage.attempt);
                let lost = stage
                    .history
                    .iter()
                    .any(|attempt| matches!(attempt.code.as_str(), "JobMissing" | "JobDeleted"));
                self.seen.burnt |= lost;
                // Its result was taken although nobody was told that it had been made.
                self.seen.adopted |= stage.phase == StagePhase::Succeeded
                    && self.created.contains_key(&key)
                    && self.spent.lost_posts > 0
                    && key.1 == 1;
            }
        }
        self
    }
}
