//! Who may start: what runs and what waits, of all Workflows together. The policy is `stagecraft_core::admit`; here is its memory,
//! which a new leader makes anew from the statuses. Nothing that waits is polled: an end wakes those that it makes room for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use stagecraft_api::run::Run;
use stagecraft_api::status::StagePhase;
use stagecraft_api::workflow::WhenTaken;
use stagecraft_api::{Moment, Workflow};
use stagecraft_core::Settings;
use stagecraft_core::admit::{self, Candidate, Place, Running, Seat};
use stagecraft_core::start::{has_begun, seat};

use crate::children;
use crate::clock::Clock;
use crate::controller::{Context, Guarded};
use crate::written::version;

/// How often a stage that waits is told of its place, at most.
const TELL: Duration = Duration::from_secs(30);

/// The memory, and the turn in which one Workflow after the other is decided about.
pub struct Admission {
    state: Mutex<State>,
    turn: tokio::sync::Mutex<bool>,
    settings: Settings,
    clock: Clock,
    wake: UnboundedSender<ObjectRef<Guarded>>,
}

#[derive(Default)]
struct State {
    /// By Workflow UID.
    running: BTreeMap<String, Entry>,
    waiting: BTreeMap<Place, Waiter>,
    /// Workflows with a key that have not ended, by namespace and key, then by UID.
    keyed: BTreeMap<(String, String), BTreeMap<String, Keyed>>,
    /// The version of each Workflow that was noted last, by UID: an older one, looked at by somebody slower, says nothing.
    versions: BTreeMap<String, u64>,
}

/// What one Workflow takes up.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// By stage.
    seats: BTreeMap<String, Seat>,
    /// Namespace and key, when it has begun under one.
    key: Option<(String, String)>,
}

struct Waiter {
    candidate: Candidate,
    workflow: ObjectRef<Guarded>,
    /// What it was told last, and when.
    told: Option<(String, Moment)>,
}

#[derive(Clone, Debug)]
struct Keyed {
    name: String,
    created: Moment,
    when_taken: WhenTaken,
    workflow: ObjectRef<Guarded>,
}

impl Admission {
    pub fn new(settings: Settings, clock: Clock, wake: UnboundedSender<ObjectRef<Guarded>>) -> Self {
        Self {
            state: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            settings,
            clock,
            wake,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to be decided about, kept until what was decided is stored. The first one looks at everything that runs already.
    pub async fn turn(
        &self,
        context: &Context,
    ) -> Result<tokio::sync::MutexGuard<'_, bool>, crate::observe::ObserveError> {
        let mut seeded = self.turn.lock().await;
        if !*seeded {
            for workflow in context.workflows() {
                let workflow = context.written.latest(workflow);
                // What takes up nothing needs no run to be known by.
                let run = if runs_something(&workflow) {
                    crate::observe::pinned_run(context, &workflow).await?
                } else {
                    None
                };
                self.note(&workflow, run.as_ref());
            }
            *seeded = true;
        }
        Ok(seeded)
    }

    /// Decides about the ready stages of one Workflow; `frees` are those of its stages that end in the same plan.
    pub fn decide(
        &self,
        workflow: &Workflow,
        wants: &[Candidate],
        frees: &[String],
        now: Moment,
    ) -> admit::Admission {
        let uid = workflow.uid().unwrap_or_default();
        let mut state = self.state();
        let before = state.take_waiting(&uid);
        let running = state.running_without(&uid, frees);
        for candidate in wants {
            let told = before.iter().find(|(place, _)| *place == candidate.place);
            state.waiting.insert(
                candidate.place.clone(),
                Waiter {
                    candidate: candidate.clone(),
                    workflow: children::reference(workflow),
                    told: told.and_then(|(_, told)| told.clone()),
                },
            );
        }
        let all = state.waiting.values().map(|waiter| &waiter.candidate);
        let mut decided = admit::decide(&uid, all, &running, now, &self.settings);
        if let admit::Admission::Decided { held, .. } = &mut decided {
            for (stage, text) in held {
                let place = Place {
                    workflow_uid: uid.clone(),
                    stage: stage.clone(),
                };
                if let Some(waiter) = state.waiting.get_mut(&place) {
                    match &waiter.told {
                        Some((told, at)) if is_fresh(*at, now) => text.clone_from(told),
                        _ => waiter.told = Some((text.clone(), now)),
                    }
                }
            }
        }
        decided
    }

    /// What a Workflow takes up by its stored status. An end, and a key that is free again, wake those who may start now.
    pub fn note(&self, workflow: &Workflow, run: Option<&Run>) {
        let uid = workflow.uid().unwrap_or_default();
        let entry = entry(workflow, run);
        let mut state = self.state();
        if !state.is_news(&uid, version(workflow)) {
            return;
        }
        state.note_key(workflow, &self.wake);
        let before = match &entry {
            Some(entry) => state.running.insert(uid, entry.clone()),
            None => state.running.remove(&uid),
        };
        let freed = before.is_some_and(|before| {
            let after = entry.as_ref();
            let key_is_free = before.key.is_some() && after.is_none_or(|after| after.key != before.key);
            key_is_free || after.map_or(0, |after| after.seats.len()) < before.seats.len()
        });
        if freed {
            self.wake_next(&state);
        }
    }

    /// The Workflow wants nothing any more.
    pub fn withdraw(&self, uid: &str) {
        let mut state = self.state();
        if !state.take_waiting(uid).is_empty() {
            self.wake_next(&state);
        }
    }

    /// How many ready stages a limit holds back, and since when the oldest of them is ready.
    pub fn waiting(&self) -> (usize, Option<Moment>) {
        let state = self.state();
        let since = state.waiting.values().map(|waiter| waiter.candidate.since);
        (state.waiting.len(), since.min())
    }

    /// UIDs of all that it remembers.
    pub fn workflows(&self) -> BTreeSet<String> {
        let state = self.state();
        let waiting = state.waiting.keys().map(|place| &place.workflow_uid);
        state.versions.keys().chain(waiting).cloned().collect()
    }

    /// The Workflow is gone.
    pub fn forget(&self, uid: &str) {
        let mut state = self.state();
        state.take_waiting(uid);
        for workflows in state.keyed.values_mut() {
            workflows.remove(uid);
        }
        state.keyed.retain(|_, workflows| !workflows.is_empty());
        state.running.remove(uid);
        state.versions.remove(uid);
        self.wake_next(&state);
    }

    /// A newer Workflow of the same key that takes the place of this one, by name.
    pub fn superseded_by(&self, workflow: &Workflow) -> Option<String> {
        let key = key(workflow)?;
        let (uid, created) = (workflow.uid()?, created(workflow));
        let state = self.state();
        let newer = state.keyed.get(&key)?.iter().filter(|(other, keyed)| {
            (keyed.created, *other) > (created, &uid) && keyed.when_taken == WhenTaken::CancelOlder
        });
        newer
            .max_by_key(|(other, keyed)| (keyed.created, (*other).clone()))
            .map(|(_, keyed)| keyed.name.clone())
    }

    fn wake_next(&self, state: &State) {
        if state.waiting.is_empty() {
            return;
        }
        let now = self.clock.now();
        let running = state.running_without("", &[]);
        let candidates = state.waiting.values().map(|waiter| &waiter.candidate);
        let ordered = admit::order(candidates, &running, now, &self.settings);
        let (picks, _) = admit::admit(&ordered, &running, &self.settings);
        for pick in picks {
            if let Some(waiter) = state.waiting.get(&pick.place) {
                let _ = self.wake.unbounded_send(waiter.workflow.clone());
            }
        }
    }

    /// Wakes those whose place in the queue is another than they were told, for ever.
    pub async fn tell(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TELL).await;
            self.tell_once(self.clock.now());
        }
    }

    fn tell_once(&self, now: Moment) {
        let state = self.state();
        let running = state.running_without("", &[]);
        let candidates = state.waiting.values().map(|waiter| &waiter.candidate);
        let ordered = admit::order(candidates, &running, now, &self.settings);
        let (_, obstacles) = admit::admit(&ordered, &running, &self.settings);
        let held = ordered.iter().filter_map(|candidate| {
            let obstacle = obstacles.get(&candidate.place)?;
            Some((&candidate.place, obstacle))
        });
        for (ahead, (place, obstacle)) in held.enumerate() {
            let text = admit::held(obstacle, ahead);
            if let Some(waiter) = state.waiting.get(place)
                && waiter
                    .told
                    .as_ref()
                    .is_none_or(|(told, at)| *told != text && !is_fresh(*at, now))
            {
                let _ = self.wake.unbounded_send(waiter.workflow.clone());
            }
        }
    }
}

impl State {
    fn is_news(&mut self, uid: &str, version: u64) -> bool {
        let known = self.versions.entry(uid.to_owned()).or_insert(version);
        let is_news = version >= *known;
        *known = version.max(*known);
        is_news
    }

    /// Takes out what a Workflow waits for, with what it was told.
    fn take_waiting(&mut self, uid: &str) -> Vec<(Place, Option<(String, Moment)>)> {
        let first = Place {
            workflow_uid: uid.to_owned(),
            stage: String::new(),
        };
        let places: Vec<Place> = self
            .waiting
            .range(first..)
            .map(|(place, _)| place.clone())
            .take_while(|place| place.workflow_uid == uid)
            .collect();
        places
            .into_iter()
            .filter_map(|place| {
                let waiter = self.waiting.remove(&place)?;
                Some((place, waiter.told))
            })
            .collect()
    }

    fn running_without(&self, uid: &str, frees: &[String]) -> Running {
        let mut running = Running::default();
        for (of, entry) in &self.running {
            let seats = entry
                .seats
                .iter()
                .filter(|(stage, _)| of != uid || !frees.contains(stage));
            running.seats.extend(seats.map(|(_, seat)| seat.clone()));
            if let Some(key) = &entry.key {
                running.keys.insert(key.clone(), of.clone());
            }
        }
        running
    }

    /// A new Workflow that cancels older ones wakes them.
    fn note_key(&mut self, workflow: &Workflow, wake: &UnboundedSender<ObjectRef<Guarded>>) {
        let (Some(key), Some(uid)) = (key(workflow), workflow.uid()) else {
            return;
        };
        // One that cannot run, or is to end, takes nobody's place.
        let counts = workflow.status.as_ref().is_some_and(|status| {
            let is_held = workflow.spec.suspend && !has_begun(status);
            let goes_on = !status.phase.is_terminal() && !workflow.spec.cancel;
            status.run_ref.is_some() && goes_on && !is_held
        });
        let workflows = self.keyed.entry(key).or_default();
        if !counts {
            workflows.remove(&uid);
            return;
        }
        let when_taken = workflow
            .spec
            .concurrency
            .as_ref()
            .map(|concurrency| concurrency.when_taken)
            .unwrap_or_default();
        let keyed = Keyed {
            name: workflow.name_any(),
            created: created(workflow),
            when_taken,
            workflow: children::reference(workflow),
        };
        if workflows.insert(uid.clone(), keyed).is_none() && when_taken == WhenTaken::CancelOlder {
            for other in workflows.iter().filter(|(other, _)| **other != uid) {
                let _ = wake.unbounded_send(other.1.workflow.clone());
            }
        }
    }
}

fn is_fresh(told: Moment, now: Moment) -> bool {
    u128::from(now.millis_since(told)) < TELL.as_millis()
}

fn created(workflow: &Workflow) -> Moment {
    let created = workflow.creation_timestamp();
    Moment::new(created.map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0))
}

fn key(workflow: &Workflow) -> Option<(String, String)> {
    let concurrency = workflow.spec.concurrency.as_ref()?;
    Some((workflow.namespace()?, concurrency.key.clone()))
}

fn runs_something(workflow: &Workflow) -> bool {
    let mut stages = workflow.status.iter().flat_map(|status| &status.stages);
    stages.any(|stage| stage.phase == StagePhase::Running)
}

/// None: it takes up nothing.
fn entry(workflow: &Workflow, run: Option<&Run>) -> Option<Entry> {
    let status = workflow
        .status
        .as_ref()
        .filter(|status| !status.phase.is_terminal())?;
    let namespace = workflow.namespace()?;
    let running = status
        .stages
        .iter()
        .filter(|stage| stage.phase == StagePhase::Running);
    let seats: BTreeMap<String, Seat> = running
        .filter_map(|stage| {
            let pinned = run?.stage(&stage.name)?;
            Some((stage.name.clone(), seat(&namespace, pinned)))
        })
        .collect();
    let key = key(workflow).filter(|_| has_begun(status));
    (!seats.is_empty() || key.is_some()).then_some(Entry { seats, key })
}

#[cfg(test)]
mod tests;
