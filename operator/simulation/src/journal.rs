//! Who did what, in one order for all parts of the world: what the API server's log alone does not tell.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stagecraft_api::AttemptKey;
use stagecraft_api::result::AttemptResult;

/// Shared by everybody in a world.
#[derive(Debug, Default)]
pub struct Journal(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    steps: u64,
    /// The first result of each attempt that the gateway took.
    results: BTreeMap<AttemptKey, (u64, AttemptResult)>,
    /// By process and attempt: when the gateway was asked for its result, and what it said.
    asked: BTreeMap<(String, AttemptKey), Vec<(u64, Reply)>>,
    /// By revision, who wrote the status of a Workflow.
    writers: BTreeMap<u64, Writer>,
}

/// What the gateway said of the result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Found,
    None,
    /// Nobody heard anything.
    Unavailable,
}

/// A process, and when it sent the write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub process: String,
    pub sent: u64,
}

impl Journal {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of this moment.
    pub fn step(&self) -> u64 {
        let mut entries = self.entries();
        entries.steps += 1;
        entries.steps
    }

    /// The gateway took a result.
    pub fn stored(&self, result: &AttemptResult) {
        let step = self.step();
        let mut entries = self.entries();
        let first = entries.results.entry(result.attempt.clone());
        first.or_insert_with(|| (step, result.clone()));
    }

    /// A process asked the gateway for the result of an attempt, which looked at that step.
    pub fn asked(&self, process: &str, key: &AttemptKey, step: u64, reply: Reply) {
        let mut entries = self.entries();
        let replies = entries.asked.entry((process.to_owned(), key.clone()));
        replies.or_default().push((step, reply));
    }

    /// A write of a process became a revision.
    pub fn wrote(&self, process: &str, sent: u64, revision: u64) {
        let process = process.to_owned();
        self.entries().writers.insert(revision, Writer { process, sent });
    }

    pub fn result(&self, key: &AttemptKey) -> Option<(u64, AttemptResult)> {
        self.entries().results.get(key).cloned()
    }

    /// None for what no operator wrote.
    pub fn writer(&self, revision: u64) -> Option<Writer> {
        self.entries().writers.get(&revision).cloned()
    }

    /// What a writer knew of the result of an attempt: its last question to the gateway before it sent the write.
    pub fn knew(&self, writer: &Writer, key: &AttemptKey) -> Option<(u64, Reply)> {
        let entries = self.entries();
        let replies = entries.asked.get(&(writer.process.clone(), key.clone()))?;
        replies
            .iter()
            .rev()
            .find(|(step, _)| *step < writer.sent)
            .copied()
    }
}
