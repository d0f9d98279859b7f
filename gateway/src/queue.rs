//! The live queues in Redis. All of it may vanish at any moment: nothing here fails a call, it only makes things quick.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands as _, IntoConnectionInfo as _, Pipeline, RedisError, RedisResult, Script, Value};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::protocol::{self, AgentEvent, result_entry, task_entry};
use stagecraft_api::result::AttemptResult;
use stagecraft_api::{AttemptKey, Moment, name};
use tokio_util::task::TaskTracker;

use crate::authorize::Member;
use crate::metrics::Metrics;

/// Fields of an entry in the event stream of a Workflow.
pub mod event_entry {
    pub const STAGE: &str = "stage";
    pub const ATTEMPT: &str = "attempt";
    pub const AT: &str = "at";
    /// `runner`, `progress` or `log`.
    pub const KIND: &str = "kind";
    pub const MESSAGE: &str = "message";
    /// A JSON object.
    pub const FIELDS: &str = "fields";
}

/// Longest wait for Redis in a call.
const TIMEOUT: Duration = Duration::from_millis(300);
/// How long a result is announced again while Redis is away.
const PERSIST: Duration = Duration::from_mins(1);
/// Entries that an event stream keeps, about.
const EVENTS: usize = 2000;
/// How long an event stream stays after its last entry, in seconds.
const EVENTS_EXPIRE: i64 = 24 * 60 * 60;
/// Entries that the result stream keeps, about: an operator that was away for longer asks for results by attempt.
const RESULTS: usize = 10_000;
/// How long a value that gateways share stays after it was last replaced, in seconds.
const SHARED_EXPIRE: u32 = 2 * 60 * 60;
/// Replaces a value unless it is another than expected; one that is not there is expected as empty.
const REPLACE: &str = r"
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
";
/// How often the same trouble is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum QueueError {
    #[error("no answer in time")]
    Timeout,
    #[error("{0}")]
    Redis(#[from] RedisError),
    #[error("the value cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
}

/// The gateway's side of the queues.
#[derive(Clone)]
pub struct Queue(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    metrics: Metrics,
    trouble: Trouble,
    /// How long an agent stays registered without a heartbeat.
    lease: Duration,
    background: TaskTracker,
}

impl Queue {
    /// Connects when first used, and again whenever the connection is lost.
    pub fn new(
        url: &str,
        password: &str,
        heartbeat: Duration,
        metrics: Metrics,
        background: TaskTracker,
    ) -> Result<Self, RedisError> {
        let mut info = url.into_connection_info()?;
        if !password.is_empty() {
            let settings = info.redis_settings().clone().set_password(password);
            info = info.set_redis_settings(settings);
        }
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = ConnectionManager::new_lazy_with_config(redis::Client::open(info)?, config)?;
        Ok(Self(Arc::new(Inner {
            connection,
            metrics,
            trouble: Trouble::default(),
            lease: (heartbeat * 4).max(Duration::from_mins(1)),
            background,
        })))
    }

    /// Registers the agent, makes sure that its task is in the stream, and takes it for this Pod.
    pub async fn claim(&self, member: &Member, version: &str) {
        let mut connection = self.0.connection.clone();
        let work = async {
            let id = add_task(&mut connection, &member.envelope).await?;
            take_task(&mut connection, member, &id).await?;
            let pipeline = self.registration(member, version, "claimed");
            Ok(pipeline.query_async::<()>(&mut connection).await?)
        };
        self.bounded("claim", work).await;
    }

    /// Renews what [`Queue::claim`] did, except that a task that is gone stays gone: its result may be accounted for.
    pub async fn heartbeat(&self, member: &Member, version: &str, state: &str) {
        let mut connection = self.0.connection.clone();
        let agent = member.envelope.payload.agent();
        let work = async {
            let known: Option<String> = connection
                .hget(name::task_ids(agent), member.key.to_string())
                .await?;
            if let Some(id) = known {
                take_task(&mut connection, member, &id).await?;
            }
            let pipeline = self.registration(member, version, state);
            Ok(pipeline.query_async::<()>(&mut connection).await?)
        };
        self.bounded("heartbeat", work).await;
    }

    /// Adds events to the stream of the Workflow.
    pub async fn events(&self, key: &AttemptKey, events: &[AgentEvent]) {
        let mut connection = self.0.connection.clone();
        let stream = name::events(&key.workflow_uid);
        let work = async {
            let mut pipeline = redis::pipe();
            for event in events {
                let kind = serde_json::to_value(event.kind)?;
                let fields = [
                    (event_entry::STAGE, key.stage.clone()),
                    (event_entry::ATTEMPT, key.attempt.to_string()),
                    (event_entry::AT, event.at.to_string()),
                    (event_entry::KIND, kind.as_str().unwrap_or_default().to_owned()),
                    (event_entry::MESSAGE, event.message.clone()),
                    (event_entry::FIELDS, serde_json::to_string(&event.fields)?),
                ];
                let mut command = redis::cmd("XADD");
                command.arg(&stream).arg("MAXLEN").arg("~").arg(EVENTS);
                pipeline
                    .add_command(command.arg("*").arg(&fields).clone())
                    .ignore();
            }
            pipeline.expire(&stream, EVENTS_EXPIRE).ignore();
            Ok(pipeline.query_async::<()>(&mut connection).await?)
        };
        self.bounded("events", work).await;
    }

    /// Wakes the operator. When Redis is away, that is tried again in the background for a minute.
    pub async fn announce(&self, member: &Member, result: &AttemptResult, accepted_at: Moment) {
        let started = Instant::now();
        let entry = match Announcement::new(member, result, accepted_at) {
            Ok(entry) => entry,
            Err(error) => return self.0.note("announce", &error),
        };
        if self.add_result(&entry).await {
            self.0.metrics.announced("at once", started.elapsed());
            return;
        }
        let queue = self.clone();
        self.0.background.spawn(async move {
            let mut pause = Duration::from_millis(200);
            while started.elapsed() < PERSIST {
                tokio::time::sleep(pause).await;
                if queue.add_result(&entry).await {
                    queue.0.metrics.announced("late", started.elapsed());
                    return;
                }
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            queue.0.metrics.announced("never", started.elapsed());
        });
    }

    async fn add_result(&self, entry: &Announcement) -> bool {
        let mut connection = self.0.connection.clone();
        let work = async {
            let mut command = redis::cmd("XADD");
            command
                .arg(name::results())
                .arg("MAXLEN")
                .arg("~")
                .arg(RESULTS)
                .arg("*")
                .arg(&entry.0);
            Ok(command.query_async::<()>(&mut connection).await?)
        };
        self.bounded("announce", work).await
    }

    fn registration(&self, member: &Member, version: &str, state: &str) -> Pipeline {
        let now = jiff::Timestamp::now().as_millisecond();
        let lease = i64::try_from(self.0.lease.as_millis()).unwrap_or(i64::MAX);
        let id = &member.pod.uid;
        let fields = [
            ("id", id.clone()),
            ("type", member.envelope.payload.agent().to_owned()),
            ("version", version.to_owned()),
            ("namespace", member.namespace.clone()),
            ("workflow", member.workflow.clone()),
            ("workflowUid", member.key.workflow_uid.clone()),
            ("stage", member.key.stage.clone()),
            ("attempt", member.key.attempt.to_string()),
            ("pod", member.pod.name.clone()),
            ("node", member.pod.node.clone()),
            ("state", state.to_owned()),
            ("lastHeartbeat", now.to_string()),
        ];
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        pipeline.hset_multiple(name::agent(id), &fields).ignore();
        pipeline.pexpire(name::agent(id), lease).ignore();
        pipeline.zadd(name::agents(), id, now).ignore();
        pipeline
            .zrembyscore(name::agents(), "-inf", now.saturating_sub(lease))
            .ignore();
        pipeline.pexpire(name::agents(), lease).ignore();
        pipeline
    }

    /// A value that gateways share; none while Redis is away.
    pub async fn shared(&self, key: &str) -> Option<Option<String>> {
        let mut connection = self.0.connection.clone();
        let mut found = None;
        let work = async {
            found = Some(connection.get(key).await?);
            Ok(())
        };
        self.bounded("share", work).await;
        found
    }

    /// Replaces a value that gateways share unless another has replaced it meanwhile. None while Redis is away.
    pub async fn replace_shared(&self, key: &str, before: Option<&str>, after: &str) -> Option<bool> {
        let mut connection = self.0.connection.clone();
        let mut done = None;
        let work = async {
            let script = Script::new(REPLACE);
            let mut invocation = script.key(key);
            invocation
                .arg(before.unwrap_or_default())
                .arg(after)
                .arg(SHARED_EXPIRE);
            done = Some(invocation.invoke_async(&mut connection).await?);
            Ok(())
        };
        self.bounded("share", work).await;
        done
    }

    /// Runs one operation within the time that a call can spare. Answers whether it was done.
    async fn bounded(
        &self,
        operation: &'static str,
        work: impl Future<Output = Result<(), QueueError>>,
    ) -> bool {
        let outcome = tokio::time::timeout(TIMEOUT, work)
            .await
            .unwrap_or(Err(QueueError::Timeout));
        match outcome {
            Ok(()) => true,
            Err(error) => {
                self.0.note(operation, &error);
                false
            }
        }
    }
}

impl Inner {
    fn note(&self, operation: &'static str, error: &QueueError) {
        self.metrics.redis_error(operation);
        if let Some(silent) = self.trouble.speaks(Instant::now()) {
            tracing::warn!(operation, %error, silent, "Redis did not do what it should; going on without");
        }
    }
}

/// Makes sure that the task is in its stream. Answers the id of its entry.
async fn add_task(connection: &mut ConnectionManager, task: &TaskEnvelope) -> Result<String, QueueError> {
    let agent = task.payload.agent();
    let envelope = serde_json::to_string(task)?;
    Ok(Script::new(protocol::ADD_TASK)
        .key(name::tasks(agent))
        .key(name::task_ids(agent))
        .key(name::task_agents())
        .arg(agent)
        .arg(task.attempt.to_string())
        .arg(envelope)
        .arg(name::WORKERS)
        .invoke_async(connection)
        .await?)
}

/// Makes just this entry pending for the Pod, whoever had it before; a group that vanished is made again.
async fn take_task(connection: &mut ConnectionManager, member: &Member, id: &str) -> RedisResult<()> {
    let stream = name::tasks(member.envelope.payload.agent());
    let mut claim = redis::cmd("XCLAIM");
    claim
        .arg(&stream)
        .arg(name::WORKERS)
        .arg(&member.pod.uid)
        .arg(0)
        .arg(id)
        .arg("FORCE")
        .arg("JUSTID");
    match claim.query_async::<Value>(connection).await {
        Err(error) if error.code() == Some("NOGROUP") => {
            match connection
                .xgroup_create_mkstream::<_, _, _, ()>(&stream, name::WORKERS, "0")
                .await
            {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => (),
            }
            claim.query_async::<Value>(connection).await.map(drop)
        }
        outcome => outcome.map(drop),
    }
}

/// An entry of the result stream.
struct Announcement([(&'static str, String); 5]);

impl Announcement {
    fn new(member: &Member, result: &AttemptResult, accepted_at: Moment) -> Result<Self, QueueError> {
        let accepted_at = accepted_at.timestamp().as_millisecond();
        Ok(Self([
            (task_entry::ATTEMPT, member.key.to_string()),
            (result_entry::NAMESPACE, member.namespace.clone()),
            (result_entry::WORKFLOW, member.workflow.clone()),
            (result_entry::RESULT, serde_json::to_string(result)?),
            (result_entry::ACCEPTED_AT, accepted_at.to_string()),
        ]))
    }
}

/// Speaks up now and then while something is wrong.
#[derive(Default)]
struct Trouble {
    last: Mutex<Option<Instant>>,
    silent: AtomicU64,
}

impl Trouble {
    /// How often it was silent since it last spoke, when it is time to speak.
    fn speaks(&self, now: Instant) -> Option<u64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < LOG_INTERVAL) {
            self.silent.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *last = Some(now);
        Some(self.silent.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_told_once_in_a_while_with_a_count() {
        let trouble = Trouble::default();
        let start = Instant::now();
        assert_eq!(trouble.speaks(start), Some(0));
        assert_eq!(trouble.speaks(start), None);
        assert_eq!(trouble.speaks(start), None);
        assert_eq!(trouble.speaks(start + LOG_INTERVAL), Some(2));
    }
}
