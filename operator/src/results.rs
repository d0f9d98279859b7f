//! Results as they are announced: kept until the status has accounted for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use kube::runtime::reflector::ObjectRef;
use redis::streams::StreamId;
use stagecraft_api::protocol::result_entry;
use stagecraft_api::result::AttemptResult;
use stagecraft_api::{AttemptKey, Moment};

use crate::controller::Guarded;

/// One announced result, with the ids of every entry that announced it: duplicates are normal.
#[derive(Clone, Debug)]
pub struct Announced {
    pub result: AttemptResult,
    pub accepted_at: Option<Moment>,
    pub entries: Vec<String>,
}

/// Announced results by attempt.
#[derive(Debug, Default)]
pub struct Results {
    by_attempt: Mutex<BTreeMap<AttemptKey, Announced>>,
    /// The stream cannot be read: results have to be asked for.
    deaf: AtomicBool,
}

impl Results {
    pub fn get(&self, key: &AttemptKey) -> Option<Announced> {
        self.lock().get(key).cloned()
    }

    /// Attempts of one Workflow whose results wait for an acknowledgement.
    pub fn of_workflow(&self, uid: &str) -> Vec<AttemptKey> {
        self.lock()
            .keys()
            .filter(|key| key.workflow_uid == uid)
            .cloned()
            .collect()
    }

    pub fn take(&self, key: &AttemptKey) -> Option<Announced> {
        self.lock().remove(key)
    }

    /// Drops the results of a deleted Workflow and names their entries in the stream.
    pub fn forget(&self, uid: &str) -> Vec<String> {
        let mut entries = Vec::new();
        self.lock().retain(|key, announced| {
            let stays = key.workflow_uid != uid;
            if !stays {
                entries.append(&mut announced.entries);
            }
            stays
        });
        entries
    }

    /// UIDs of the Workflows whose results wait.
    pub fn workflows(&self) -> BTreeSet<String> {
        self.lock().keys().map(|key| key.workflow_uid.clone()).collect()
    }

    /// Whether results have to be asked for because the stream is out of reach.
    pub fn is_deaf(&self) -> bool {
        self.deaf.load(Ordering::Relaxed)
    }

    /// Notes whether the stream is out of reach. Answers whether that is new.
    pub fn becomes_deaf(&self, deaf: bool) -> bool {
        self.deaf.swap(deaf, Ordering::Relaxed) != deaf
    }

    /// Takes an entry of the stream in, and names the Workflow that it concerns. None: it is malformed.
    pub fn add(&self, entry: &StreamId) -> Option<ObjectRef<Guarded>> {
        let text = |field: &str| entry.get::<String>(field);
        let (namespace, workflow) = (text(result_entry::NAMESPACE)?, text(result_entry::WORKFLOW)?);
        let result: AttemptResult = serde_json::from_str(&text(result_entry::RESULT)?).ok()?;
        let accepted_at = entry
            .get::<i64>(result_entry::ACCEPTED_AT)
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .map(Moment::new);
        let mut by_attempt = self.lock();
        let announced = by_attempt
            .entry(result.attempt.clone())
            .or_insert_with(|| Announced {
                result,
                accepted_at,
                entries: Vec::new(),
            });
        if !announced.entries.contains(&entry.id) {
            announced.entries.push(entry.id.clone());
        }
        Some(ObjectRef::new(&workflow).within(&namespace))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AttemptKey, Announced>> {
        self.by_attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
