//! With a real redis-server of the test's own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::{StreamPendingCountReply, StreamRangeReply};
use redis::{AsyncCommands as _, Script};
use serde_json::json;
use stagecraft_api::{name, protocol};
use stagecraft_gateway::args::Quotas;

use crate::cluster::{UID, key};
use crate::world::{World, success};

pub const PASSWORD: &str = "a password";

pub struct Redis {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Redis {
    pub fn start() -> Self {
        let port = crate::server::free_port();
        Self::start_at(port)
    }

    pub fn start_at(port: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .args(["--appendonly", "no", "--requirepass", PASSWORD, "--dir"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server cannot be started: run `make prerequisites` (Debian package redis-server)");
        Self {
            child,
            port,
            _directory: directory,
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub async fn connection(&self) -> MultiplexedConnection {
        let url = format!(
            "redis://:{}@127.0.0.1:{}",
            PASSWORD.replace(' ', "%20"),
            self.port
        );
        let client = redis::Client::open(url).unwrap();
        for _ in 0..200 {
            if let Ok(connection) = client.get_multiplexed_async_connection().await {
                return connection;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("redis-server does not answer");
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn world(redis: &Redis) -> (World, MultiplexedConnection) {
    let connection = redis.connection().await;
    (World::with(&redis.url(), PASSWORD, Quotas::default()), connection)
}

#[tokio::test]
async fn a_claim_makes_one_pending_entry_and_registers_the_agent() {
    let redis = Redis::start();
    let (world, mut connection) = world(&redis).await;
    // The operator was first, as it usually is.
    let announced: String = Script::new(protocol::ADD_TASK)
        .key(name::tasks("echo"))
        .key(name::task_ids("echo"))
        .key(name::task_agents())
        .arg("echo")
        .arg(key(1).to_string())
        .arg("{}")
        .arg(name::WORKERS)
        .invoke_async(&mut connection)
        .await
        .unwrap();
    let pod = world.claimed().await;
    world.claim(&pod).await;
    let entries: StreamRangeReply = connection.xrange_all(name::tasks("echo")).await.unwrap();
    let ids: Vec<_> = entries.ids.iter().map(|entry| entry.id.clone()).collect();
    assert_eq!(ids, [announced]);
    let pending: StreamPendingCountReply = connection
        .xpending_count(name::tasks("echo"), name::WORKERS, "-", "+", 10)
        .await
        .unwrap();
    assert_eq!(pending.ids.len(), 1);
    assert_eq!(pending.ids[0].consumer, format!("{pod}-uid"));

    let registered: Vec<String> = connection.zrange(name::agents(), 0, -1).await.unwrap();
    assert_eq!(registered, [format!("{pod}-uid")]);
    let fields: std::collections::HashMap<String, String> =
        connection.hgetall(name::agent(&registered[0])).await.unwrap();
    for (field, value) in [
        ("type", "echo"),
        ("version", "1.2.3"),
        ("namespace", "team"),
        ("workflow", "flow"),
        ("stage", "scaffold"),
        ("attempt", "1"),
    ] {
        assert_eq!(fields[field], value);
    }
    let expires: i64 = connection.ttl(name::agent(&registered[0])).await.unwrap();
    assert!((1..=60).contains(&expires), "{expires}");
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_filled_again() {
    let redis = Redis::start();
    let (world, mut connection) = world(&redis).await;
    let pod = world.claimed().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    assert_eq!(world.heartbeat(&pod).await.status, 200);
    let version: String = connection
        .hget(name::agent(&format!("{pod}-uid")), "version")
        .await
        .unwrap();
    assert_eq!(version, "1.2.3", "the registry heals with each heartbeat");
    // The entry stands but the group is gone: it is made again.
    world.claim(&pod).await;
    let _: () = connection
        .xgroup_destroy(name::tasks("echo"), name::WORKERS)
        .await
        .unwrap();
    world.heartbeat(&pod).await;
    let pending: StreamPendingCountReply = connection
        .xpending_count(name::tasks("echo"), name::WORKERS, "-", "+", 10)
        .await
        .unwrap();
    assert_eq!(pending.ids.len(), 1);
    assert!(!world.metrics.render().contains("redis_errors_total"));
}

#[tokio::test]
async fn a_heartbeat_does_not_bring_back_a_task_that_is_done() {
    let redis = Redis::start();
    let (world, mut connection) = world(&redis).await;
    let pod = world.claimed().await;
    let removed: i64 = Script::new(protocol::REMOVE_TASK)
        .key(name::tasks("echo"))
        .key(name::task_ids("echo"))
        .arg(key(1).to_string())
        .arg(name::WORKERS)
        .invoke_async(&mut connection)
        .await
        .unwrap();
    assert_eq!(removed, 1);
    world.heartbeat(&pod).await;
    let left: usize = connection.xlen(name::tasks("echo")).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_result_is_announced_before_it_is_answered() {
    let redis = Redis::start();
    let (world, mut connection) = world(&redis).await;
    let pod = world.claimed().await;
    let before = jiff::Timestamp::now().as_millisecond();
    world.result(&pod, &success(1, "done")).await;
    let entries: StreamRangeReply = connection.xrange_all(name::results()).await.unwrap();
    assert_eq!(entries.ids.len(), 1);
    let field = |name: &str| entries.ids[0].get::<String>(name).unwrap();
    assert_eq!(field("attempt"), key(1).to_string());
    assert_eq!(
        (field("namespace"), field("workflow")),
        ("team".into(), "flow".into())
    );
    let announced: serde_json::Value = serde_json::from_str(&field("result")).unwrap();
    assert_eq!(announced, success(1, "done"));
    assert!(field("acceptedAt").parse::<i64>().unwrap() >= before);

    world.result(&pod, &success(1, "different")).await;
    let entries: StreamRangeReply = connection.xrange_all(name::results()).await.unwrap();
    for entry in entries.ids {
        let text = entry.get::<String>("result").unwrap();
        assert!(text.contains("done"), "only what counts is announced: {text}");
    }
}

#[tokio::test]
async fn a_result_is_announced_late_when_redis_comes_back() {
    let port = crate::server::free_port();
    let world = World::with(&format!("redis://127.0.0.1:{port}"), PASSWORD, Quotas::default());
    let pod = world.claimed().await;
    assert_eq!(
        world.result(&pod, &success(1, "done")).await.json(),
        json!({"stored": true})
    );
    let redis = Redis::start_at(port);
    let mut connection = redis.connection().await;
    for _ in 0..100 {
        let length: usize = connection.xlen(name::results()).await.unwrap();
        if length == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the result was not announced");
}

#[tokio::test]
async fn events_are_kept_for_a_day() {
    let redis = Redis::start();
    let (world, mut connection) = world(&redis).await;
    let pod = world.claimed().await;
    let events = json!({"events": [
        {"at": "2026-11-01T10:00:00.000Z", "kind": "progress", "message": "half", "fields": {"done": 5}},
        {"at": "2026-11-01T10:00:01.000Z", "kind": "log", "message": "x".repeat(9000)},
    ]});
    assert_eq!(world.post("/v1/events", &pod, &events).await.status, 204);
    let entries: StreamRangeReply = connection.xrange_all(name::events(UID)).await.unwrap();
    assert_eq!(entries.ids.len(), 2);
    let field = |number: usize, name: &str| entries.ids[number].get::<String>(name).unwrap();
    assert_eq!(
        (field(0, "kind"), field(0, "message")),
        ("progress".into(), "half".into())
    );
    assert_eq!(
        (field(0, "stage"), field(0, "attempt")),
        ("scaffold".into(), "1".into())
    );
    assert_eq!(field(0, "fields"), r#"{"done":5}"#);
    assert!(field(1, "message").len() <= 4096);
    let expires: i64 = connection.ttl(name::events(UID)).await.unwrap();
    assert!((86_000..=86_400).contains(&expires), "{expires}");
}
