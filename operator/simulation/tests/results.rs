//! Whatever stands in the Redis of the release, the operator hears of the results behind it.
#![cfg(test)]

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use kube::runtime::reflector::ObjectRef;
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, Value, cmd};
use serde_json::json;
use stagecraft_api::protocol::result_entry;
use stagecraft_api::{AttemptKey, Moment, name};
use stagecraft_operator::controller::Guarded;
use stagecraft_operator::queue::Queue;
use stagecraft_operator::redis_link::{Connection, RedisLink};
use stagecraft_operator::result_stream::listen;
use stagecraft_operator::results::Results;
use stagecraft_simulation::redis::Redis;
use tokio::time::{Instant, timeout};

#[derive(Clone)]
struct Link(Arc<Redis>);

impl RedisLink for Link {
    fn shared(&self) -> Connection {
        Connection::new(self.clone())
    }

    fn blocking(&self, _: Duration) -> RedisFuture<'_, Connection> {
        Box::pin(async { Ok(self.shared()) })
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async { Ok(self.0.run(command).await) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async {
            let mut answers = Vec::new();
            for command in pipeline.cmd_iter() {
                answers.push(self.0.run(command).await);
            }
            Ok(vec![Value::Array(answers)])
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn redis() -> Link {
    let (begin, started) = (Moment::now(), Instant::now());
    Link(Redis::new(move || {
        begin.plus_millis(u64::try_from(started.elapsed().as_millis()).unwrap())
    }))
}

fn result(workflow: &str) -> [(&'static str, String); 3] {
    let result = json!({
        "attempt": {"workflowUid": workflow, "stage": "make", "attempt": 1},
        "startedAt": "2026-11-01T10:00:00.000Z", "finishedAt": "2026-11-01T10:00:01.000Z",
        "outcome": "succeeded", "summary": "done", "outputs": {}, "workspace": null, "artifacts": [],
    });
    [
        (result_entry::NAMESPACE, "here".to_owned()),
        (result_entry::WORKFLOW, workflow.to_owned()),
        (result_entry::RESULT, result.to_string()),
    ]
}

impl Link {
    async fn answer(&self, command: &mut Cmd) -> Value {
        self.0.run(command).await
    }

    async fn announce(&self, workflow: &str) {
        let mut add = cmd("XADD");
        self.answer(add.arg(name::results()).arg("*").arg(&result(workflow)))
            .await;
    }

    async fn entries(&self) -> Value {
        self.answer(cmd("XLEN").arg(name::results())).await
    }

    /// An operator that is gone has read everything and acknowledged nothing.
    async fn read_by_a_predecessor(&self) {
        let mut create = cmd("XGROUP");
        create.arg(&["CREATE", &name::results(), name::OPERATOR, "0", "MKSTREAM"]);
        self.answer(&mut create).await;
        let mut read = cmd("XREADGROUP");
        read.arg(&["GROUP", name::OPERATOR, "gone", "STREAMS", &name::results(), ">"]);
        self.answer(&mut read).await;
    }

    fn listen(&self) -> (Arc<Results>, UnboundedReceiver<ObjectRef<Guarded>>) {
        let (wake, woken) = unbounded();
        let results = Arc::new(Results::default());
        tokio::spawn(listen(
            results.clone(),
            Arc::new(self.clone()),
            "me".to_owned(),
            wake,
        ));
        (results, woken)
    }
}

/// Far sooner than what is forgotten is looked at once more.
async fn woken(by: &mut UnboundedReceiver<ObjectRef<Guarded>>) -> Option<String> {
    let woken = timeout(Duration::from_secs(10), by.next()).await;
    woken.ok().flatten().map(|workflow| workflow.name)
}

#[tokio::test(start_paused = true)]
async fn entries_that_cannot_be_read_are_deleted_and_hide_none_that_can() {
    let redis = redis();
    for _ in 0..12_345 {
        redis.0.add(&name::results(), &[("what", "junk")]);
    }
    redis.announce("pending").await;
    redis.read_by_a_predecessor().await;
    redis.0.add(&name::results(), &[(result_entry::RESULT, "{}")]);
    redis.announce("fresh").await;
    let (results, mut wake) = redis.listen();
    assert_eq!(woken(&mut wake).await.as_deref(), Some("pending"));
    assert_eq!(woken(&mut wake).await.as_deref(), Some("fresh"));
    assert!(!results.is_deaf());
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        redis.entries().await,
        Value::Int(2),
        "the good ones stay until they are accounted for"
    );
    redis.announce("later").await;
    assert_eq!(woken(&mut wake).await.as_deref(), Some("later"));
}

#[tokio::test(start_paused = true)]
async fn an_entry_without_texts_hides_no_other() {
    let redis = redis();
    let bytes: [&[u8]; 3] = [b"\xff\xfe", b"", b"\0"];
    for pending in [true, false] {
        for name in bytes {
            for value in bytes {
                let mut add = cmd("XADD");
                add.arg(name::results()).arg("*").arg(name).arg(value);
                add.arg(result_entry::RESULT).arg(value);
                redis.answer(&mut add).await;
            }
        }
        if pending {
            redis.announce("pending").await;
            redis.read_by_a_predecessor().await;
        } else {
            redis.announce("fresh").await;
        }
    }
    let (_, mut wake) = redis.listen();
    assert_eq!(woken(&mut wake).await.as_deref(), Some("pending"));
    assert_eq!(woken(&mut wake).await.as_deref(), Some("fresh"));
}

#[tokio::test(start_paused = true)]
async fn results_are_heard_again_when_the_key_of_the_stream_held_something_else() {
    let redis = redis();
    redis.answer(cmd("SET").arg(name::results()).arg("text")).await;
    let (results, mut wake) = redis.listen();
    assert_eq!(woken(&mut wake).await, None);
    assert!(results.is_deaf(), "the gateway is asked instead");
    redis.answer(cmd("DEL").arg(name::results())).await;
    redis.announce("fresh").await;
    assert_eq!(woken(&mut wake).await.as_deref(), Some("fresh"));
    assert!(!results.is_deaf());
}

fn key(uid: &str) -> AttemptKey {
    AttemptKey {
        workflow_uid: uid.to_owned(),
        stage: "make".to_owned(),
        attempt: 1,
    }
}

#[tokio::test(start_paused = true)]
async fn junk_among_the_tasks_of_one_agent_keeps_nobody_from_the_others() {
    let redis = redis();
    let mut agents = cmd("SADD");
    agents
        .arg(name::task_agents())
        .arg(&["a", "b", "c"])
        .arg(&b"\xff"[..]);
    redis.answer(&mut agents).await;
    let mut junk = cmd("HSET");
    junk.arg(name::task_ids("a")).arg(&b"\xff"[..]).arg("1-1");
    junk.arg(&["no key", "1-1"])
        .arg(key("uid").to_string())
        .arg(&b"\xff"[..]);
    redis.answer(&mut junk).await;
    redis
        .answer(cmd("SET").arg(name::task_ids("b")).arg("text"))
        .await;
    redis.answer(cmd("SET").arg(name::tasks("b")).arg("text")).await;
    let mut good = cmd("HSET");
    good.arg(name::task_ids("c"))
        .arg(key("uid").to_string())
        .arg("1-1");
    redis.answer(&mut good).await;
    redis.answer(cmd("SET").arg(name::results()).arg("text")).await;

    let queue = Queue::new(Arc::new(redis.clone()));
    let tasks = queue.tasks().await.unwrap();
    assert_eq!(
        (&tasks["a"].keys, &tasks["c"].keys),
        (&vec![key("uid")], &vec![key("uid")])
    );
    assert_eq!(tasks["a"].junk, [b"no key".to_vec(), b"\xff".to_vec()]);
    assert!(tasks["b"].keys.is_empty());

    queue.drop_junk("a", &tasks["a"].junk).await.unwrap();
    assert!(queue.tasks().await.unwrap()["a"].junk.is_empty());
    let (depths, _) = queue.depths().await.unwrap();
    assert_eq!(depths.len(), 2, "{depths:?}");
    queue.purge("uid", &["1-1".to_owned()]).await.unwrap();
    let left = queue.tasks().await.unwrap();
    assert!(left.values().all(|tasks| tasks.keys.is_empty()), "{left:?}");
    let error = queue.remove("b", &key("uid"), &[]).await.unwrap_err();
    assert!(error.to_string().contains("delete that key"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn events_of_workflows_are_found_beside_keys_that_are_no_texts() {
    let redis = redis();
    for uid in [&b"\xff"[..], b"uid", b"../other"] {
        let mut add = cmd("XADD");
        let stream = [name::events("").as_bytes(), uid].concat();
        redis.answer(add.arg(stream).arg("*").arg(&["a", "b"])).await;
    }
    let queue = Queue::new(Arc::new(redis));
    let found = queue.workflows_with_events().await.unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["../other", "uid"]);
}
