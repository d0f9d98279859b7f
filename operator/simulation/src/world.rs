use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stagecraft_api::Moment;
use stagecraft_api::result::AttemptResult;
use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::gateway::Store;
use crate::generator::Generator;
use crate::redis::Redis;

/// Namespace of the release, and the one in which people work.
pub const RELEASE: &str = "release";
pub const HERE: &str = "here";

/// What there is outside of the operators. One world is one schedule.
pub struct World {
    pub seed: u64,
    pub generator: Generator,
    pub server: Arc<ApiServer>,
    pub redis: Arc<Redis>,
    pub store: Arc<Store>,
    /// Everything that can go wrong does.
    pub storm: AtomicBool,
    /// Of 100 status patches in a storm, how many meet a conflict.
    pub conflicts: u64,
    pub redis_is_up: AtomicBool,
    pub gateway_is_up: AtomicBool,
    /// Every result that was ever stored.
    pub results: Mutex<Vec<AttemptResult>>,
    pub panics: Mutex<Vec<String>>,
    pub counts: Counts,
    clock: Clock,
    trace: Option<Mutex<String>>,
}

/// How often what happened.
#[derive(Debug, Default)]
pub struct Counts {
    pub crashes: AtomicU64,
    pub requests: AtomicU64,
    pub lost_requests: AtomicU64,
    pub lost_replies: AtomicU64,
    pub late_requests: AtomicU64,
    pub conflicts: AtomicU64,
    pub broken_watches: AtomicU64,
    pub repeated_events: AtomicU64,
    pub expired_watches: AtomicU64,
    pub flushes: AtomicU64,
    pub clock_jumps: AtomicU64,
}

impl Counts {
    pub fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn all(&self) -> [(&'static str, u64); 11] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("requests", read(&self.requests)),
            ("operators crashed", read(&self.crashes)),
            ("requests lost", read(&self.lost_requests)),
            ("replies lost", read(&self.lost_replies)),
            ("requests that landed late", read(&self.late_requests)),
            ("conflicts", read(&self.conflicts)),
            ("watches broken", read(&self.broken_watches)),
            ("watch events repeated", read(&self.repeated_events)),
            ("watches answered with 410", read(&self.expired_watches)),
            ("Redis emptied", read(&self.flushes)),
            ("clocks moved by a day", read(&self.clock_jumps)),
        ]
    }
}

/// The time of day where the API server is.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begin: Moment,
    started: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            begin: Moment::new(jiff::Timestamp::from_second(1_793_527_200).unwrap_or_default()),
            started: Instant::now(),
        }
    }

    pub fn now(self) -> Moment {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.begin.plus_millis(passed)
    }
}

impl World {
    /// To be made inside of a runtime whose time is paused.
    pub fn new(seed: u64, traced: bool) -> Arc<Self> {
        let generator = Generator::new(seed);
        let clock = Clock::start();
        let server = ApiServer::new(generator.fork(), move || clock.now());
        let conflicts = 10 + generator.below(41);
        Arc::new(Self {
            seed,
            redis: Redis::new(move || clock.now()),
            store: Store::new(server.clone()),
            server,
            storm: AtomicBool::new(true),
            conflicts,
            redis_is_up: AtomicBool::new(true),
            gateway_is_up: AtomicBool::new(true),
            results: Mutex::default(),
            panics: Mutex::default(),
            counts: Counts::default(),
            clock,
            trace: traced.then(Mutex::default),
            generator,
        })
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub fn is_storm(&self) -> bool {
        self.storm.load(Ordering::Relaxed)
    }

    /// True in `percent` of 100 cases, in a storm.
    pub fn strikes(&self, generator: &Generator, percent: u64) -> bool {
        self.is_storm() && generator.percent(percent)
    }

    /// An operator has panicked.
    pub fn panicked(&self, text: &str) {
        self.note(|| text.to_owned());
        self.panics
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(text.to_owned());
    }

    /// For whoever reads how a promise was broken.
    pub fn note(&self, line: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(trace, "{} {}", self.now(), line());
        }
    }

    /// What was noted.
    pub fn trace(&self) -> String {
        let trace = self.trace.as_ref();
        let text = trace.map(|trace| trace.lock().unwrap_or_else(PoisonError::into_inner).clone());
        text.unwrap_or_default()
    }
}

/// Lets time pass.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}
