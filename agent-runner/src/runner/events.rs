//! Progress for people: queued in memory, sent in batches, dropped when there is too much of it. Nothing waits for it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use stagecraft_api::Moment;
use stagecraft_api::error::truncate;
use stagecraft_api::protocol::{AgentEvent, EventKind, EventsRequest};
use tokio::sync::mpsc;

use super::gateway::Gateway;

/// Most events that wait.
const WAITING: usize = 256;
/// Most events in one request.
const BATCH: usize = 100;
/// Longest message, in bytes. With the fields an event stays below 4 KiB.
const MESSAGE_BYTES: usize = 2048;
const FIELDS_BYTES: usize = 1536;
/// Between two requests, so that many events make few requests.
const PACE: Duration = Duration::from_millis(250);
/// Tries for one batch.
const TRIES: usize = 5;

/// Takes events from everywhere in the runner.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<AgentEvent>,
}

impl Events {
    /// The queue, and the task that empties it.
    pub fn start(gateway: Arc<Gateway>) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(WAITING);
        (Self { queue }, send(gateway, waiting))
    }

    /// Something that the runner did.
    pub fn runner(&self, message: &str) {
        self.put(EventKind::Runner, message, Map::new());
    }

    /// Answers false when the event was dropped.
    pub fn put(&self, kind: EventKind, message: &str, fields: Map<String, Value>) -> bool {
        let fits = serde_json::to_string(&fields).is_ok_and(|text| text.len() <= FIELDS_BYTES);
        let event = AgentEvent {
            at: Moment::now(),
            kind,
            message: truncate(message, MESSAGE_BYTES),
            fields: if fits { fields } else { Map::new() },
        };
        self.queue.try_send(event).is_ok()
    }
}

async fn send(gateway: Arc<Gateway>, mut waiting: mpsc::Receiver<AgentEvent>) {
    let mut events = Vec::new();
    while waiting.recv_many(&mut events, BATCH).await > 0 {
        let request = EventsRequest {
            events: std::mem::take(&mut events),
        };
        for _ in 0..TRIES {
            match gateway.events(&request).await {
                Ok(()) => break,
                Err(error) => tracing::debug!(error = %error, "events were not taken"),
            }
            tokio::time::sleep(PACE * 4).await;
        }
        tokio::time::sleep(PACE).await;
    }
}
