use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stagecraft_api::Moment;
use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::gateway::Store;
use crate::generator::Generator;
use crate::journal::Journal;
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
    pub weather: Weather,
    /// Whether the weather is as it is; else nothing goes wrong at all.
    pub is_rough: AtomicBool,
    /// Of 100 status patches in a storm, how many meet a conflict.
    pub conflicts: u64,
    pub redis_is_up: AtomicBool,
    pub gateway_is_up: AtomicBool,
    pub journal: Journal,
    pub panics: Mutex<Vec<String>>,
    pub counts: Counts,
    pub clock: Clock,
    trace: Option<Trace>,
}

/// What happened, for people. It outlives a schedule that panics.
pub type Trace = Arc<Mutex<String>>;

/// What may go wrong in a schedule before it becomes calm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Requests are slow, views lag, watches break and repeat themselves, and status patches meet conflicts. Nothing is lost.
    Calm,
    /// The same; Redis is emptied and away.
    RedisAway,
    /// The same as in a calm; one operator is killed again and again.
    Kills,
    /// Everything, and at once.
    Storm,
}

/// How often what happened.
#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    pub fn count(&self, what: &str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(times) = counts.get_mut(what) {
            *times += 1;
        } else {
            counts.insert(what.to_owned(), 1);
        }
    }

    pub fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The time of day where API server, gateway and nodes are.
#[derive(Clone, Debug)]
pub struct Clock {
    begin: Moment,
    started: Instant,
    /// Milliseconds that it is ahead of the time that passes.
    shift: Arc<AtomicI64>,
}

impl Clock {
    fn start() -> Self {
        Self {
            begin: Moment::new(jiff::Timestamp::from_second(1_793_527_200).unwrap_or_default()),
            started: Instant::now(),
            shift: Arc::default(),
        }
    }

    pub fn now(&self) -> Moment {
        let passed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        shifted(self.begin.plus_millis(passed), self.shift.load(Ordering::Relaxed))
    }

    /// Puts it this many milliseconds ahead.
    pub fn set_ahead(&self, millis: i64) {
        self.shift.store(millis, Ordering::Relaxed);
    }
}

/// A moment that is this many milliseconds later.
pub fn shifted(moment: Moment, millis: i64) -> Moment {
    let later = moment
        .timestamp()
        .checked_add(jiff::SignedDuration::from_millis(millis));
    later.map_or(moment, Moment::new)
}

impl World {
    /// To be made inside of a runtime whose time is paused.
    pub fn new(seed: u64, weather: Weather, trace: Option<Trace>) -> Arc<Self> {
        let generator = Generator::new(seed);
        let clock = Clock::start();
        let (of_server, of_redis) = (clock.clone(), clock.clone());
        let server = ApiServer::new(generator.fork(), move || of_server.now());
        let conflicts = 10 + generator.below(41);
        Arc::new(Self {
            seed,
            redis: Redis::new(move || of_redis.now()),
            store: Store::new(server.clone()),
            server,
            weather,
            is_rough: AtomicBool::new(true),
            conflicts,
            redis_is_up: AtomicBool::new(true),
            gateway_is_up: AtomicBool::new(true),
            journal: Journal::default(),
            panics: Mutex::default(),
            counts: Counts::default(),
            clock,
            trace,
            generator,
        })
    }

    pub fn now(&self) -> Moment {
        self.clock.now()
    }

    pub fn is_rough(&self) -> bool {
        self.is_rough.load(Ordering::Relaxed)
    }

    /// Whether anything may be lost at the moment.
    pub fn is_storm(&self) -> bool {
        self.weather == Weather::Storm && self.is_rough()
    }

    /// True in `percent` of 100 cases, while it is rough.
    pub fn strikes(&self, generator: &Generator, percent: u64) -> bool {
        self.is_rough() && generator.percent(percent)
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
}

/// Lets time pass.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}
