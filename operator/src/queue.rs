//! The live queues in Redis. All of it may vanish at any moment: nothing here is ever the truth.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::streams::StreamRangeReply;
use redis::{AsyncCommands as _, RedisError, RedisResult, Script};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::name::{self, REDIS_PREFIX};
use stagecraft_api::{AttemptKey, Moment, protocol};

use crate::redis_link::{Connection, RedisLink, TIMEOUT, is_foreign};

/// Keys that Redis looks at for one part of a scan.
const SCANNED_AT_ONCE: u32 = 1000;

/// Why a queue operation did not happen. Never fatal.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("Redis did not answer in time")]
    Timeout,
    #[error("Redis refused")]
    Redis(#[source] RedisError),
    #[error(
        "under a key of Stagecraft's ({REDIS_PREFIX}*), Redis holds a value of another kind than Stagecraft keeps there: delete that key"
    )]
    Foreign(#[source] RedisError),
    #[error("the task could not be encoded")]
    Encode(#[from] serde_json::Error),
}

/// The operator's side of the task streams.
pub struct Queue {
    redis: Arc<dyn RedisLink>,
    healthy: AtomicBool,
}

impl Queue {
    pub fn new(redis: Arc<dyn RedisLink>) -> Self {
        Self {
            redis,
            healthy: AtomicBool::new(true),
        }
    }

    /// Whether the latest operation reached Redis.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Adds a task unless it is there.
    pub async fn announce(&self, task: &TaskEnvelope) -> Result<(), QueueError> {
        let agent = task.payload.agent();
        let envelope = serde_json::to_string(task)?;
        let script = Script::new(protocol::ADD_TASK);
        let mut invocation = script.prepare_invoke();
        invocation
            .key(name::tasks(agent))
            .key(name::task_ids(agent))
            .key(name::task_agents())
            .arg(agent)
            .arg(task.attempt.to_string())
            .arg(envelope)
            .arg(name::WORKERS);
        let mut connection = self.redis.shared();
        self.bounded(async { invocation.invoke_async::<String>(&mut connection).await })
            .await?;
        Ok(())
    }

    /// Takes a task out, and its announced results.
    pub async fn remove(&self, agent: &str, key: &AttemptKey, results: &[String]) -> Result<(), QueueError> {
        let mut connection = self.redis.shared();
        self.bounded(async {
            acknowledge(&mut connection, results).await?;
            remove_task(&mut connection, agent, key).await
        })
        .await
    }

    /// Deletes everything that belongs to one Workflow, and these entries of the result stream.
    pub async fn purge(&self, workflow_uid: &str, results: &[String]) -> Result<(), QueueError> {
        let mut connection = self.redis.shared();
        self.bounded(async {
            let _: () = connection.del(name::events(workflow_uid)).await?;
            acknowledge(&mut connection, results).await?;
            for (agent, tasks) in tasks(&mut connection).await? {
                for key in tasks.keys.iter().filter(|key| key.workflow_uid == workflow_uid) {
                    unless_foreign(remove_task(&mut connection, &agent, key).await)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Every task in the streams, by agent.
    pub async fn tasks(&self) -> Result<BTreeMap<String, Tasks>, QueueError> {
        let mut connection = self.redis.shared();
        self.bounded(tasks(&mut connection)).await
    }

    /// Takes out of the ids of an agent's tasks what is none.
    pub async fn drop_junk(&self, agent: &str, fields: &[Vec<u8>]) -> Result<(), QueueError> {
        let mut connection = self.redis.shared();
        self.bounded(connection.hdel(name::task_ids(agent), fields)).await
    }

    /// UIDs of the Workflows that have events. A runner whose Workflow is deleted may have added some after [`Queue::purge`].
    pub async fn workflows_with_events(&self) -> Result<BTreeSet<String>, QueueError> {
        let mut connection = self.redis.shared();
        let prefix = name::events("");
        self.bounded(async {
            let mut uids = BTreeSet::new();
            let mut cursor = 0_u64;
            loop {
                let mut scan = redis::cmd("SCAN");
                scan.arg(cursor).arg("MATCH").arg(name::events("*"));
                scan.arg("COUNT").arg(SCANNED_AT_ONCE);
                let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut connection).await?;
                let found = keys.iter().filter_map(|key| key.strip_prefix(prefix.as_bytes()));
                uids.extend(
                    found
                        .filter_map(|uid| str::from_utf8(uid).ok())
                        .map(str::to_owned),
                );
                if next == 0 {
                    return Ok(uids);
                }
                cursor = next;
            }
        })
        .await
    }

    /// Every task stream, and how many results wait for an acknowledgement.
    pub async fn depths(&self) -> Result<(Vec<Depth>, i64), QueueError> {
        let mut connection = self.redis.shared();
        self.bounded(async {
            let mut depths = Vec::new();
            for agent in agents(&mut connection).await? {
                depths.extend(unless_foreign(depth(&mut connection, agent).await)?);
            }
            let results = unless_foreign(connection.xlen(name::results()).await)?;
            Ok((depths, results.unwrap_or(0)))
        })
        .await
    }

    /// Redis is never waited for long on the way of a Workflow.
    async fn bounded<T>(&self, work: impl Future<Output = RedisResult<T>>) -> Result<T, QueueError> {
        let outcome = match tokio::time::timeout(TIMEOUT * 4, work).await {
            Ok(Err(error)) if is_foreign(&error) => Err(QueueError::Foreign(error)),
            Ok(outcome) => outcome.map_err(QueueError::Redis),
            Err(_) => Err(QueueError::Timeout),
        };
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        outcome
    }
}

/// What is noted of the tasks of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    pub keys: Vec<AttemptKey>,
    /// What is no attempt.
    pub junk: Vec<Vec<u8>>,
}

/// The answer; none where a key holds somebody else's value, which must keep nobody from the other keys.
fn unless_foreign<T>(answer: RedisResult<T>) -> RedisResult<Option<T>> {
    match answer {
        Err(error) if is_foreign(&error) => Ok(None),
        answer => answer.map(Some),
    }
}

async fn agents(connection: &mut Connection) -> RedisResult<Vec<String>> {
    let agents: Vec<Vec<u8>> = connection.smembers(name::task_agents()).await?;
    Ok(agents
        .into_iter()
        .filter_map(|agent| String::from_utf8(agent).ok())
        .collect())
}

async fn tasks(connection: &mut Connection) -> RedisResult<BTreeMap<String, Tasks>> {
    let mut all = BTreeMap::new();
    for agent in agents(connection).await? {
        let fields: RedisResult<Vec<Vec<u8>>> = connection.hkeys(name::task_ids(&agent)).await;
        let mut tasks = Tasks::default();
        for field in unless_foreign(fields)?.unwrap_or_default() {
            match str::from_utf8(&field).ok().and_then(AttemptKey::parse) {
                Some(key) => tasks.keys.push(key),
                None => tasks.junk.push(field),
            }
        }
        all.insert(agent, tasks);
    }
    Ok(all)
}

async fn remove_task(connection: &mut Connection, agent: &str, key: &AttemptKey) -> RedisResult<()> {
    let script = Script::new(protocol::REMOVE_TASK);
    let mut invocation = script.prepare_invoke();
    invocation
        .key(name::tasks(agent))
        .key(name::task_ids(agent))
        .arg(key.to_string())
        .arg(name::WORKERS);
    invocation.invoke_async::<i64>(connection).await.map(drop)
}

/// Takes these entries out of the result stream.
async fn acknowledge(connection: &mut Connection, results: &[String]) -> RedisResult<()> {
    if results.is_empty() {
        return Ok(());
    }
    let mut acknowledge = redis::pipe();
    acknowledge.atomic();
    acknowledge
        .xack(name::results(), name::OPERATOR, results)
        .ignore();
    acknowledge.xdel(name::results(), results).ignore();
    unless_foreign(acknowledge.query_async(connection).await).map(|_: Option<()>| ())
}

async fn depth(connection: &mut Connection, agent: String) -> RedisResult<Depth> {
    let tasks = connection.xlen(name::tasks(&agent)).await?;
    let first: StreamRangeReply = connection.xrange_count(name::tasks(&agent), "-", "+", 1).await?;
    let oldest = first.ids.first().and_then(|entry| added_at(&entry.id));
    Ok(Depth { agent, tasks, oldest })
}

/// One task stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    pub agent: String,
    pub tasks: i64,
    /// When the oldest of them was added.
    pub oldest: Option<Moment>,
}

/// Redis names entries by the milliseconds since 1970 at which they were added.
pub fn added_at(id: &str) -> Option<Moment> {
    let millis: i64 = id.split('-').next()?.parse().ok()?;
    jiff::Timestamp::from_millisecond(millis).ok().map(Moment::new)
}
