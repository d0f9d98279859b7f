//! The state of providers, shared by all gateways through Redis. While Redis is away each gateway goes on with what it last knew, and says so
//! when Redis is back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stagecraft_api::{Moment, name};

use super::health::Health;
use crate::queue::Queue;

/// Namespace and name of a provider.
pub type Place = (String, String);

/// How often a change is tried when other gateways are quicker.
const TRIES: usize = 50;
/// Redis that did not answer is left alone for this long: calls do not queue up behind it.
const LEFT_ALONE: Duration = Duration::from_secs(1);
/// Most providers that are remembered.
const PROVIDERS: usize = 4096;

pub struct Shared {
    queue: Queue,
    slots: Mutex<HashMap<Place, Arc<tokio::sync::Mutex<Known>>>>,
    away_since: Mutex<Option<Instant>>,
}

/// A provider as this gateway last knew it.
#[derive(Default)]
struct Known {
    health: Health,
    /// Whether something of it was never told to the others.
    is_ahead: bool,
}

/// Milliseconds since 1970: the one clock that gateways share.
pub fn now() -> u64 {
    u64::try_from(Moment::now().timestamp().as_millisecond()).unwrap_or(0)
}

impl Shared {
    pub fn new(queue: Queue) -> Self {
        Self {
            queue,
            slots: Mutex::default(),
            away_since: Mutex::default(),
        }
    }

    /// Changes the state of a provider, once, whoever else does at the same time. `act` may be called several times, and is handed the time.
    pub async fn change<T: Send>(
        &self,
        place: &Place,
        mut act: impl FnMut(&mut Health, u64) -> T + Send,
    ) -> T {
        let slot = self.slot(place);
        // Calls of this gateway take turns, so that they do not overtake each other without end.
        let mut known = slot.lock().await;
        if !self.is_away() {
            if let Some(answer) = self.exchange(place, &mut known, &mut act).await {
                return answer;
            }
            *self.away_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        known.is_ahead = true;
        act(&mut known.health, now())
    }

    /// The same in Redis; none while it is away.
    async fn exchange<T>(
        &self,
        place: &Place,
        known: &mut Known,
        act: &mut (impl FnMut(&mut Health, u64) -> T + Send),
    ) -> Option<T> {
        let key = name::provider_health(&place.0, &place.1);
        for _ in 0..TRIES {
            let stored = self.queue.shared(&key).await?;
            // What cannot be read, of another version, is as good as lost: this gateway knows something yet.
            let read: Option<Health> = stored.as_deref().and_then(|text| serde_json::from_str(text).ok());
            let mut health = read.clone().unwrap_or_else(|| known.health.clone());
            if known.is_ahead {
                health.merge(&known.health);
            }
            let answer = act(&mut health, now());
            if read.unwrap_or_default() != health {
                let text = serde_json::to_string(&health).ok()?;
                if !self.queue.replace_shared(&key, stored.as_deref(), &text).await? {
                    continue;
                }
            }
            *known = Known {
                health,
                is_ahead: false,
            };
            return Some(answer);
        }
        None
    }

    fn is_away(&self) -> bool {
        let since = *self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() < LEFT_ALONE)
    }

    fn slot(&self, place: &Place) -> Arc<tokio::sync::Mutex<Known>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= PROVIDERS {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(place.clone()).or_default().clone()
    }
}
