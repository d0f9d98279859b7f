//! How many calls are under way, and how much of the gateway's memory their requests take: no attempt takes it all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::identity::PodIdentity;

/// Largest request, in bytes, as with the providers.
pub const BODY_BYTES: usize = 32 * 1024 * 1024;
/// Longest time that an agent may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// Longest wait for memory.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Memory is handed out in portions of this many bytes.
const PORTION: usize = 1024;

pub struct Crowd {
    most: usize,
    calls: Mutex<HashMap<PodIdentity, usize>>,
    memory: Arc<Semaphore>,
    patience: Duration,
}

/// A request as it was read, with its share of the memory.
#[derive(Clone)]
pub struct Load {
    pub body: Bytes,
    pub memory: Arc<Memory>,
}

/// A share of the memory, given back when it is dropped.
pub struct Memory {
    _permits: Option<OwnedSemaphorePermit>,
}

/// Why a request is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    TooLarge,
    Aborted,
    /// Requests of others take all the memory.
    NoMemory,
}

impl Crowd {
    /// So many calls of one attempt, and so many bytes of all requests, for which one waits as long as `patience` allows.
    pub fn new(most: usize, bytes: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            most,
            calls: Mutex::default(),
            memory: Arc::new(Semaphore::new(bytes / PORTION)),
            patience,
        })
    }

    /// Most calls of one attempt.
    pub fn most(&self) -> usize {
        self.most
    }

    /// A seat for one more call of an attempt, where there is one.
    pub fn enter(self: &Arc<Self>, attempt: &PodIdentity) -> Option<Seat> {
        let mut calls = self.calls();
        let count = calls.entry(attempt.clone()).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Seat {
            crowd: self.clone(),
            attempt: attempt.clone(),
        })
    }

    /// Reads a request, as far as there is memory for it.
    pub async fn read(&self, body: Body) -> Result<Load, Unread> {
        let reading = self.read_all(body);
        timeout(BODY_TIMEOUT, reading)
            .await
            .map_err(|_| Unread::Aborted)?
    }

    async fn read_all(&self, mut body: Body) -> Result<Load, Unread> {
        let (mut read, mut permits) = (Vec::new(), None::<OwnedSemaphorePermit>);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Unread::Aborted)?;
            let Ok(chunk) = frame.into_data() else { continue };
            let size = read.len().saturating_add(chunk.len());
            if size > BODY_BYTES {
                return Err(Unread::TooLarge);
            }
            let held = permits.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
            let more = u32::try_from(size.div_ceil(PORTION).saturating_sub(held)).unwrap_or(u32::MAX);
            let taking = self.memory.clone().acquire_many_owned(more);
            let taken = timeout(self.patience, taking)
                .await
                .map_err(|_| Unread::NoMemory)?;
            let taken = taken.map_err(|_| Unread::NoMemory)?;
            match &mut permits {
                Some(permits) => permits.merge(taken),
                None => permits = Some(taken),
            }
            read.extend_from_slice(&chunk);
        }
        read.shrink_to_fit();
        Ok(Load {
            body: Bytes::from(read),
            memory: Arc::new(Memory { _permits: permits }),
        })
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<PodIdentity, usize>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way, until it is dropped.
pub struct Seat {
    crowd: Arc<Crowd>,
    attempt: PodIdentity,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut calls = self.crowd.calls();
        if let Some(count) = calls.get_mut(&self.attempt) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                calls.remove(&self.attempt);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::{BODY_BYTES, Crowd, Duration, Unread};

    #[tokio::test]
    async fn requests_wait_for_memory_and_give_it_back() {
        let crowd = Crowd::new(1, 10 * 1024, Duration::from_millis(50));
        let first = crowd.read(Body::from(vec![b'x'; 6 * 1024])).await.unwrap();
        let second = crowd.read(Body::from(vec![b'x'; 6 * 1024])).await;
        assert_eq!(second.err(), Some(Unread::NoMemory));
        let copy = first.clone();
        drop(first);
        assert!(crowd.read(Body::from(vec![b'x'; 6 * 1024])).await.is_err());
        drop(copy);
        assert!(crowd.read(Body::from(vec![b'x'; 6 * 1024])).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_that_is_too_large_is_not_read_on() {
        let crowd = Crowd::new(1, 4 * BODY_BYTES, Duration::ZERO);
        let large = crowd.read(Body::from(vec![b'x'; BODY_BYTES + 1])).await;
        assert_eq!(large.err(), Some(Unread::TooLarge));
    }
}
