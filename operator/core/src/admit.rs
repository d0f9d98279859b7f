//! Which ready stages may start, in which order, and what holds the others back.

use std::collections::{BTreeMap, BTreeSet};
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
/// already, so that none crowds out another; then by age.
pub fn order<'a>(
    candidates: impl IntoIterator<Item = &'a Candidate>,
    running: &Running,
    now: Moment,
    settings: &Settings,
) -> Vec<&'a Candidate> {
    let mut by_age: Vec<&Candidate> = candidates.into_iter().collect();
    by_age.sort_by_key(|candidate| (class(candidate, now, settings), candidate.since, &candidate.place));
    let mut shares: BTreeMap<(u64, &str), usize> = BTreeMap::new();
    let mut seated: BTreeMap<&str, usize> = BTreeMap::new();
    for seat in &running.seats {
        *seated.entry(&seat.namespace).or_default() += 1;
    }
    let mut keyed: Vec<((u64, usize), &Candidate)> = Vec::with_capacity(by_age.len());
    for candidate in by_age {
        let class = class(candidate, now, settings);
        let namespace = candidate.seat.namespace.as_str();
        let share = shares
            .entry((class, namespace))
            .or_insert_with(|| seated.get(namespace).copied().unwrap_or(0));
        keyed.push(((class, *share), candidate));
        *share += 1;
    }
    // Stable: by age where they are equal.
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, candidate)| candidate).collect()
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
    let mut running = running.clone();
    let mut picks = Vec::new();
    let mut held = BTreeMap::new();
    for candidate in ordered {
        if let Some(obstacle) = obstacle(candidate, &running, settings) {
            held.insert(&candidate.place, obstacle);
            continue;
        }
        running.seats.push(candidate.seat.clone());
        if let Some(key) = key_of(candidate) {
            running.keys.insert(key, candidate.place.workflow_uid.clone());
        }
        picks.push(*candidate);
    }
    (picks, held)
}

/// The limit that holds a stage back.
pub fn obstacle(candidate: &Candidate, running: &Running, settings: &Settings) -> Option<Obstacle> {
    let count = |same: &dyn Fn(&Seat) -> bool| running.seats.iter().filter(|seat| same(seat)).count();
    if let Some(key) = key_of(candidate)
        && running
            .keys
            .get(&key)
            .is_some_and(|holder| *holder != candidate.place.workflow_uid)
    {
        return Some(Obstacle::Key(key.1));
    }
    if let Some(limit) = settings.max_running_stages
        && running.seats.len() >= limit
    {
        return Some(Obstacle::Installation(limit));
    }
    if let Some(limit) = settings.max_running_stages_per_namespace
        && count(&|seat| seat.namespace == candidate.seat.namespace) >= limit
    {
        return Some(Obstacle::Namespace(limit));
    }
    if let Some(limit) = candidate.agent_limit
        && count(&|seat| seat.agent == candidate.seat.agent) >= limit
    {
        return Some(Obstacle::Agent(limit));
    }
    None
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

fn key_of(candidate: &Candidate) -> Option<(String, String)> {
    let key = candidate.key.clone()?;
    Some((candidate.seat.namespace.clone(), key))
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
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        let start: Moment = serde_json::from_value(serde_json::json!("2026-11-01T10:00:00Z")).unwrap();
        start.plus_seconds(seconds)
    }

    fn candidate(uid: &str, namespace: &str, since: u64) -> Candidate {
        Candidate {
            place: Place {
                workflow_uid: uid.to_owned(),
                stage: "work".to_owned(),
            },
            seat: seat(namespace),
            priority: Priority::Medium,
            since: at(since),
            agent_limit: None,
            key: None,
        }
    }

    fn seat(namespace: &str) -> Seat {
        Seat {
            namespace: namespace.to_owned(),
            agent: "worker".to_owned(),
        }
    }

    fn limited(limit: usize) -> Settings {
        Settings {
            max_running_stages: Some(limit),
            ..Settings::default()
        }
    }

    fn running(namespaces: &[&str]) -> Running {
        Running {
            seats: namespaces.iter().map(|namespace| seat(namespace)).collect(),
            keys: BTreeMap::new(),
        }
    }

    fn names(ordered: &[&Candidate]) -> Vec<String> {
        ordered
            .iter()
            .map(|candidate| candidate.place.workflow_uid.clone())
            .collect()
    }

    fn in_order(candidates: &[Candidate], running: &Running, now: u64) -> Vec<String> {
        names(&order(candidates, running, at(now), &Settings::default()))
    }

    #[test]
    fn the_urgent_go_first_and_the_patient_catch_up() {
        let mut critical = candidate("critical", "a", 90);
        critical.priority = Priority::Critical;
        let mut low = candidate("low", "a", 0);
        low.priority = Priority::Low;
        let medium = candidate("medium", "a", 50);
        let all = [low, medium, critical];
        assert_eq!(
            in_order(&all, &Running::default(), 100),
            ["critical", "medium", "low"]
        );
        // One class each ten minutes.
        assert_eq!(
            in_order(&all, &Running::default(), 3 * 600),
            ["low", "medium", "critical"]
        );
    }

    #[test]
    fn namespaces_take_turns_however_much_one_of_them_wants() {
        let mut all: Vec<Candidate> = (0..4)
            .map(|number| candidate(&format!("a{number}"), "a", number))
            .collect();
        all.push(candidate("b0", "b", 50));
        all.push(candidate("c0", "c", 60));
        assert_eq!(
            in_order(&all, &Running::default(), 100),
            ["a0", "b0", "c0", "a1", "a2", "a3"]
        );
        assert_eq!(
            in_order(&all, &running(&["b", "b"]), 100),
            ["a0", "c0", "a1", "a2", "b0", "a3"]
        );
    }

    #[test]
    fn seats_are_given_in_order_up_to_each_limit_which_is_named() {
        let all = [
            candidate("a", "x", 0),
            candidate("b", "x", 1),
            candidate("c", "y", 2),
        ];
        let ordered: Vec<&Candidate> = all.iter().collect();
        let (picks, held) = admit(&ordered, &running(&["z"]), &limited(2));
        assert_eq!(names(&picks), ["a"]);
        assert_eq!(held.len(), 2);
        assert!(
            held.values()
                .all(|obstacle| *obstacle == Obstacle::Installation(2)),
            "{held:?}"
        );

        let settings = Settings {
            max_running_stages_per_namespace: Some(1),
            ..Settings::default()
        };
        let (picks, held) = admit(&ordered, &Running::default(), &settings);
        assert_eq!(names(&picks), ["a", "c"], "a full namespace holds no other back");
        assert!(
            held[&all[1].place]
                .to_string()
                .contains("operator.maxRunningStagesPerNamespace"),
            "{held:?}"
        );

        let mut scarce = candidate("d", "x", 0);
        scarce.agent_limit = Some(1);
        let (picks, held) = admit(&[&scarce], &running(&["elsewhere"]), &Settings::default());
        assert!(
            picks.is_empty()
                && held[&scarce.place]
                    .to_string()
                    .contains("maxRunning of the Agent"),
            "{held:?}"
        );
        let (picks, _) = admit(&ordered, &Running::default(), &Settings::default());
        assert_eq!(picks.len(), 3, "without limits everything starts");
    }

    #[test]
    fn one_workflow_of_a_key_runs_in_each_namespace() {
        let keyed = |uid: &str, namespace: &str, since| Candidate {
            key: Some("deploy".to_owned()),
            ..candidate(uid, namespace, since)
        };
        let all = [keyed("a", "x", 0), keyed("b", "x", 1), keyed("c", "y", 2)];
        let ordered: Vec<&Candidate> = all.iter().collect();
        let (picks, held) = admit(&ordered, &Running::default(), &Settings::default());
        assert_eq!(names(&picks), ["a", "c"]);
        assert!(
            held[&all[1].place]
                .to_string()
                .contains("spec.concurrency.key \"deploy\""),
            "{held:?}"
        );
        let mut taken = Running::default();
        taken
            .keys
            .insert(("x".to_owned(), "deploy".to_owned()), "b".to_owned());
        let (picks, _) = admit(&ordered, &taken, &Settings::default());
        assert_eq!(names(&picks), ["b", "c"], "who has it keeps it");
    }

    #[test]
    fn with_one_seat_everybody_gets_it_in_the_end() {
        // Somebody urgent comes every second, and each run takes a second: the patient one is not starved.
        let settings = limited(1);
        let mut patient = candidate("patient", "a", 0);
        patient.priority = Priority::Low;
        let mut waiting = vec![patient];
        for second in 0..3_000 {
            let mut urgent = candidate(&format!("urgent{second:05}"), "b", second);
            urgent.priority = Priority::Critical;
            waiting.push(urgent);
            let pick = order(&waiting, &Running::default(), at(second), &settings)[0]
                .place
                .clone();
            if pick.workflow_uid == "patient" {
                assert!(second >= 1_800, "{second}");
                return;
            }
            waiting.retain(|candidate| candidate.place != pick);
        }
        panic!("it starves");
    }
}
