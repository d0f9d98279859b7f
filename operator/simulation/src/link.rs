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
use crate::world::{World, sleep};

pub use self::api::{ApiLink, CONFLICTS, STATUS_PATCHES};
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

/// Where an operator was with a request when it was killed.
pub const BEFORE: &str = "before";
pub const ON_THE_WAY: &str = "on the way of";
pub const AFTER: &str = "after";

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

    /// Passes a point at which it may crash: where it is with something. After a crash, nobody passes.
    async fn pass(&self, what: &str, place: &str) {
        let left = self.crash_in.load(Ordering::Relaxed);
        if left > 0 {
            self.crash_in.store(left - 1, Ordering::Relaxed);
        }
        if left == 1 && !self.is_cut.swap(true, Ordering::Relaxed) {
            self.world
                .note(|| format!("{} is killed {place} {what}", self.name));
            self.world.counts.count(&format!("killed {place} {what}"));
            self.crashed.notify_one();
        }
        if self.is_cut.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
    }

    /// The way there, and what becomes of the request.
    async fn send(&self, what: &str) -> Fate {
        self.pass(what, BEFORE).await;
        let (world, generator) = (&self.world, &self.generator);
        world.counts.count(what);
        let delay = match (world.is_rough(), generator.below(100)) {
            (true, 0) if world.is_storm() => generator.millis(3_000, 12_000),
            (true, 0..8) if world.is_storm() => generator.millis(100, 3_000),
            (true, 0..8) => generator.millis(100, 1_000),
            _ => generator.millis(0, 15),
        };
        sleep(delay).await;
        self.pass(what, ON_THE_WAY).await;
        let (fate, what) = match (world.is_storm(), generator.below(100)) {
            (true, 0..3) => (Fate::Lost, "requests lost"),
            (true, 3..6) => (Fate::ReplyLost, "replies lost"),
            (true, 6..8) => (Fate::Late, "requests that landed late"),
            _ => return Fate::Good,
        };
        world.counts.count(what);
        fate
    }

    /// The way back.
    async fn receive(&self, what: &str) {
        sleep(self.generator.millis(0, 5)).await;
        self.pass(what, AFTER).await;
    }
}
