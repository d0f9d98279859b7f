//! Which ready stages may start, in which order, and what holds the others back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::fmt;

use stagecraft_api::moment::Moment;
use stagecraft_api::workflow::Priority;

use crate::settings::Settings;

/// One stage of one Workflow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub workflow_uid: String,
    pub stage: String,
}

/// What a stage takes up while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub namespace: String,
    /// The Agent, told from others of its name in other namespaces.
    pub agent: String,
}

/// A stage that is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub place: Place,
    pub seat: Seat,
    pub priority: Priority,
    /// Since when it is ready.
    pub since: Moment,
    /// Most stages of its Agent that run at once.
    pub agent_limit: Option<usize>,
    /// The key of which one Workflow runs at a time, unless this one runs already.
    pub key: Option<String>,
}

/// What runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Running {
    pub seats: Vec<Seat>,
    /// Workflows that run under a key, by namespace and key.
    pub keys: BTreeMap<(String, String), String>,
}

/// What a Workflow is told about its ready stages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Admission {
    /// Nobody was asked yet.
    #[default]
    Unasked,
    /// These may start; the others are held back by what is named.
    Decided {
        granted: BTreeSet<String>,
        held: BTreeMap<String, String>,
    },
}

/// The limit that holds a stage back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Another Workflow of this key runs.
    Key(String),
    /// So many stages run in the whole installation.
    Installation(usize),
    /// So many stages run in its namespace.
    Namespace(usize),
    /// So many stages of its Agent run.
    Agent(usize),
}

/// With the setting that raises the limit.
impl fmt::Display for Obstacle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => write!(formatter, "another Workflow of spec.concurrency.key {key:?} runs"),
            Self::Installation(limit) => write!(
                formatter,
                "{limit} stages run at once at the most (chart value operator.maxRunningStages)"
            ),
            Self::Namespace(limit) => write!(
                formatter,
                "{limit} stages of a namespace run at once at the most (chart value operator.maxRunningStagesPerNamespace)"
            ),
            Self::Agent(limit) => write!(
                formatter,
                "{limit} stages of its Agent run at once at the most (maxRunning of the Agent)"
            ),
        }
    }
}

/// The candidates in the order in which they get seats: by priority, which rises with waiting; then by how much their namespace has
/// already, so that none crowds out another; then by age. Those that a limit of their own holds back take up no turn of their namespace, and
/// come last.
pub fn order<'a>(
    candidates: impl IntoIterator<Item = &'a Candidate>,
    running: &Running,
    now: Moment,
    settings: &Settings,
) -> Vec<&'a Candidate> {
    let mut by_age: Vec<&Candidate> = candidates.into_iter().collect();
    by_age.sort_by_key(|candidate| (candidate.since, &candidate.place));
    let mut classes: BTreeMap<u64, BTreeMap<&str, VecDeque<&Candidate>>> = BTreeMap::new();
    for candidate in by_age {
        let class = classes.entry(class(candidate, now, settings)).or_default();
        let queue = class.entry(candidate.seat.namespace.as_str()).or_default();
        queue.push_back(candidate);
    }
    let unlimited = Settings {
        max_running_stages: None,
        ..settings.clone()
    };
    let mut taken = Taken::by(running);
    let (mut ordered, mut blocked) = (Vec::new(), Vec::new());
    for mut namespaces in classes.into_values() {
        let mut turns = BinaryHeap::new();
        let turn = |taken: &Taken<'_>, queue: &VecDeque<&'a Candidate>| {
            let first = *queue.front()?;
            let namespace = first.seat.namespace.as_str();
            Some(Reverse((
                taken.namespaces.get(namespace).copied().unwrap_or(0),
                first.since,
                &first.place,
                namespace,
            )))
        };
        turns.extend(namespaces.values().filter_map(|queue| turn(&taken, queue)));
        while let Some(Reverse((.., namespace))) = turns.pop() {
            let Some(queue) = namespaces.get_mut(namespace) else {
                continue;
            };
            let Some(candidate) = queue.pop_front() else {
                continue;
            };
            if taken.obstacle(candidate, &unlimited).is_some() {
                blocked.push(candidate);
            } else {
                taken.take(candidate);
                ordered.push(candidate);
            }
            turns.extend(turn(&taken, queue));
        }
    }
    ordered.extend(blocked);
    ordered
}

/// 0 goes first.
fn class(candidate: &Candidate, now: Moment, settings: &Settings) -> u64 {
    let class = match candidate.priority {
        Priority::Critical => 0,
        Priority::High => 1,
        Priority::Medium => 2,
        Priority::Low => 3,
    };
    let waited = now.millis_since(candidate.since);
    let risen = waited.checked_div(settings.aging_millis).unwrap_or(0);
    class - risen.min(class)
}

/// The candidates that start now, of those in `order`, and what holds each of the others.
pub fn admit<'a>(
    ordered: &[&'a Candidate],
    running: &Running,
    settings: &Settings,
) -> (Vec<&'a Candidate>, BTreeMap<&'a Place, Obstacle>) {
    let mut taken = Taken::by(running);
    let mut picks = Vec::new();
    let mut held = BTreeMap::new();
    for candidate in ordered {
        if let Some(obstacle) = taken.obstacle(candidate, settings) {
            held.insert(&candidate.place, obstacle);
        } else {
            taken.take(candidate);
            picks.push(*candidate);
        }
    }
    (picks, held)
}

/// How much is taken up, counted.
#[derive(Default)]
struct Taken<'a> {
    seats: usize,
    namespaces: BTreeMap<&'a str, usize>,
    agents: BTreeMap<&'a str, usize>,
    /// The Workflow that has a key, by namespace and key.
    keys: BTreeMap<(&'a str, &'a str), &'a str>,
}

impl<'a> Taken<'a> {
    fn by(running: &'a Running) -> Self {
        let keys = running.keys.iter();
        let mut taken = Self {
            keys: keys
                .map(|((namespace, key), holder)| ((namespace.as_str(), key.as_str()), holder.as_str()))
                .collect(),
            ..Self::default()
        };
        for seat in &running.seats {
            taken.seat(seat);
        }
        taken
    }

    fn seat(&mut self, seat: &'a Seat) {
        self.seats += 1;
        *self.namespaces.entry(&seat.namespace).or_default() += 1;
        *self.agents.entry(&seat.agent).or_default() += 1;
    }

    fn take(&mut self, candidate: &'a Candidate) {
        self.seat(&candidate.seat);
        if let Some(key) = &candidate.key {
            self.keys
                .insert((&candidate.seat.namespace, key), &candidate.place.workflow_uid);
        }
    }

    /// The limit that holds a stage back.
    fn obstacle(&self, candidate: &Candidate, settings: &Settings) -> Option<Obstacle> {
        let Seat { namespace, agent } = &candidate.seat;
        let count = |counts: &BTreeMap<&str, usize>, name: &String| counts.get(name.as_str()).copied();
        if let Some(key) = &candidate.key
            && self
                .keys
                .get(&(namespace.as_str(), key.as_str()))
                .is_some_and(|holder| *holder != candidate.place.workflow_uid)
        {
            return Some(Obstacle::Key(key.clone()));
        }
        if let Some(limit) = settings.max_running_stages
            && self.seats >= limit
        {
            return Some(Obstacle::Installation(limit));
        }
        if let Some(limit) = settings.max_running_stages_per_namespace
            && count(&self.namespaces, namespace).unwrap_or(0) >= limit
        {
            return Some(Obstacle::Namespace(limit));
        }
        if let Some(limit) = candidate.agent_limit
            && count(&self.agents, agent).unwrap_or(0) >= limit
        {
            return Some(Obstacle::Agent(limit));
        }
        None
    }
}

/// What one Workflow is told, when everything that waits is known: its own candidates are among them.
pub fn decide<'a>(
    workflow_uid: &str,
    candidates: impl IntoIterator<Item = &'a Candidate>,
    running: &Running,
    now: Moment,
    settings: &Settings,
) -> Admission {
    let ordered = order(candidates, running, now, settings);
    let (picks, obstacles) = admit(&ordered, running, settings);
    let own = |place: &&Place| place.workflow_uid == workflow_uid;
    let granted = picks
        .iter()
        .map(|pick| &pick.place)
        .filter(own)
        .map(|place| place.stage.clone());
    let waiting = ordered
        .iter()
        .map(|candidate| &candidate.place)
        .filter(|place| obstacles.contains_key(place));
    let held = waiting
        .enumerate()
        .filter(|(_, place)| own(place))
        .filter_map(|(ahead, place)| Some((place.stage.clone(), held(obstacles.get(place)?, ahead))));
    Admission::Decided {
        granted: granted.collect(),
        held: held.collect(),
    }
}

/// The obstacle and the place in the queue, as people read it.
pub fn held(obstacle: &Obstacle, ahead: usize) -> String {
    format!("{obstacle}; place in the queue: {}", bucket(ahead))
}

/// A place in the queue, coarse enough to stay the same for a while.
fn bucket(ahead: usize) -> &'static str {
    match ahead {
        0 => "next",
        1..10 => "among the first 10",
        10..100 => "among the first 100",
        100..1000 => "among the first 1000",
        _ => "behind 1000 others",
    }
}

#[cfg(test)]
mod tests;
