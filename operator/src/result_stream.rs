//! The stream that announces results. It wakes Workflows sooner than they would look by themselves; the gateway keeps the results.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedSender;
use kube::runtime::reflector::ObjectRef;
use redis::streams::StreamId;
use redis::{AsyncCommands as _, RedisError, RedisResult, Value, from_redis_value};
use stagecraft_api::name;
use tokio::time::Instant;

use crate::controller::Guarded;
use crate::redis_link::{Connection, RedisLink, is_foreign};
use crate::results::Results;

/// How long one blocking read waits.
const BLOCK: Duration = Duration::from_secs(2);
/// After this long an entry that was not acknowledged is looked at once more.
const FORGOTTEN: Duration = Duration::from_mins(1);
/// Entries that are claimed at once.
const CLAIMED_AT_ONCE: usize = 1_000;
/// Entries that are read at once.
const READ_AT_ONCE: usize = 500;
/// The pauses between tries to reach the stream.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// Where a scan of what is pending begins, and what the last answer of it says.
const ENDS: &str = "0-0";

/// Reads the stream for ever and wakes the Workflows concerned. A stream or group that vanished is made again.
pub async fn listen(
    results: Arc<Results>,
    redis: Arc<dyn RedisLink>,
    consumer: String,
    wake: UnboundedSender<ObjectRef<Guarded>>,
) {
    let [shortest, longest] = PAUSES;
    let mut pause = shortest;
    loop {
        let listener = Listener {
            results: &results,
            consumer: &consumer,
            wake: &wake,
        };
        let error = match listener.follow(&*redis).await {
            Err(Stop::Away(error)) => error,
            Err(Stop::Over) => return,
        };
        if results.becomes_deaf(true) {
            pause = shortest;
            if is_foreign(&error) {
                tracing::warn!(
                    %error,
                    key = name::results(),
                    "Redis holds no stream under the key of the results: delete the key; asking the gateway instead"
                );
            } else {
                tracing::warn!(%error, "the result stream is out of reach; asking the gateway instead");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Why no more is read.
enum Stop {
    /// Nobody wants to be woken any more.
    Over,
    Away(RedisError),
}

impl From<RedisError> for Stop {
    fn from(error: RedisError) -> Self {
        Self::Away(error)
    }
}

struct Listener<'listener> {
    results: &'listener Results,
    consumer: &'listener str,
    wake: &'listener UnboundedSender<ObjectRef<Guarded>>,
}

impl Listener<'_> {
    async fn follow(&self, redis: &dyn RedisLink) -> Result<Infallible, Stop> {
        let mut connection = redis.blocking(BLOCK).await?;
        make_group(&mut connection).await?;
        // A new leader takes over what its predecessor read and did not account for.
        let mut age = Duration::ZERO;
        loop {
            self.claim(&mut connection, age).await?;
            if self.results.becomes_deaf(false) {
                tracing::info!("the result stream is back");
            }
            // An acknowledgement may have been lost.
            age = FORGOTTEN;
            let claimed_at = Instant::now();
            while claimed_at.elapsed() < FORGOTTEN {
                let fresh = self.read(&mut connection).await?;
                self.deliver(&mut connection, &fresh).await?;
            }
        }
    }

    /// Delivers what was read this long ago, by whomever, and is not acknowledged.
    async fn claim(&self, connection: &mut Connection, age: Duration) -> Result<(), Stop> {
        let mut cursor = ENDS.to_owned();
        loop {
            let mut command = redis::cmd("XAUTOCLAIM");
            command
                .arg(name::results())
                .arg(name::OPERATOR)
                .arg(self.consumer)
                .arg(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
                .arg(&cursor)
                .arg("COUNT")
                .arg(CLAIMED_AT_ONCE);
            let (next, claimed) = claimed(command.query_async(connection).await?);
            self.deliver(connection, &claimed).await?;
            if next == ENDS {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn read(&self, connection: &mut Connection) -> RedisResult<Vec<StreamId>> {
        let mut command = redis::cmd("XREADGROUP");
        command
            .arg("GROUP")
            .arg(name::OPERATOR)
            .arg(self.consumer)
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(u64::MAX))
            .arg("COUNT")
            .arg(READ_AT_ONCE)
            .arg("STREAMS")
            .arg(name::results())
            .arg(">");
        Ok(read(command.query_async(connection).await?))
    }

    /// What cannot be read is deleted: nobody would ever acknowledge it.
    async fn deliver(&self, connection: &mut Connection, entries: &[StreamId]) -> Result<(), Stop> {
        let mut malformed = Vec::new();
        for entry in entries {
            let Some(reference) = self.results.add(entry) else {
                malformed.push(entry.id.as_str());
                continue;
            };
            self.wake.unbounded_send(reference).map_err(|_| Stop::Over)?;
        }
        if let [first, ..] = malformed.as_slice() {
            tracing::warn!(
                id = first,
                entries = malformed.len(),
                "entries of the result stream cannot be read and are deleted; no result is lost, the gateway keeps them"
            );
            let _: () = redis::pipe()
                .atomic()
                .xack(name::results(), name::OPERATOR, &malformed)
                .ignore()
                .xdel(name::results(), &malformed)
                .ignore()
                .query_async(connection)
                .await?;
        }
        Ok(())
    }
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

/// The cursor and the entries of an answer to XAUTOCLAIM.
pub fn claimed(answer: Value) -> (String, Vec<StreamId>) {
    let mut parts = items(answer).into_iter();
    let cursor = parts.next().and_then(|cursor| from_redis_value(cursor).ok());
    let entries = parts.next().map(entries).unwrap_or_default();
    (cursor.unwrap_or_else(|| ENDS.to_owned()), entries)
}

/// The entries of an answer to XREADGROUP for one stream.
pub fn read(answer: Value) -> Vec<StreamId> {
    let streams = items(answer).into_iter();
    let found = streams.filter_map(|stream| items(stream).into_iter().nth(1));
    found.flat_map(entries).collect()
}

/// One by one: with the reader of the library, one entry with a field that is no text hides all others.
fn entries(answer: Value) -> Vec<StreamId> {
    items(answer).into_iter().filter_map(entry).collect()
}

fn entry(answer: Value) -> Option<StreamId> {
    let mut parts = items(answer).into_iter();
    let id = from_redis_value(parts.next()?).ok()?;
    let mut pairs = parts.next().map(items).unwrap_or_default().into_iter();
    let mut map = HashMap::new();
    while let (Some(name), Some(value)) = (pairs.next(), pairs.next()) {
        if let Ok(name) = from_redis_value::<String>(name) {
            map.insert(name, value);
        }
    }
    Some(StreamId {
        id,
        map,
        ..StreamId::default()
    })
}

fn items(answer: Value) -> Vec<Value> {
    match answer {
        Value::Array(items) => items,
        _ => Vec::new(),
    }
}
