//! The operator as it ships, under faults, in thousands of schedules.
//!
//! `SCHEDULES=100000 make simulation` plays more than usual; `SEED=42 make simulation` plays one, twice, and tells it.
#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use stagecraft_simulation::play::{Verdict, play};

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
fn alone(seed: u64, traced: bool) -> Verdict {
    let thread = std::thread::Builder::new()
        .name(format!("seed-{seed}"))
        .spawn(move || play(seed, traced));
    thread.unwrap().join().unwrap_or_else(|_| Verdict {
        broken: vec!["it panicked".to_owned()],
        ..Verdict::default()
    })
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
    let (first, second) = (alone(seed, true), alone(seed, true));
    println!("{}", first.trace);
    for broken in &first.broken {
        println!("BROKEN by seed {seed}: {broken}");
    }
    println!("{} s passed, digest {:016x}", first.seconds, first.digest);
    if let Some((one, other)) = first
        .trace
        .lines()
        .zip(second.trace.lines())
        .find(|(one, other)| one != other)
    {
        println!("first:  {one}\nsecond: {other}");
    }
    assert_eq!(
        first.digest, second.digest,
        "seed {seed} plays differently each time"
    );
    first
}

#[test]
fn every_promise_holds_in_every_schedule() {
    if let Some(seed) = number("SEED") {
        let verdict = tell(seed);
        assert!(verdict.broken.is_empty(), "seed {seed} broke promises");
        return;
    }
    let schedules = number("SCHEDULES").unwrap_or(10_000);
    let next = AtomicU64::new(0);
    let verdicts: Mutex<Vec<(u64, Verdict)>> = Mutex::default();
    let begin = Instant::now();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= schedules {
                        return;
                    }
                    let verdict = alone(seed, false);
                    verdicts.lock().unwrap().push((seed, verdict));
                }
            });
        }
    });
    report(&verdicts.into_inner().unwrap(), begin.elapsed().as_secs_f64());
}

fn report(verdicts: &[(u64, Verdict)], seconds: f64) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut endings: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, verdict) in verdicts {
        for (what, times) in &verdict.counts {
            *counts.entry(what).or_default() += times;
        }
        for ending in &verdict.endings {
            *endings.entry(ending).or_default() += 1;
        }
    }
    let passed: u64 = verdicts.iter().map(|(_, verdict)| verdict.seconds).sum();
    println!(
        "{} schedules (seeds 0 to {}) in {seconds:.1} s: {:.0} a second; {} hours passed in them",
        verdicts.len(),
        verdicts.len().saturating_sub(1),
        f64::from(u32::try_from(verdicts.len()).unwrap()) / seconds,
        passed / 3600
    );
    println!("  {counts:?}\n  {endings:?}");
    let mut failed: Vec<&(u64, Verdict)> = verdicts
        .iter()
        .filter(|(_, verdict)| !verdict.broken.is_empty())
        .collect();
    failed.sort_by_key(|(seed, _)| *seed);
    for (seed, verdict) in failed.iter().take(20) {
        println!("seed {seed}: {}", verdict.broken.join("; "));
    }
    if let Some((seed, _)) = failed.first() {
        tell(*seed);
        panic!(
            "{} of {} schedules broke promises; SEED={seed} plays the first of them",
            failed.len(),
            verdicts.len()
        );
    }
    for what in counts.keys() {
        assert!(counts[what] > 0, "this never happened: {what}");
    }
    for ending in [
        "Completed",
        "Failed",
        "Cancelled",
        "a second run",
        "JobDeleted",
        "JobMissing",
        "OutOfMemory",
        "StageTimeout",
    ] {
        assert!(endings.contains_key(ending), "nothing ended with {ending}");
    }
}
