use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisError, RedisFuture, Value};
use stagecraft_operator::redis_link::{Connection, RedisLink};

use super::{Fate, Process};

/// The operator's way to Redis.
pub struct RedisConnections(pub Arc<Process>);

impl RedisLink for RedisConnections {
    fn shared(&self) -> Connection {
        Connection::new(RedisConnection(self.0.clone()))
    }

    fn blocking(&self, _: Duration) -> RedisFuture<'_, Connection> {
        Box::pin(async move {
            let connection = RedisConnection(self.0.clone());
            connection.reach().await?;
            Ok(Connection::new(connection))
        })
    }
}

struct RedisConnection(Arc<Process>);

impl RedisConnection {
    fn is_up(&self) -> Result<(), RedisError> {
        if self.0.world.redis_is_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(failure("connection refused"))
    }

    async fn reach(&self) -> Result<Fate, RedisError> {
        let fate = self.0.send("asking Redis").await;
        self.is_up()?;
        if matches!(fate, Fate::Lost | Fate::Late) {
            Err(failure("connection reset"))
        } else {
            Ok(fate)
        }
    }

    async fn back(&self, fate: Fate) -> Result<(), RedisError> {
        self.0.receive("asking Redis").await;
        self.is_up()?;
        if fate == Fate::ReplyLost {
            Err(failure("connection reset"))
        } else {
            Ok(())
        }
    }
}

fn failure(text: &str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::ConnectionReset, text.to_owned()).into()
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move {
            let fate = self.reach().await?;
            let answer = self.0.world.redis.run(command).await;
            self.back(fate).await?;
            Ok(answer)
        })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move {
            let fate = self.reach().await?;
            let mut answers = Vec::new();
            for command in pipeline.cmd_iter() {
                answers.push(self.0.world.redis.run(command).await);
            }
            self.back(fate).await?;
            // A transaction is answered by the answer to its EXEC alone.
            Ok(if offset == 0 {
                answers
            } else {
                vec![Value::Array(answers)]
            })
        })
    }

    fn get_db(&self) -> i64 {
        0
    }
}
