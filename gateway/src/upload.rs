//! Takes blobs in: streamed, hashed on the way, counted against the attempt, kept only when the digest is right.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use object_store::{ObjectStore as _, ObjectStoreExt as _, WriteMultipart};
use sha2::{Digest as _, Sha256};
use stagecraft_api::{AttemptKey, Digest, limit};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use crate::error::Refusal;
use crate::store::{self, Store, StoreError};

/// What an upload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// False when the store held the blob before.
    pub created: bool,
    pub bytes: u64,
}

/// Longest pause between two pieces of a body.
const STALL: Duration = Duration::from_secs(30);
/// Parts that are being written while the next one is read: with their size this bounds the memory of an upload.
const PARTS: usize = 1;
/// Uploads that an attempt may have under way.
const UPLOADS: usize = 8;
/// An empty blob takes space too: none counts less than this.
const LEAST_BYTES: u64 = 16 * 1024;

/// Stores a blob of an attempt under its digest. On any failure, and when the returned future is dropped, nothing stays.
pub async fn receive<E>(
    store: &Store,
    key: &AttemptKey,
    digest: &Digest,
    body: impl Stream<Item = Result<Bytes, E>>,
) -> Result<Uploaded, Refusal> {
    let mut reservation = store.tallies.reservation(store, key).await?;
    let path = store::blob(&key.workflow_uid, digest);
    // What is there is read all the same: an attempt that knows only a digest must not come to read the blob by it.
    let known = store.blob_bytes(&key.workflow_uid, digest).await?.is_some();
    let mut writer = if known {
        None
    } else {
        let upload = store.objects.put_multipart(&path).await;
        let upload = upload.map_err(StoreError::from)?;
        Some(WriteMultipart::new_with_chunk_size(upload, store.part_bytes))
    };
    let outcome = copy(body, &mut writer, &mut reservation).await.and_then(|hash| {
        let found = Digest::from_hash(hash);
        if found == *digest {
            Ok(())
        } else {
            Err(Refusal::DigestMismatch {
                stated: digest.clone(),
                found,
            })
        }
    });
    if let Err(refusal) = outcome {
        if let Some(writer) = writer
            && let Err(error) = writer.abort().await
        {
            tracing::warn!(%error, "an upload could not be taken back");
        }
        return Err(refusal);
    }
    if let Some(writer) = writer {
        writer.finish().await.map_err(StoreError::from)?;
    }
    let bytes = reservation.received;
    if store.create(&store::upload(key, digest, bytes), b"").await? {
        reservation.keep();
    }
    Ok(Uploaded {
        created: !known,
        bytes,
    })
}

async fn copy<E>(
    body: impl Stream<Item = Result<Bytes, E>>,
    writer: &mut Option<WriteMultipart>,
    reservation: &mut Reservation,
) -> Result<Sha256, Refusal> {
    let mut body = std::pin::pin!(body);
    let mut hash = Sha256::new();
    loop {
        let piece = match tokio::time::timeout(STALL, body.next()).await {
            Ok(Some(Ok(piece))) => piece,
            Ok(None) => return Ok(hash),
            Ok(Some(Err(_))) | Err(_) => return Err(Refusal::Aborted),
        };
        reservation.add(piece.len() as u64)?;
        hash.update(&piece);
        if let Some(writer) = writer {
            writer.wait_for_capacity(PARTS).await.map_err(StoreError::from)?;
            writer.put(piece);
        }
    }
}

/// Bytes that attempts have uploaded or are uploading. Read from the store when an attempt is first seen, so that a
/// restart forgets nothing.
#[derive(Default)]
pub struct Tallies(Mutex<HashMap<AttemptKey, Arc<Tally>>>);

struct Tally {
    bytes: OnceCell<AtomicU64>,
    uploads: Arc<Semaphore>,
}

/// Most attempts that are remembered when they upload nothing.
const ATTEMPTS: usize = 4096;

impl Tallies {
    async fn reservation(&self, store: &Store, key: &AttemptKey) -> Result<Reservation, Refusal> {
        let tally = self.tally(key);
        let turn = tally.uploads.clone().try_acquire_owned();
        let turn = turn.map_err(|_| Refusal::TooMany {
            what: "uploads at once",
            wait: Duration::from_secs(1),
        })?;
        let sum = || async { stored_bytes(store, key).await.map(AtomicU64::new) };
        tally.bytes.get_or_try_init(sum).await?;
        let mut reservation = Reservation {
            tally,
            _turn: turn,
            received: 0,
            counted: 0,
        };
        reservation.count(LEAST_BYTES)?;
        Ok(reservation)
    }

    fn tally(&self, key: &AttemptKey) -> Arc<Tally> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tallies.len() >= ATTEMPTS {
            tallies.retain(|_, tally| Arc::strong_count(tally) > 1);
        }
        tallies
            .entry(key.clone())
            .or_insert_with(|| {
                Arc::new(Tally {
                    bytes: OnceCell::new(),
                    uploads: Arc::new(Semaphore::new(UPLOADS)),
                })
            })
            .clone()
    }
}

async fn stored_bytes(store: &Store, key: &AttemptKey) -> Result<u64, StoreError> {
    let prefix = store::uploads(key);
    let sum = store.objects.list(Some(&prefix)).try_fold(0, |sum, meta| {
        let bytes = meta
            .location
            .filename()
            .and_then(|name| name.rsplit_once('-')?.1.parse::<u64>().ok())
            .unwrap_or(0);
        futures::future::ready(Ok(sum + bytes.max(LEAST_BYTES)))
    });
    Ok(store::absent_as_none(sum.await)?.unwrap_or(0))
}

/// Bytes of one upload. Given back on drop, unless they are kept.
struct Reservation {
    tally: Arc<Tally>,
    _turn: OwnedSemaphorePermit,
    received: u64,
    counted: u64,
}

impl Reservation {
    fn add(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.received += bytes;
        if self.received > limit::BLOB_BYTES {
            return Err(Refusal::TooLarge {
                what: "the blob",
                bytes: limit::BLOB_BYTES,
            });
        }
        self.count(self.received.saturating_sub(self.counted))
    }

    fn count(&mut self, bytes: u64) -> Result<(), Refusal> {
        let Some(sum) = self.tally.bytes.get() else {
            return Err(Refusal::Busy);
        };
        self.counted += bytes;
        if sum.fetch_add(bytes, Ordering::Relaxed) + bytes > limit::ATTEMPT_BLOB_BYTES {
            return Err(Refusal::TooLarge {
                what: "the sum of the attempt's blobs",
                bytes: limit::ATTEMPT_BLOB_BYTES,
            });
        }
        Ok(())
    }

    fn keep(mut self) {
        self.counted = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(sum) = self.tally.bytes.get() {
            sum.fetch_sub(self.counted, Ordering::Relaxed);
        }
    }
}
