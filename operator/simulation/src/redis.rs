//! A Redis in memory: streams with groups, hashes and sets, as far as operator and gateway use them. `conformance` holds it to the real one.

mod kinds;
mod scripts;
mod state;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Arg, Cmd, Value};
use stagecraft_api::Moment;
use tokio::sync::Notify;

use self::state::{State, error_value, text};

/// The server. It is shared by all its clients.
pub struct Redis {
    state: Mutex<State>,
    added: Notify,
    writes: AtomicU64,
    now: Box<dyn Fn() -> Moment + Send + Sync>,
}

impl Redis {
    pub fn new(now: impl Fn() -> Moment + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            added: Notify::new(),
            writes: AtomicU64::new(0),
            now: Box::new(now),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets everything, scripts included.
    pub fn flush(&self) {
        *self.state() = State::default();
        // Who waits for entries of a group that is gone is told so.
        self.added.notify_waiters();
    }

    /// Every text in it that contains `needle`: keys, fields and values.
    pub fn find(&self, needle: &str) -> Vec<String> {
        self.state().find(needle)
    }

    /// Runs one command; one that blocks waits.
    pub async fn run(&self, command: &Cmd) -> Value {
        let arguments = arguments(command);
        let block = block(&arguments);
        let Some(block) = block else {
            return self.answer(&arguments);
        };
        let until = tokio::time::Instant::now() + block;
        loop {
            let added = self.added.notified();
            tokio::pin!(added);
            added.as_mut().enable();
            let answer = self.answer(&arguments);
            if answer != Value::Nil || tokio::time::timeout_at(until, added).await.is_err() {
                return answer;
            }
        }
    }

    /// How many commands there were that write.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    fn answer(&self, arguments: &[Vec<u8>]) -> Value {
        if arguments.first().is_some_and(|name| is_write(name)) {
            self.writes.fetch_add(1, Ordering::Relaxed);
        }
        let answer = self.state().execute(arguments, (self.now)());
        if matches!(&answer, Ok(Value::BulkString(_))) {
            self.added.notify_waiters();
        }
        answer.unwrap_or_else(|error| error_value(&error))
    }

    /// Adds an entry, as the gateway does.
    pub fn add(&self, stream: &str, fields: &[(&str, &str)]) {
        let mut command = vec![b"XADD".to_vec(), stream.as_bytes().to_vec(), b"*".to_vec()];
        for (name, value) in fields {
            command.extend([name.as_bytes().to_vec(), value.as_bytes().to_vec()]);
        }
        self.answer(&command);
    }
}

/// Reading from a group and claiming from it are for those who look, not for what is looked at.
fn is_write(name: &[u8]) -> bool {
    let writes: [&[u8]; 6] = [b"XADD", b"XACK", b"XDEL", b"HDEL", b"DEL", b"EVALSHA"];
    writes.iter().any(|write| name.eq_ignore_ascii_case(write))
}

/// What a command is made of; a cursor is written as a number.
fn arguments(command: &Cmd) -> Vec<Vec<u8>> {
    let arguments = command.args_iter().map(|argument| match argument {
        Arg::Simple(bytes) => bytes.to_vec(),
        _ => b"0".to_vec(),
    });
    arguments.collect()
}

fn block(arguments: &[Vec<u8>]) -> Option<Duration> {
    let at = arguments
        .iter()
        .position(|argument| argument.eq_ignore_ascii_case(b"BLOCK"))?;
    let millis = text(arguments.get(at + 1)?).parse().ok()?;
    Some(Duration::from_millis(millis))
}
