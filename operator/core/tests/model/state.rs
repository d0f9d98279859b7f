//! What there is at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use stagecraft_api::status::WorkflowStatus;
use stagecraft_core::Action;
use stateright::Representative;

use crate::shared::Shared;

/// Stage and attempt, as short as can be.
pub type Key = (u8, u32);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// What the API server holds: the Workflow, and its Jobs with their Pods.
    pub workflow: Workflow,
    /// Whether the ConfigMap of the run was made, and whether it is there.
    pub pinned: Pinned,
    pub jobs: Shared<Jobs>,
    /// Pods whose Job is gone, and which may still report.
    pub leaving: BTreeSet<Key>,
    /// Jobs that were ever created, with how many for each attempt.
    pub created: BTreeMap<Key, u8>,
    /// Results in the gateway's store: whether they are good.
    pub results: BTreeMap<Key, bool>,
    /// The highest attempt of each stage that was granted anything.
    pub granted: BTreeMap<u8, u32>,
    /// Entries of the result stream that nobody has acknowledged.
    pub stream: BTreeSet<Key>,
    /// Jobs whose creation was given up and lands yet.
    pub posts: BTreeSet<Key>,
    pub operators: Vec<Operator>,
    /// How often time has passed.
    pub ticks: u8,
    pub spent: Spent,
    pub seen: Seen,
    /// The first promise that was broken.
    pub broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workflow {
    pub status: Shared<WorkflowStatus>,
    pub cancel: bool,
    /// The run that its owner asks for.
    pub retry: u32,
}

pub type Jobs = BTreeMap<Key, Job>;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pinned {
    #[default]
    NotYet,
    There,
    /// Somebody has deleted it.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Its Pod works.
    Works,
    /// Its Pod has reported and not ended.
    Reported,
    /// It has ended; good or not.
    Ended(bool),
    /// It has failed, since its Pod was deleted.
    Podless,
}

impl Job {
    pub fn is_open(self) -> bool {
        matches!(self, Self::Works | Self::Reported)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Operator {
    /// As its watches have brought it.
    pub workflow: Workflow,
    pub jobs: Shared<Jobs>,
    /// The Jobs whose Pods it sees.
    pub pods: Shared<Jobs>,
    /// What it wrote last, when the watch has not brought it yet.
    pub written: Option<Workflow>,
    /// Jobs that it has seen at some time.
    pub seen: BTreeSet<Key>,
    pub announced: BTreeSet<Key>,
    /// What is left of the plan in hand, and what that rests upon.
    pub pending: Vec<Shared<Action>>,
    pub base: Option<Workflow>,
    /// Something has changed since it planned.
    pub woken: bool,
}

/// How much of each fault there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spent {
    pub crashes: u8,
    pub lost_replies: u8,
    pub lost_posts: u8,
    pub deletions: u8,
    pub deaths: u8,
    pub failures: u8,
    pub repeats: u8,
    pub late: u8,
}

impl Spent {
    /// Whether anything went wrong that may cost an attempt.
    pub fn is_nothing(self) -> bool {
        let lost = self.crashes + self.lost_replies + self.lost_posts + self.deletions;
        lost + self.deaths + self.failures == 0
    }
}

/// What was reached on the way.
#[expect(clippy::struct_excessive_bools, reason = "each was seen or not")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub lost_race: bool,
    pub adopted: bool,
    pub burnt: bool,
    pub refused: bool,
    pub asked_live: bool,
    pub late: bool,
    pub pinned_twice: bool,
}

/// Which operator is which makes no difference: of states that differ in that alone one is searched.
impl Representative for State {
    fn representative(&self) -> Self {
        let mut one = self.clone();
        one.operators.sort_by_cached_key(|operator| {
            let mut hasher = DefaultHasher::new();
            operator.hash(&mut hasher);
            hasher.finish()
        });
        one
    }
}
