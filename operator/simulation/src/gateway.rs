//! The gateway's store of results in memory, with its fence.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use stagecraft_api::AttemptKey;
use stagecraft_api::result::AttemptResult;

use crate::api_server::ApiServer;

/// What the gateway keeps. It is shared by all who talk to it.
pub struct Store {
    state: Mutex<State>,
    server: Arc<ApiServer>,
}

#[derive(Default)]
struct State {
    results: BTreeMap<AttemptKey, AttemptResult>,
    /// By Workflow UID and stage, the highest attempt that was granted a claim.
    granted: BTreeMap<(String, String), u32>,
    /// How often it was changed.
    writes: u64,
}

/// What a runner hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is kept, this one or an earlier one of the same attempt.
    Stored,
    /// The attempt is not the current one.
    Refused,
}

impl Store {
    pub fn new(server: Arc<ApiServer>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            server,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn result(&self, key: &AttemptKey) -> Option<AttemptResult> {
        self.state().results.get(key).cloned()
    }

    pub fn workflows(&self) -> Vec<String> {
        let state = self.state();
        let uids: BTreeSet<&String> = state.results.keys().map(|key| &key.workflow_uid).collect();
        uids.into_iter().cloned().collect()
    }

    /// How often it was changed, or asked to forget.
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    pub fn purge(&self, uid: &str) {
        let mut state = self.state();
        state.writes += 1;
        state.results.retain(|key, _| key.workflow_uid != uid);
        state.granted.retain(|(workflow, _), _| workflow != uid);
    }

    /// Only the current attempt of a Workflow that is there may work.
    pub fn claim(&self, namespace: &str, workflow: &str, key: &AttemptKey) -> Reply {
        if !self.is_current(namespace, workflow, key) {
            return Reply::Refused;
        }
        let mut state = self.state();
        let place = (key.workflow_uid.clone(), key.stage.clone());
        let granted = state.granted.entry(place).or_insert(0);
        if key.attempt < *granted {
            return Reply::Refused;
        }
        *granted = key.attempt;
        Reply::Stored
    }

    /// The first result of an attempt wins.
    pub fn report(&self, namespace: &str, workflow: &str, result: &AttemptResult) -> Reply {
        let key = &result.attempt;
        if self.state().results.contains_key(key) {
            return Reply::Stored;
        }
        if self.claim(namespace, workflow, key) == Reply::Refused {
            return Reply::Refused;
        }
        let mut state = self.state();
        state.writes += 1;
        state.results.insert(key.clone(), result.clone());
        Reply::Stored
    }

    /// Read from the API server, as the gateway does.
    fn is_current(&self, namespace: &str, workflow: &str, key: &AttemptKey) -> bool {
        let Some(found) = self.server.get("workflows", namespace, workflow) else {
            return false;
        };
        let stages = found.value.pointer("/status/stages").and_then(Value::as_array);
        let stage = stages
            .into_iter()
            .flatten()
            .find(|stage| stage.get("name").and_then(Value::as_str) == Some(key.stage.as_str()));
        found.uid() == key.workflow_uid
            && stage.is_some_and(|stage| {
                stage.get("attempt").and_then(Value::as_u64) == Some(u64::from(key.attempt))
                    && stage.get("phase").and_then(Value::as_str) == Some("Running")
            })
    }
}
