//! The state of providers, shared by all gateways through Redis. While Redis is away each gateway goes on with what it last knew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stagecraft_api::{Moment, name};

use super::health::Health;
use crate::queue::Queue;

/// Namespace and name of a provider.
pub type Place = (String, String);

/// How often a change is tried when other gateways are quicker.
const TRIES: usize = 20;

pub struct Shared {
    queue: Queue,
    /// As this gateway last knew it.
    known: Mutex<HashMap<Place, Health>>,
}

/// Milliseconds since 1970: the one clock that gateways share.
pub fn now() -> u64 {
    u64::try_from(Moment::now().timestamp().as_millisecond()).unwrap_or(0)
}

impl Shared {
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            known: Mutex::default(),
        }
    }

    /// Changes the state of a provider, once, whoever else does at the same time. `act` may be called several times, and is handed the time.
    pub async fn change<T: Send>(
        &self,
        place: &Place,
        mut act: impl FnMut(&mut Health, u64) -> T + Send,
    ) -> T {
        let key = name::provider_health(&place.0, &place.1);
        for _ in 0..TRIES {
            let Some(stored) = self.queue.shared(&key).await else {
                break;
            };
            // What cannot be read, of another version, is begun anew.
            let parsed = stored.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let before: Health = parsed.unwrap_or_default();
            let mut health = before.clone();
            let answer = act(&mut health, now());
            if health == before {
                self.keep(place, health);
                return answer;
            }
            let Ok(text) = serde_json::to_string(&health) else {
                break;
            };
            match self.queue.replace_shared(&key, stored.as_deref(), &text).await {
                Some(true) => {
                    self.keep(place, health);
                    return answer;
                }
                Some(false) => {}
                None => break,
            }
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        act(known.entry(place.clone()).or_default(), now())
    }

    fn keep(&self, place: &Place, health: Health) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(place.clone(), health);
    }
}
