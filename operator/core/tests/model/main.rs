//! The planner in every order of events that small bounds allow: one operator or two that nobody elected, each with watches that lag by
//! kind, crashes before, between and after writes, replies that are lost, creations that land late or never, Jobs deleted by hand,
//! Pods that die, results that come late or twice, owners who cancel and ask again.
//!
//! `make proofs` runs it. ARCHITECTURE.md names the promises.
#![cfg(test)]

mod conduct;
mod evidence;
mod ledger;
mod model;
mod mutants;
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
    let checker = Check::new(bounds).checker().threads(2).spawn_dfs().join();
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
        if model::PROMISES.contains(&name) {
            println!("{name} is broken by:");
            for action in path.into_actions() {
                println!("  {action:?}");
            }
        }
    }
}

fn configurations() -> Vec<(&'static str, Bounds)> {
    let none = Bounds::default();
    let one = Bounds {
        operators: 1,
        stages: 1,
        ticks: 1,
        ..none
    };
    let two = Bounds { operators: 2, ..one };
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
        ("two operators, no fault", two),
        (
            "two operators, a lost reply, no time",
            Bounds {
                lost_replies: 1,
                ticks: 0,
                ..two
            },
        ),
    ]
}

/// What at least one configuration has to reach, or the search would prove little.
const REACHED: [&str; 10] = [
    "a burnt attempt",
    "a cancelled Workflow",
    "a completed Workflow",
    "a failed Workflow",
    "a Job found after a lost reply",
    "a lost race",
    "a refused result",
    "a result that was asked for",
    "a second attempt",
    "a second run",
];

#[test]
fn every_promise_holds_in_every_order_of_events() {
    let (mut states, mut reached) = (0, Vec::new());
    for (name, bounds) in configurations() {
        let found = search(bounds);
        println!(
            "{name}: {} unique states, depth {}, {:.1} s; reached {:?}",
            found.states, found.depth, found.seconds, found.discoveries
        );
        println!("  {bounds:?}");
        let broken = |name: &&&str| model::PROMISES.contains(*name);
        if let Some(promise) = found.discoveries.iter().find(broken) {
            tell(bounds);
            panic!("{name}: broken: {promise}");
        }
        states += found.states;
        reached.extend(found.discoveries);
    }
    println!("{states} unique states");
    for state in REACHED {
        assert!(reached.contains(&state), "never reached: {state}");
    }
    assert!(
        states >= 1_000_000,
        "{states} states are too few to prove anything"
    );
}

#[test]
fn every_mutant_is_caught() {
    for mutant in mutants::all() {
        let (name, bounds) = (mutant.name, mutant.bounds);
        let begin = Instant::now();
        let checker = Check::broken(bounds, mutant)
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyFailures)
            .timeout(Duration::from_mins(2))
            .spawn_bfs()
            .join();
        let mut caught: Vec<&str> = checker.discoveries().into_keys().collect();
        caught.retain(|name| model::PROMISES.contains(name));
        println!(
            "mutant: {name}\n  caught by: {caught:?}, after {} states, {:.1} s",
            checker.unique_state_count(),
            begin.elapsed().as_secs_f64()
        );
        assert!(!caught.is_empty(), "the mutant survives: {name}");
    }
}
