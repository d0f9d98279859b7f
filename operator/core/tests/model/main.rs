//! The planner in every order of events that small bounds allow: one operator or two that nobody elected, each with watches that lag by
//! kind, crashes before, between and after writes, replies that are lost, creations that land late or never, Jobs deleted by hand,
//! Pods that die, results that come late or twice, owners who cancel and ask again.
//!
//! `make proofs` runs it, `DEEP=1 make proofs` with searches that take more than an hour. ARCHITECTURE.md names the promises.
#![cfg(test)]

mod conduct;
mod evidence;
mod ledger;
mod model;
mod mutants;
mod properties;
mod shared;
mod state;

use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model};

use crate::model::{Bounds, Check};

/// What an exhaustive search found.
struct Found {
    states: usize,
    depth: usize,
    seconds: f64,
    /// Broken promises and states that were to be reached, by name.
    discoveries: Vec<&'static str>,
}

/// Depth first: what is yet to be looked at stays small.
fn search(bounds: Bounds) -> Found {
    let begin = Instant::now();
    let checker = Check::new(bounds).checker().threads(2).symmetry();
    let checker = checker.spawn_dfs().join();
    assert!(checker.is_done(), "the search was cut off");
    let mut discoveries: Vec<&'static str> = checker.discoveries().into_keys().collect();
    discoveries.sort_unstable();
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds: begin.elapsed().as_secs_f64(),
        discoveries,
    }
}

/// Prints the shortest way to a broken promise.
fn tell(bounds: Bounds) {
    let checker = Check::new(bounds).checker().threads(2);
    let checker = checker
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    for (name, path) in checker.discoveries() {
        if ledger::PROMISES.contains(&name) {
            println!("{name} is broken by:");
            for action in path.into_actions() {
                println!("  {action:?}");
            }
        }
    }
}

fn of_one_operator() -> Vec<(&'static str, Bounds)> {
    let none = Bounds::default();
    let one = Bounds {
        operators: 1,
        stages: 1,
        ticks: 1,
        ..none
    };
    vec![
        (
            "one operator, writes that are lost, a crash",
            Bounds {
                crashes: 1,
                lost_replies: 1,
                lost_posts: 1,
                ..one
            },
        ),
        (
            "one operator, from the request on, two crashes and a lost reply",
            Bounds {
                from_request: true,
                crashes: 2,
                lost_replies: 1,
                ..one
            },
        ),
        (
            "one operator, Jobs and Pods that go, a result that comes twice",
            Bounds {
                deletions: 1,
                deaths: 1,
                failures: 1,
                repeats: 1,
                ..one
            },
        ),
        (
            "one operator whose views of Jobs and Pods lag each by itself, Pods that report late",
            Bounds {
                deletions: 1,
                late: 2,
                pods_lag: true,
                crashes: 1,
                ..one
            },
        ),
        (
            "one operator, an owner who cancels and asks again",
            Bounds {
                failures: 1,
                crashes: 1,
                cancels: true,
                runs: 2,
                ..one
            },
        ),
        (
            "one operator, two stages, a crash and a lost creation",
            Bounds {
                stages: 2,
                crashes: 1,
                lost_posts: 1,
                ..one
            },
        ),
        (
            "one operator, two stages, an owner who cancels and asks again",
            Bounds {
                stages: 2,
                ticks: 0,
                failures: 1,
                cancels: true,
                runs: 2,
                ..one
            },
        ),
        (
            "one operator, two stages of which one sends the work back, a crash",
            Bounds {
                stages: 2,
                ticks: 0,
                failures: 2,
                crashes: 1,
                repairs: true,
                ..one
            },
        ),
        (
            "one operator, a run that somebody deletes, a crash",
            Bounds {
                loses_run: true,
                crashes: 1,
                failures: 1,
                ..one
            },
        ),
    ]
}

fn of_two_operators() -> Vec<(&'static str, Bounds)> {
    let two = Bounds {
        operators: 2,
        stages: 1,
        ticks: 1,
        ..Bounds::default()
    };
    // Nobody burns an attempt for its age.
    let in_time = Bounds { ticks: 0, ..two };
    vec![
        ("two operators, no fault", two),
        (
            "two operators, from the request on, a lost reply",
            Bounds {
                from_request: true,
                lost_replies: 1,
                ..in_time
            },
        ),
        (
            "two operators, a crash",
            Bounds {
                crashes: 1,
                ..in_time
            },
        ),
        (
            "two operators, a lost creation",
            Bounds {
                lost_posts: 1,
                ..in_time
            },
        ),
        ("two operators, a Pod that dies", Bounds { deaths: 1, ..in_time }),
        (
            "two operators, a Job or Pod that goes",
            Bounds {
                deletions: 1,
                ..in_time
            },
        ),
    ]
}

/// Hours for a machine, not minutes: `DEEP=1 make proofs`.
fn deep_configurations() -> Vec<(&'static str, Bounds)> {
    let two = Bounds {
        operators: 2,
        stages: 1,
        ..Bounds::default()
    };
    vec![
        (
            "two operators, a lost creation, time that passes",
            Bounds {
                lost_posts: 1,
                ticks: 1,
                ..two
            },
        ),
        (
            "two operators, a Job or Pod that goes and reports late",
            Bounds {
                deletions: 1,
                late: 1,
                ..two
            },
        ),
        (
            "two operators, an agent that fails, a result that comes twice",
            Bounds {
                failures: 1,
                repeats: 1,
                ..two
            },
        ),
        (
            "two operators, an owner who cancels and asks again",
            Bounds {
                cancels: true,
                runs: 2,
                ..two
            },
        ),
    ]
}

fn is_deep() -> bool {
    std::env::var("DEEP").is_ok_and(|text| text == "1")
}

/// What at least one configuration has to reach, or the search would prove little.
const REACHED: [&str; 14] = [
    "a burnt attempt",
    "a cancelled Workflow",
    "a completed Workflow",
    "a failed Workflow",
    "a Job found after a lost reply",
    "a lost race",
    "a refused result",
    "a result of a Pod whose Job was gone",
    "a result that was asked for",
    "a run that was lost",
    "a run that was pinned twice",
    "a second attempt",
    "a second round that completes",
    "a second run",
];

#[test]
fn every_promise_holds_in_every_order_of_events() {
    let (mut states, mut largest, mut reached) = (0, 0, Vec::new());
    let mut all = of_one_operator();
    all.extend(of_two_operators());
    if is_deep() {
        all.extend(deep_configurations());
    }
    for (name, bounds) in all {
        let found = search(bounds);
        println!(
            "{name}: {} unique states, depth {}, {:.1} s; reached {:?}",
            found.states, found.depth, found.seconds, found.discoveries
        );
        println!("  {bounds:?}");
        let broken = |name: &&&str| ledger::PROMISES.contains(*name);
        if let Some(promise) = found.discoveries.iter().find(broken) {
            tell(bounds);
            panic!("{name}: broken: {promise}");
        }
        states += found.states;
        largest = largest.max(found.states);
        reached.extend(found.discoveries);
    }
    println!("{states} states in all searches, {largest} unique ones in the largest");
    for state in REACHED {
        assert!(reached.contains(&state), "never reached: {state}");
    }
    assert!(
        largest >= 1_000_000,
        "{largest} states are too few to prove anything"
    );
}

#[test]
fn every_mutant_is_caught() {
    for mutant in mutants::all() {
        let (name, caught_by, bounds) = (mutant.name, mutant.caught_by, mutant.bounds);
        let begin = Instant::now();
        let checker = Check::broken(bounds, mutant)
            .checker()
            .finish_when(HasDiscoveries::AnyFailures)
            .timeout(Duration::from_mins(2))
            .spawn_bfs()
            .join();
        let mut caught: Vec<&str> = checker.discoveries().into_keys().collect();
        caught.retain(|name| ledger::PROMISES.contains(name));
        println!(
            "mutant: {name}\n  caught by: {caught:?}, after {} states, {:.1} s",
            checker.unique_state_count(),
            begin.elapsed().as_secs_f64()
        );
        assert!(caught.contains(&caught_by), "{caught_by} does not catch: {name}");
    }
}
