//! The operator as it ships, under faults, in thousands of schedules.
//!
//! `make proofs` plays 10,000 of them; `SCHEDULES=100000` more, `FIRST_SEED=7000` others; `SEED=42 make proofs` plays one, twice, and tells it.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use stagecraft_simulation::link::{AFTER, BEFORE, CONFLICTS, ON_THE_WAY, STATUS_PATCHES};
use stagecraft_simulation::play::{Verdict, play};
use stagecraft_simulation::world::Trace;

/// A third of the time goes by in the allocator of the C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives the same bytes each time: with others, the hash maps of the standard library would differ from run to run, and with them what
/// happens first among things that happen at the same time.
#[unsafe(no_mangle)]
#[expect(
    unsafe_code,
    reason = "it stands in for the C library's function of this name"
)]
extern "C" fn getrandom(buffer: *mut u8, length: usize, _: u32) -> isize {
    if !buffer.is_null() {
        // SAFETY: the caller hands over a buffer of this length.
        unsafe { std::ptr::write_bytes(buffer, 7, length) };
    }
    isize::try_from(length).unwrap_or(0)
}

/// A fresh thread for each schedule: what is kept by threads begins anew.
fn alone(seed: u64, trace: Option<Trace>) -> Verdict {
    let thread = std::thread::Builder::new()
        .name(format!("seed-{seed}"))
        .spawn(move || play(seed, trace));
    thread.unwrap().join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Verdict {
            broken: vec![format!("it panicked: {}", text.unwrap_or_default())],
            ..Verdict::default()
        }
    })
}

/// The same, with all that happened.
fn told(seed: u64) -> (Verdict, String) {
    let trace = Trace::default();
    let verdict = alone(seed, Some(trace.clone()));
    let text = trace.lock().unwrap().clone();
    (verdict, text)
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is {text:?}, but must be a number")),
    )
}

/// Plays a seed twice and tells what happened.
fn tell(seed: u64) -> Verdict {
    let (first, trace) = told(seed);
    println!("{trace}");
    for broken in &first.broken {
        println!("BROKEN by seed {seed}: {broken}");
    }
    println!("{} s passed, digest {:016x}", first.seconds, first.digest);
    let (second, again) = told(seed);
    assert_same(seed, (&first, &trace), (&second, &again));
    first
}

#[track_caller]
fn assert_same(seed: u64, one: (&Verdict, &str), other: (&Verdict, &str)) {
    let lines = one.1.lines().zip(other.1.lines());
    if let Some((line, another)) = lines.into_iter().find(|(line, another)| line != another) {
        panic!("seed {seed} plays differently each time:\nfirst:  {line}\nsecond: {another}");
    }
    assert_eq!(one, other, "seed {seed} plays differently each time");
}

#[test]
fn a_seed_plays_the_same_each_time() {
    for seed in 0..40 {
        let untold = alone(seed, None);
        let (first, trace) = told(seed);
        let (second, again) = told(seed);
        assert_eq!(untold, first, "seed {seed} plays differently when it is told");
        assert_same(seed, (&first, &trace), (&second, &again));
        assert!(
            trace.contains("operator 1.1 starts"),
            "seed {seed} tells nothing: {trace}"
        );
    }
    let digests: BTreeSet<u64> = (0..40).map(|seed| alone(seed, None).digest).collect();
    assert_eq!(digests.len(), 40, "seeds play the same");
}

#[test]
fn every_promise_holds_in_every_schedule() {
    if let Some(seed) = number("SEED") {
        let verdict = tell(seed);
        assert!(verdict.broken.is_empty(), "seed {seed} broke promises");
        return;
    }
    let first = number("FIRST_SEED").unwrap_or(0);
    let end = first + number("SCHEDULES").unwrap_or(SCHEDULES);
    let next = AtomicU64::new(first);
    let sum: Mutex<Sum> = Mutex::default();
    let begin = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let verdict = alone(seed, None);
                    sum.lock().unwrap().add(seed, verdict);
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    sum.report(first, begin.elapsed().as_secs_f64());
    if end - first >= SCHEDULES {
        sum.assert_reached();
    }
}

/// How many are played when nobody says how many. Of so many, everything that can happen does.
const SCHEDULES: u64 = 10_000;

/// What all schedules came to.
#[derive(Default)]
struct Sum {
    schedules: u64,
    hours: u64,
    counts: BTreeMap<String, u64>,
    reached: BTreeMap<String, u64>,
    failed: BTreeMap<u64, Verdict>,
}

impl Sum {
    fn add(&mut self, seed: u64, verdict: Verdict) {
        self.schedules += 1;
        self.hours += verdict.seconds / 3600;
        for (what, times) in &verdict.counts {
            *self.counts.entry(what.clone()).or_default() += times;
        }
        for what in &verdict.reached {
            *self.reached.entry(what.clone()).or_default() += 1;
        }
        if !verdict.broken.is_empty() {
            self.failed.insert(seed, verdict);
        }
    }

    fn count(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    fn report(&self, first: u64, seconds: f64) {
        let schedules = f64::from(u32::try_from(self.schedules).unwrap());
        println!(
            "{schedules} schedules (seeds {first} to {}) in {seconds:.1} s, {:.1} s of processors: {:.1} a second; {} hours passed in them",
            (first + self.schedules).saturating_sub(1),
            processor_seconds(),
            schedules / seconds,
            self.hours
        );
        for (what, times) in self
            .counts
            .iter()
            .filter(|(what, _)| !what.starts_with("killed "))
        {
            println!("  {times:>10} {what}");
        }
        println!("  schedules in which it came to: {:?}", self.reached);
        for (seed, verdict) in self.failed.iter().take(20) {
            println!("seed {seed}: {}", verdict.broken.join("; "));
        }
        if let Some((seed, verdict)) = self.failed.first_key_value() {
            let told = tell(*seed);
            assert_eq!(
                told.broken, verdict.broken,
                "seed {seed} broke other promises when it was told"
            );
            panic!(
                "{} of {schedules} schedules broke promises; SEED={seed} plays the first of them",
                self.failed.len()
            );
        }
    }

    /// Schedules in which nothing of interest happens would prove nothing.
    fn assert_reached(&self) {
        for what in HAPPENED {
            assert!(self.count(what) > 0, "this never happened: {what}");
        }
        for what in REACHED {
            assert!(self.reached.contains_key(what), "no schedule came to: {what}");
        }
        let share = 100 * self.count(CONFLICTS) / self.count(STATUS_PATCHES);
        println!("  {share} of 100 status patches met a conflict in rough weather");
        assert!(
            (10..=50).contains(&share),
            "{share} of 100 is no share of conflicts"
        );
        let verbs = ["POST ", "PATCH ", "PUT ", "DELETE "];
        let writes = self
            .counts
            .iter()
            .filter(|(what, times)| verbs.iter().any(|verb| what.starts_with(verb)) && **times > OFTEN);
        for (what, times) in writes {
            for place in [BEFORE, ON_THE_WAY, AFTER] {
                let killed = self.count(&format!("killed {place} {what}"));
                assert!(
                    killed > 0,
                    "nobody was ever killed {place} {what}, which happened {times} times"
                );
            }
        }
    }
}

/// What is asked for so often meets a kill at each of its points.
const OFTEN: u64 = 5_000;

const HAPPENED: [&str; 15] = [
    "Redis emptied",
    "clocks moved by a day",
    "nodes that came back",
    "operators killed",
    "replies lost",
    "requests lost",
    "requests that landed late",
    "results announced again",
    "results of Pods on their way out",
    "results refused",
    "two operators at once",
    "watch events repeated",
    "watches answered with 410",
    "watches broken",
    CONFLICTS,
];

const REACHED: [&str; 24] = [
    "AwaitingApproval",
    "Cancelled",
    "Completed",
    "Failed",
    "Broken",
    "GateFailed",
    "JobDeleted",
    "JobMissing",
    "NodeLost",
    "OutOfMemory",
    "PodDeleted",
    "PodLost",
    "PodGone",
    "PodTerminated",
    "StageTimeout",
    "Limit",
    "Suspended",
    "a second round",
    "a second run",
    "a stage of finally succeeded",
    "a stage was skipped",
    "an approval was approved",
    "an approval was rejected",
    "AgentContainerEnded",
];

/// Time of all processors that this process has used.
fn processor_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::time::Duration::try_from(time).unwrap().as_secs_f64()
}
