//! An API server in memory. It answers as the real one does in what operators rely upon: optimistic locking by
//! resourceVersion, generations, the status subresource, defaults and pruning by a CRD's schema, finalizers, graceful deletion of Pods,
//! garbage collection by owner references, watches from a revision, and 410 once that revision is compacted. `conformance` holds it to
//! the real one. It does not validate, authorize or admit.

mod answer;
mod garbage;
mod http;
mod object;
mod resource;
mod schema;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use stagecraft_api::Moment;
use tokio::sync::Notify;

use crate::generator::Generator;

pub use self::answer::Answer;
pub use self::http::{Call, Outcome};
pub use self::object::{Key, Stored};
pub use self::resource::Resource;
pub use self::watch::{Change, ChangeKind, Changes, bookmark_line, error_line, line};
pub use self::write::Deletion;

/// The server. It is shared by all its clients.
pub struct ApiServer {
    state: Mutex<State>,
    changed: Notify,
    now: Box<dyn Fn() -> Moment + Send + Sync>,
}

struct State {
    revision: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    /// Everything that ever happened.
    log: Vec<Change>,
    /// How many changes clients may not ask for any more, and the revision of the last of them.
    compacted: usize,
    oldest: u64,
    uids: Generator,
}

impl ApiServer {
    pub fn new(uids: Generator, now: impl Fn() -> Moment + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                // Versions of real objects are never small.
                revision: 100,
                objects: BTreeMap::new(),
                log: Vec::new(),
                compacted: 0,
                oldest: 100,
                uids,
            }),
            changed: Notify::new(),
            now: Box::new(now),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every object of a kind, by namespace and name.
    pub fn all(&self, plural: &str) -> Vec<Arc<Stored>> {
        let state = self.state();
        let of_kind = state
            .objects
            .iter()
            .filter(|(key, _)| key.resource.plural == plural);
        of_kind.map(|(_, stored)| stored.clone()).collect()
    }

    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        let resource = resource::by_plural(plural)?;
        self.state()
            .objects
            .get(&Key::new(resource, namespace, name))
            .cloned()
    }

    /// Forgets the past: watches that want to go on from there get 410.
    pub fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.log.len();
        state.oldest = state.revision;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Everything that ever happened, compacted or not.
    pub fn history(&self) -> Vec<Change> {
        self.state().log.clone()
    }

    /// The revision of the latest write.
    pub fn revision(&self) -> u64 {
        self.state().revision
    }
}

impl State {
    /// Stores an object, or its absence, as the next revision.
    fn commit(&mut self, key: &Key, mut value: Value, kind: ChangeKind) -> Arc<Stored> {
        self.revision += 1;
        object::set(
            &mut value,
            "resourceVersion",
            Value::String(self.revision.to_string()),
        );
        let text = Bytes::from(serde_json::to_vec(&value).unwrap_or_default());
        let stored = Arc::new(Stored {
            value,
            text,
            revision: self.revision,
        });
        let before = match kind {
            ChangeKind::Deleted => self.objects.remove(key),
            ChangeKind::Added | ChangeKind::Modified => self.objects.insert(key.clone(), stored.clone()),
        };
        self.log.push(Change {
            kind,
            key: key.clone(),
            object: stored.clone(),
            before,
        });
        stored
    }
}
