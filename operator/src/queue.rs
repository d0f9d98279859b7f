//! The live queues in Redis. All of it may vanish at any moment: nothing here is ever the truth.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::streams::StreamRangeReply;
use redis::{AsyncCommands as _, Script};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::{AttemptKey, Moment, name, protocol};

use crate::redis_link::{RedisLink, TIMEOUT};

/// Keys that Redis looks at for one part of a scan.
const SCANNED_AT_ONCE: u32 = 1000;

/// Why a queue operation did not happen. Never fatal.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("Redis did not answer in time")]
    Timeout,
    #[error("Redis refused")]
    Redis(#[from] redis::RedisError),
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
        let script = Script::new(protocol::REMOVE_TASK);
        let mut invocation = script.prepare_invoke();
        invocation
            .key(name::tasks(agent))
            .key(name::task_ids(agent))
            .arg(key.to_string())
            .arg(name::WORKERS);
        let mut acknowledge = redis::pipe();
        acknowledge.atomic();
        if !results.is_empty() {
            acknowledge
                .xack(name::results(), name::OPERATOR, results)
                .ignore();
            acknowledge.xdel(name::results(), results).ignore();
        }
        let mut connection = self.redis.shared();
        self.bounded(async {
            if !results.is_empty() {
                acknowledge.query_async::<()>(&mut connection).await?;
            }
            invocation.invoke_async::<i64>(&mut connection).await
        })
        .await?;
        Ok(())
    }

    /// Deletes everything that belongs to one Workflow, and these entries of the result stream.
    pub async fn purge(&self, workflow_uid: &str, results: &[String]) -> Result<(), QueueError> {
        let mut connection = self.redis.shared();
        let prefix = format!("{workflow_uid}/");
        self.bounded(async {
            let _: () = connection.del(name::events(workflow_uid)).await?;
            if !results.is_empty() {
                let mut acknowledge = redis::pipe();
                acknowledge.atomic();
                acknowledge
                    .xack(name::results(), name::OPERATOR, results)
                    .ignore();
                acknowledge.xdel(name::results(), results).ignore();
                let _: () = acknowledge.query_async(&mut connection).await?;
            }
            let agents: Vec<String> = connection.smembers(name::task_agents()).await?;
            for agent in agents {
                let ids: Vec<(String, String)> = connection.hgetall(name::task_ids(&agent)).await?;
                for (key, id) in ids.into_iter().filter(|(key, _)| key.starts_with(&prefix)) {
                    let mut pipe = redis::pipe();
                    pipe.atomic();
                    pipe.xack(name::tasks(&agent), name::WORKERS, &[&id]).ignore();
                    pipe.xdel(name::tasks(&agent), &[&id]).ignore();
                    pipe.hdel(name::task_ids(&agent), key).ignore();
                    let _: () = pipe.query_async(&mut connection).await?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Every task in the streams: agent and attempt key as text.
    pub async fn tasks(&self) -> Result<Vec<(String, String)>, QueueError> {
        let mut connection = self.redis.shared();
        self.bounded(async {
            let agents: Vec<String> = connection.smembers(name::task_agents()).await?;
            let mut tasks = Vec::new();
            for agent in agents {
                let keys: Vec<String> = connection.hkeys(name::task_ids(&agent)).await?;
                tasks.extend(keys.into_iter().map(|key| (agent.clone(), key)));
            }
            Ok(tasks)
        })
        .await
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
                let (next, keys): (u64, Vec<String>) = scan.query_async(&mut connection).await?;
                let found = keys.iter().filter_map(|key| key.strip_prefix(&prefix));
                uids.extend(found.map(str::to_owned));
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
            let agents: Vec<String> = connection.smembers(name::task_agents()).await?;
            let mut depths = Vec::with_capacity(agents.len());
            for agent in agents {
                let tasks: i64 = connection.xlen(name::tasks(&agent)).await?;
                let first: StreamRangeReply =
                    connection.xrange_count(name::tasks(&agent), "-", "+", 1).await?;
                let oldest = first.ids.first().and_then(|entry| added_at(&entry.id));
                depths.push(Depth { agent, tasks, oldest });
            }
            let results: i64 = connection.xlen(name::results()).await?;
            Ok((depths, results))
        })
        .await
    }

    /// Redis is never waited for long on the way of a Workflow.
    async fn bounded<T>(&self, work: impl Future<Output = redis::RedisResult<T>>) -> Result<T, QueueError> {
        let outcome = match tokio::time::timeout(TIMEOUT * 4, work).await {
            Ok(outcome) => outcome.map_err(QueueError::Redis),
            Err(_) => Err(QueueError::Timeout),
        };
        self.healthy.store(outcome.is_ok(), Ordering::Relaxed);
        outcome
    }
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
