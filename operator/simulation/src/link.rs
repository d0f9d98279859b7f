//! What stands between an operator and everything else: delays, losses, and its end. An operator has no effect but through here, so
//! that a crash before or after one of its requests stands for a crash at any point of its code.

mod api;
mod gateway;
mod redis;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::generator::Generator;
use crate::world::{Counts, World, sleep};

pub use self::api::ApiLink;
pub use self::gateway::GatewayLink;
pub use self::redis::RedisConnections;

/// One process of the operator.
pub struct Process {
    pub world: Arc<World>,
    pub name: String,
    pub generator: Generator,
    /// Its clock is this many milliseconds ahead.
    pub skew: AtomicI64,
    is_cut: AtomicBool,
    /// It crashes at the request of this number, from now on; 0 for never.
    crash_in: AtomicU64,
    pub crashed: Notify,
}

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// As it should.
    Good,
    /// It never arrives.
    Lost,
    /// It is done; the sender is not told.
    ReplyLost,
    /// It is done after the sender has given up.
    Late,
}

impl Process {
    pub fn new(world: Arc<World>, name: String) -> Arc<Self> {
        let generator = world.generator.fork();
        Arc::new(Self {
            world,
            name,
            generator,
            skew: AtomicI64::new(0),
            is_cut: AtomicBool::new(false),
            crash_in: AtomicU64::new(0),
            crashed: Notify::new(),
        })
    }

    /// Ends it: nothing that it still does has an effect.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
    }

    /// Lets it crash at its request of this number from now on.
    pub fn crash_in(&self, requests: u64) {
        self.crash_in.store(requests, Ordering::Relaxed);
    }

    /// Passes a point at which it may crash. After a crash, nobody passes.
    async fn pass(&self) {
        let left = self.crash_in.load(Ordering::Relaxed);
        if left > 0 {
            self.crash_in.store(left - 1, Ordering::Relaxed);
        }
        if left == 1 && !self.is_cut.swap(true, Ordering::Relaxed) {
            self.world.note(|| format!("{} crashes at a request", self.name));
            self.crashed.notify_one();
        }
        if self.is_cut.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    /// The way there, and what becomes of the request.
    async fn send(&self) -> Fate {
        self.pass().await;
        let (world, generator) = (&self.world, &self.generator);
        Counts::count(&world.counts.requests);
        let delay = match (world.is_storm(), generator.below(100)) {
            (true, 0) => generator.millis(3_000, 12_000),
            (true, 1..8) => generator.millis(100, 3_000),
            _ => generator.millis(0, 15),
        };
        sleep(delay).await;
        self.pass().await;
        let (fate, counter) = match (world.is_storm(), generator.below(100)) {
            (true, 0..3) => (Fate::Lost, &world.counts.lost_requests),
            (true, 3..6) => (Fate::ReplyLost, &world.counts.lost_replies),
            (true, 6..8) => (Fate::Late, &world.counts.late_requests),
            _ => return Fate::Good,
        };
        Counts::count(counter);
        fate
    }

    /// The way back.
    async fn receive(&self) {
        sleep(self.generator.millis(0, 5)).await;
        self.pass().await;
    }
}
