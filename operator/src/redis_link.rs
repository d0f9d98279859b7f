//! How Redis is reached.

use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{
    AsyncConnectionConfig, Cmd, IntoConnectionInfo as _, Pipeline, RedisError, RedisFuture, RedisResult,
    Value,
};

/// Makes connections to the Redis of the release.
pub trait RedisLink: Send + Sync {
    /// One that all short questions share. It connects when it is used, and again after an error.
    fn shared(&self) -> Connection;

    /// One for reads that block at most `longest`. It ends with its first error.
    fn blocking(&self, longest: Duration) -> RedisFuture<'_, Connection>;
}

/// Whether Redis holds a value of another kind than is asked for: somebody else's.
pub fn is_foreign(error: &RedisError) -> bool {
    let refusals = error.clone().into_server_errors();
    refusals.is_some_and(|refusals| refusals.iter().any(|(_, refusal)| refusal.code() == "WRONGTYPE"))
}

/// A connection, whatever is behind it.
pub struct Connection(Box<dyn ConnectionLike + Send + Sync>);

impl Connection {
    pub fn new(connection: impl ConnectionLike + Send + Sync + 'static) -> Self {
        Self(Box::new(connection))
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.0.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

/// Connection settings of Redis.
#[derive(Clone)]
pub struct RedisSettings {
    /// `redis://HOST:PORT`.
    pub url: String,
    pub password: String,
}

/// A Redis server.
pub struct Server {
    client: redis::Client,
    shared: ConnectionManager,
}

/// Longest wait for the answer to a short question.
pub const TIMEOUT: Duration = Duration::from_millis(500);

impl Server {
    /// Fails only when the URL is not valid: a Redis that is away is tried again at each use.
    pub fn new(settings: &RedisSettings) -> RedisResult<Self> {
        let mut info = settings.url.as_str().into_connection_info()?;
        if !settings.password.is_empty() {
            // So that it never stands in a URL.
            let with_password = info
                .redis_settings()
                .clone()
                .set_password(settings.password.clone());
            info = info.set_redis_settings(with_password);
        }
        let client = redis::Client::open(info)?;
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let shared = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self { client, shared })
    }
}

impl RedisLink for Server {
    fn shared(&self) -> Connection {
        Connection::new(self.shared.clone())
    }

    fn blocking(&self, longest: Duration) -> RedisFuture<'_, Connection> {
        Box::pin(async move {
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(Duration::from_secs(1)))
                .set_response_timeout(Some(longest * 2));
            let connection = self.client.get_multiplexed_async_connection_with_config(&config);
            Ok(Connection::new(connection.await?))
        })
    }
}
