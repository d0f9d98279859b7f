//! The Redis in memory answers as a real redis-server does to everything that the operator asks.
#![cfg(test)]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Script, Value};
use stagecraft_api::{Moment, protocol};
use stagecraft_simulation::redis::Redis;

/// A redis-server of this test's own, which ends with it.
struct Server {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start() -> (Server, MultiplexedConnection) {
    let directory = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let child = Command::new("redis-server")
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
        ])
        .arg(directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server cannot be started: run `make prerequisites` (Debian package redis-server)");
    let server = Server {
        child,
        _directory: directory,
    };
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
    for _ in 0..200 {
        if let Ok(connection) = client.get_multiplexed_async_connection().await {
            return (server, connection);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("redis-server does not answer");
}

/// Ids of entries are times: each is named by its place among those seen.
fn named(value: Value, ids: &mut Vec<Vec<u8>>) -> Value {
    let is_id = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.split_once('-')
            .is_some_and(|(millis, number)| millis.len() > 6 && number.parse::<u64>().is_ok())
    };
    match value {
        Value::BulkString(bytes) if is_id(&bytes) => {
            let at = ids.iter().position(|known| *known == bytes).unwrap_or_else(|| {
                ids.push(bytes);
                ids.len() - 1
            });
            Value::BulkString(format!("id {at}").into_bytes())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| named(item, ids)).collect()),
        // Words differ; what follows depends on the code.
        Value::ServerError(error) => Value::SimpleString(format!("error {}", error.code())),
        other => other,
    }
}

/// `$0` is the id that was seen first.
fn command(words: &[&str], ids: &[Vec<u8>]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        match word
            .strip_prefix('$')
            .and_then(|number| number.parse::<usize>().ok())
        {
            Some(number) => command.arg(ids.get(number).unwrap()),
            None => command.arg(*word),
        };
    }
    command
}

fn table() -> Vec<Vec<&'static str>> {
    let read = [
        "XREADGROUP",
        "GROUP",
        "operator",
        "me",
        "BLOCK",
        "20",
        "COUNT",
        "2",
        "STREAMS",
        "s",
        ">",
    ];
    let add: &str = Script::new(protocol::ADD_TASK).get_hash().to_owned().leak();
    let remove: &str = Script::new(protocol::REMOVE_TASK).get_hash().to_owned().leak();
    let announce = |attempt| {
        vec![
            "EVALSHA", add, "3", "tasks", "ids", "agents", "echo", attempt, "{}", "workers",
        ]
    };
    let take_out = |attempt| vec!["EVALSHA", remove, "2", "tasks", "ids", attempt, "workers"];
    let claim = |idle| vec!["XAUTOCLAIM", "s", "operator", "other", idle, "0-0", "COUNT", "10"];
    vec![
        vec!["XLEN", "s"],
        read.to_vec(),
        vec!["XACK", "s", "operator", "1-1"],
        vec!["XGROUP", "CREATE", "s", "operator", "0", "MKSTREAM"],
        vec!["XGROUP", "CREATE", "s", "operator", "0", "MKSTREAM"],
        read.to_vec(),
        vec!["XADD", "s", "*", "a", "1"],
        vec!["XADD", "s", "*", "a", "2", "b", "3"],
        vec!["XADD", "s", "*", "a", "4"],
        vec!["XLEN", "s"],
        vec!["XRANGE", "s", "-", "+", "COUNT", "1"],
        read.to_vec(),
        read.to_vec(),
        read.to_vec(),
        claim("60000"),
        vec!["XAUTOCLAIM", "s", "operator", "other", "0", "0-0", "COUNT", "1"],
        vec!["XAUTOCLAIM", "s", "operator", "other", "0", "$1", "COUNT", "1"],
        vec!["XAUTOCLAIM", "s", "operator", "other", "0", "$2", "COUNT", "1"],
        vec!["XACK", "s", "operator", "$0"],
        vec!["XACK", "s", "operator", "$0"],
        vec!["XDEL", "s", "$0"],
        vec!["XDEL", "s", "$0", "$1"],
        claim("0"),
        claim("0"),
        vec!["XLEN", "s"],
        announce("u/a/1"),
        vec!["SCRIPT", "LOAD", protocol::ADD_TASK],
        vec!["SCRIPT", "LOAD", protocol::REMOVE_TASK],
        announce("u/a/1"),
        announce("u/a/1"),
        announce("u/b/1"),
        vec!["HKEYS", "ids"],
        vec!["HGETALL", "ids"],
        vec!["SMEMBERS", "agents"],
        vec!["SCAN", "0", "MATCH", "task*", "COUNT", "1000"],
        vec!["SCAN", "0", "MATCH", "ids", "COUNT", "1000"],
        vec!["SCAN", "0", "MATCH", "nothing*", "COUNT", "1000"],
        vec!["XLEN", "tasks"],
        take_out("u/a/1"),
        take_out("u/a/1"),
        vec!["XRANGE", "tasks", "-", "+", "COUNT", "5"],
        vec!["HDEL", "ids", "u/b/1", "nobody"],
        vec!["HKEYS", "ids"],
        vec!["DEL", "agents", "tasks", "nothing"],
        vec!["SMEMBERS", "agents"],
        vec!["HGETALL", "nothing"],
        announce("u/c/1"),
        vec!["HSET", "ids", "u/c/1", "junk", "u/d/1", "junk"],
        announce("u/c/1"),
        take_out("u/d/1"),
        vec!["HKEYS", "ids"],
        vec!["SADD", "agents", "echo", "other"],
        vec!["SET", "tasks", "text"],
        take_out("u/c/1"),
        announce("u/c/1"),
        vec!["SET", "ids", "text"],
        take_out("u/c/1"),
        announce("u/c/1"),
        vec!["SET", "s", "text"],
        read.to_vec(),
        claim("0"),
        vec!["XGROUP", "CREATE", "s", "operator", "0", "MKSTREAM"],
        vec!["XADD", "s", "*", "a", "1"],
        vec!["XLEN", "s"],
        vec!["XRANGE", "s", "-", "+", "COUNT", "1"],
        vec!["XACK", "s", "operator", "$0"],
        vec!["XDEL", "s", "$0"],
        vec!["HKEYS", "s"],
        vec!["SMEMBERS", "s"],
        vec!["FLUSHALL"],
        vec!["SCRIPT", "FLUSH"],
        read.to_vec(),
        announce("u/a/1"),
    ]
}

#[tokio::test]
async fn the_redis_in_memory_answers_as_a_real_one() {
    let (_server, mut real) = start().await;
    let simulated = Redis::new(Moment::now);
    let (mut real_ids, mut simulated_ids) = (Vec::new(), Vec::new());
    let mut differences = Vec::new();
    for words in table() {
        let answer: Value = real
            .send_packed_command(&command(&words, &real_ids))
            .await
            .unwrap();
        let expected = named(answer, &mut real_ids);
        let found = match words.as_slice() {
            ["FLUSHALL"] => {
                simulated.flush();
                Value::Okay
            }
            // Emptied together with the rest.
            ["SCRIPT", "FLUSH"] => Value::Okay,
            words => named(
                simulated.run(&command(words, &simulated_ids)).await,
                &mut simulated_ids,
            ),
        };
        if expected != found {
            differences.push(format!(
                "{words:?}\n  real:      {expected:?}\n  in memory: {found:?}"
            ));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
