//! Results as they are announced: kept until the status has accounted for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use kube::runtime::reflector::ObjectRef;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{AsyncCommands as _, RedisResult};
use stagecraft_api::protocol::result_entry;
use stagecraft_api::result::AttemptResult;
use stagecraft_api::{AttemptKey, Moment, name};
use tokio::time::Instant;

use crate::controller::Guarded;
use crate::redis_link::{Connection, RedisLink};

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

/// Reads the stream for ever and wakes the Workflows concerned. A stream or group that vanished is made again.
pub async fn listen(
    results: Arc<Results>,
    redis: Arc<dyn RedisLink>,
    consumer: String,
    wake: UnboundedSender<ObjectRef<Guarded>>,
) {
    let mut pause = Duration::from_millis(100);
    loop {
        match listen_once(&results, &*redis, &consumer, &wake).await {
            Ok(()) => return,
            Err(error) => {
                if !results.deaf.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the result stream is out of reach; asking the gateway instead");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
                if !results.is_deaf() {
                    pause = Duration::from_millis(100);
                }
            }
        }
    }
}

/// How long one blocking read waits.
const BLOCK: Duration = Duration::from_secs(2);
/// After this long an entry that was not acknowledged is looked at once more.
const FORGOTTEN: Duration = Duration::from_mins(1);

async fn listen_once(
    results: &Results,
    redis: &dyn RedisLink,
    consumer: &str,
    wake: &UnboundedSender<ObjectRef<Guarded>>,
) -> RedisResult<()> {
    let mut connection = redis.blocking(BLOCK).await?;
    make_group(&mut connection).await?;
    // A new leader takes over what its predecessor read and did not account for.
    let claimed = claim(&mut connection, consumer, Duration::ZERO).await?;
    let mut looked = Instant::now();
    if results.deaf.swap(false, Ordering::Relaxed) {
        tracing::info!("the result stream is back");
    }
    if !deliver(results, &claimed, wake) {
        return Ok(());
    }
    let options = redis::streams::StreamReadOptions::default()
        .group(name::OPERATOR, consumer)
        .block(usize::try_from(BLOCK.as_millis()).unwrap_or(2_000))
        .count(500);
    loop {
        let reply: Option<StreamReadReply> = connection
            .xread_options(&[name::results()], &[">"], &options)
            .await?;
        for stream in reply.unwrap_or_default().keys {
            if !deliver(results, &stream.ids, wake) {
                return Ok(());
            }
        }
        // An acknowledgement may have been lost.
        if looked.elapsed() >= FORGOTTEN {
            let forgotten = claim(&mut connection, consumer, FORGOTTEN).await?;
            looked = Instant::now();
            if !deliver(results, &forgotten, wake) {
                return Ok(());
            }
        }
    }
}

/// Entries that were read this long ago and are not acknowledged.
async fn claim(connection: &mut Connection, consumer: &str, age: Duration) -> RedisResult<Vec<StreamId>> {
    let reply: StreamAutoClaimReply = connection
        .xautoclaim_options(
            name::results(),
            name::OPERATOR,
            consumer,
            usize::try_from(age.as_millis()).unwrap_or(usize::MAX),
            "0-0",
            redis::streams::StreamAutoClaimOptions::default().count(10_000),
        )
        .await?;
    Ok(reply.claimed)
}

/// False when nobody listens any more.
fn deliver(results: &Results, entries: &[StreamId], wake: &UnboundedSender<ObjectRef<Guarded>>) -> bool {
    entries.iter().all(|entry| {
        let Some(reference) = results.add(entry) else {
            tracing::warn!(
                id = entry.id,
                "an entry of the result stream is malformed and was passed over"
            );
            return true;
        };
        wake.unbounded_send(reference).is_ok()
    })
}

async fn make_group(connection: &mut Connection) -> RedisResult<()> {
    match connection
        .xgroup_create_mkstream::<_, _, _, ()>(name::results(), name::OPERATOR, "0")
        .await
    {
        Err(error) if error.code() == Some("BUSYGROUP") => Ok(()),
        outcome => outcome,
    }
}
