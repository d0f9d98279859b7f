//! An operator as `operator/src` has it: watches that lag, a memory that a crash empties, one action after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::failure::GATE_FAILED;
use stagecraft_api::moment::Moment;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::status::{AttemptSummary, StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_core::admit::Admission;
use stagecraft_core::envelope::run_digest;
use stagecraft_core::observation::{AttemptEvidence, ResultEvidence, RunEvidence};
use stagecraft_core::{Action, Observation, Settings, plan};

use crate::cluster::Cluster;
use crate::world::{Post, Weather, World};

pub struct Operator {
    number: usize,
    settings: Settings,
    /// The version that the watch has brought, and the one that this operator wrote last.
    watched: usize,
    written: usize,
    cache: Cluster,
    /// The request as the watch has brought it.
    spec: WorkflowSpec,
    seen: BTreeSet<String>,
    announced: BTreeMap<AttemptKey, AttemptResult>,
    /// Actions of the plan in hand, and the version that they rest upon.
    pending: VecDeque<Action>,
    base: usize,
    /// Jobs whose creation it waits for.
    creating: usize,
    /// Something changed since it last looked.
    woken: bool,
    pub due: Option<Moment>,
}

impl Operator {
    pub fn new(number: usize, settings: &Settings, world: &World) -> Self {
        Self {
            number,
            settings: settings.clone(),
            watched: 0,
            written: 0,
            cache: Cluster::default(),
            spec: world.spec.clone(),
            seen: BTreeSet::new(),
            announced: BTreeMap::new(),
            pending: VecDeque::new(),
            base: 0,
            creating: 0,
            woken: true,
            due: None,
        }
    }

    /// Starts again: lists what there is, claims every entry of the stream.
    pub fn crash(&mut self, world: &mut World) {
        let number = self.number;
        world.note(|| format!("operator {number} crashes"));
        let settings = self.settings.clone();
        *self = Self::new(number, &settings, world);
        self.sync(world);
        for entry in &mut world.stream {
            entry.delivered = true;
            if let Some(result) = world.gateway.results.get(&entry.key) {
                self.announced.insert(entry.key.clone(), result.clone());
            }
        }
    }

    /// The watches catch up.
    pub fn sync(&mut self, world: &World) {
        if self.watched != world.version() || self.cache != world.cluster || self.spec != world.spec {
            self.watched = world.version();
            self.spec = world.spec.clone();
            self.cache = world.cluster.clone();
            self.seen.extend(self.cache.jobs.keys().cloned());
            self.woken = true;
        }
    }

    pub fn hear(&mut self, key: &AttemptKey, world: &World) {
        if let Some(result) = world.gateway.results.get(key) {
            self.announced.insert(key.clone(), result.clone());
            self.woken = true;
        }
    }

    /// A creation that it waited for was answered, or timed out.
    pub fn answer(&mut self, job: &str, world: &World) {
        self.creating = self.creating.saturating_sub(1);
        if let Some(created) = world.cluster.jobs.get(job) {
            self.cache.jobs.insert(job.to_owned(), created.clone());
            self.seen.insert(job.to_owned());
        }
    }

    fn starts(&self) -> bool {
        matches!(self.pending.front(), Some(Action::Start(_)))
    }

    pub fn waits_for_an_answer(&self) -> bool {
        self.creating > 0 && !self.starts()
    }

    /// An action of a plan that was begun.
    pub fn has_something_to_do(&self) -> bool {
        !self.pending.is_empty() && !self.waits_for_an_answer()
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.creating == 0
    }

    pub fn wants_to_run(&self, now: Moment) -> bool {
        !self.is_idle() || self.woken || self.due.is_some_and(|at| at <= now)
    }

    /// Nothing in hand, nothing to remember, nothing to come.
    pub fn is_at_rest(&self) -> bool {
        self.is_idle() && !self.woken && self.due.is_none() && self.announced.is_empty()
    }

    /// Does the next thing: one action of the plan in hand, or the making of a new plan. Jobs of one plan are created side
    /// by side: one after the other, the last would come after the grace that its attempt has.
    pub fn step(&mut self, world: &mut World) {
        if self.waits_for_an_answer() {
            return;
        }
        match self.pending.pop_front() {
            Some(action) => self.perform(action, world),
            None => self.think(world),
        }
    }

    fn think(&mut self, world: &mut World) {
        self.woken = false;
        self.base = self.watched.max(self.written);
        let mut live = BTreeSet::new();
        for _ in 0..4 {
            let observation = self.observe(world, &live);
            let planned = plan(&observation, &self.settings);
            let looks: Vec<String> = planned
                .actions
                .iter()
                .filter_map(|action| match action {
                    Action::Look { stage } => Some(stage.clone()),
                    _ => None,
                })
                .collect();
            if looks.is_empty() {
                for action in &planned.actions {
                    if let Action::Store(status) = action {
                        check_results(&observation, status, world);
                    }
                }
                self.pending = planned.actions.into();
                self.due = planned.wake_at;
                return;
            }
            let again = looks.iter().all(|stage| live.contains(stage));
            world
                .ledger
                .promise(!again, "I7: live evidence asks for live evidence");
            live.extend(looks);
        }
    }

    fn observe(&self, world: &World, live: &BTreeSet<String>) -> Observation {
        let status: WorkflowStatus = world.versions.get(self.base).cloned().unwrap_or_default();
        let running = status
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        let attempts = running
            .map(|stage| {
                let evidence = if live.contains(&stage.name) {
                    self.look(world, stage)
                } else {
                    self.glance(world, stage)
                };
                (stage.name.clone(), evidence)
            })
            .collect();
        let run = match (&status.run_ref, &world.pinned) {
            (None, _) => RunEvidence::NotPinned(world.catalog.clone()),
            (Some(reference), Some(run)) if reference.digest == run_digest(run) => {
                RunEvidence::Pinned(run.clone())
            }
            (Some(_), _) => RunEvidence::Lost("gone".to_owned()),
        };
        Observation {
            now: world.now,
            identity: world.identity.clone(),
            spec: self.spec.clone(),
            status,
            run,
            attempts,
            open_jobs: self.cache.open_jobs(),
            announced: self.announced.keys().cloned().collect(),
            approvals: BTreeMap::new(),
            admission: Admission::Unasked,
            used: None,
            model_trouble: None,
            superseded_by: None,
        }
    }

    fn glance(&self, world: &World, stage: &StageStatus) -> AttemptEvidence {
        let key = world.key(&stage.name, stage.attempt);
        AttemptEvidence {
            job: self.cache.job(&stage.job, self.seen.contains(&stage.job)),
            pod: self.cache.pod(&stage.job),
            result: self
                .announced
                .get(&key)
                .map_or(ResultEvidence::Unknown, |result| {
                    ResultEvidence::Some(Box::new(result.clone()))
                }),
            live: false,
        }
    }

    fn look(&self, world: &World, stage: &StageStatus) -> AttemptEvidence {
        let key = world.key(&stage.name, stage.attempt);
        let result = if world.gateway.reachable {
            world
                .gateway
                .results
                .get(&key)
                .map_or(ResultEvidence::None, |result| {
                    ResultEvidence::Some(Box::new(result.clone()))
                })
        } else {
            ResultEvidence::Unavailable("connection refused".to_owned())
        };
        AttemptEvidence {
            job: world.cluster.job(&stage.job, self.seen.contains(&stage.job)),
            pod: world.cluster.pod(&stage.job),
            result,
            live: true,
        }
    }

    fn perform(&mut self, action: Action, world: &mut World) {
        let number = self.number;
        match action {
            Action::Look { .. } | Action::Record(_) => {}
            Action::Ask { .. } => world.ledger.promise(false, "somebody is asked who was not to be"),
            Action::Delete => world
                .ledger
                .promise(false, "a Workflow without a time to live was deleted"),
            Action::Pin(run) => world.pinned = Some(*run),
            Action::Store(status) => self.store(&status, world),
            Action::Start(task) => {
                let key = task.attempt;
                world.note(|| format!("operator {number} posts {key}"));
                if let Some(run) = &world.pinned {
                    let stored = world.versions.last().cloned().unwrap_or_default();
                    world.ledger.post(&key, run, &stored);
                }
                let job = stagecraft_api::name::job(&task.workflow.name, &key);
                self.post(key, job, world);
            }
            Action::Close { job, .. } => {
                world.note(|| format!("operator {number} closes {job}"));
                let now = world.now;
                world.cluster.close(&job, now);
            }
            Action::Acknowledge(key) => {
                self.announced.remove(&key);
                if world.weather == Weather::Calm || !world.generator.one_in(4) {
                    world.stream.retain(|entry| entry.key != key);
                }
            }
        }
    }

    fn store(&mut self, status: &WorkflowStatus, world: &mut World) {
        let number = self.number;
        if !world.patch(self.base, status) {
            self.pending.clear();
            // The watch brings what the other wrote.
            self.due = Some(world.now.plus_millis(100));
            return;
        }
        let stages: Vec<String> = status
            .stages
            .iter()
            .map(|stage| format!("{} {:?} {}", stage.name, stage.phase, stage.attempt))
            .collect();
        world.note(|| format!("operator {number} stores {}", stages.join(", ")));
        if world.weather == Weather::Storm && world.generator.one_in(20) {
            // The answer is lost: it does not know that it won.
            self.pending.clear();
            self.due = Some(world.now.plus_seconds(1));
            return;
        }
        self.base = world.version();
        self.written = self.base;
        self.woken = true;
    }

    /// The creation takes a while, shorter than its timeout; in a storm it may be lost, late, or unanswered.
    fn post(&mut self, key: AttemptKey, job: String, world: &mut World) {
        let slow = world.now.plus_millis(world.generator.below(7_000));
        let storm = world.weather == Weather::Storm;
        let (lands_at, answer_to) = match world.generator.below(10) {
            0 if storm => return,
            1 if storm => (world.now.plus_seconds(world.generator.below(90)), None),
            2 if storm => (slow, None),
            _ => (slow, Some(self.number)),
        };
        self.creating += usize::from(answer_to.is_some());
        world.posts.push(Post {
            lands_at,
            key,
            job,
            answer_to,
        });
    }
}

/// A result that the gateway has is what its attempt is judged by, whatever else is seen.
fn check_results(observation: &Observation, after: &WorkflowStatus, world: &World) {
    for stage in &after.stages {
        let judged = |attempt: &&AttemptSummary| {
            observation.attempts.contains_key(&stage.name) && {
                let before = observation
                    .status
                    .stages
                    .iter()
                    .find(|known| known.name == stage.name);
                before.is_some_and(|before| before.attempt == attempt.attempt)
            }
        };
        for attempt in stage.history.iter().filter(judged) {
            let key = world.key(&stage.name, attempt.attempt);
            let stored = world.gateway.results.get(&key);
            let heeded = match stored.map(|result| &result.outcome) {
                None => true,
                Some(Outcome::Failed { error }) => error.code == attempt.code,
                Some(Outcome::Succeeded { .. }) => attempt.code == GATE_FAILED,
            };
            world
                .ledger
                .promise(heeded, &format!("the result of {key} was not asked for"));
        }
    }
}
