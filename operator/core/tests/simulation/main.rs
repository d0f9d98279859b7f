//! The planner in a simulated world: one or two operators without fencing and with stale caches, crashes between any two
//! actions, Jobs whose creation is lost or lands late, Pods that are killed, results that are announced twice or never. What
//! ARCHITECTURE.md promises is checked at every write; a seed that breaks a promise is printed with what led to it.
//!
//! `SIMULATION_SEEDS=5000 cargo test -p stagecraft-core --test simulation` looks further than usual.
#![cfg(test)]

mod cluster;
mod generator;
mod ledger;
mod operator;
mod play;
mod world;

use std::collections::BTreeMap;

use stagecraft_api::status::{StagePhase, WorkflowPhase};
use stagecraft_core::Settings;

use crate::play::{Ending, play};
use crate::world::Weather;

/// Many losses would hide how each came about; few bring a Workflow to its end.
fn settings() -> Settings {
    Settings {
        max_losses: 6,
        ..Settings::default()
    }
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("SIMULATION_SEEDS");
    0..wanted.ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn all(weather: Weather, usual: u64, settings: &Settings) -> Vec<Ending> {
    seeds(usual).map(|seed| play(seed, weather, settings)).collect()
}

/// How often attempts ended in each way.
fn codes(endings: &[Ending]) -> BTreeMap<String, usize> {
    let mut codes = BTreeMap::new();
    for code in endings.iter().flat_map(|ending| &ending.codes) {
        *codes.entry(code.clone()).or_insert(0) += 1;
    }
    codes
}

#[test]
fn every_promise_holds_in_every_weather_and_each_workflow_ends() {
    let endings = all(Weather::Storm, 400, &settings());
    let codes = codes(&endings);
    println!("{codes:?}");
    // A storm that never reaches these would prove little.
    for code in [
        "AgentContainerEnded",
        "Broken",
        "GateFailed",
        "JobDeleted",
        "JobMissing",
        "NodeLost",
        "OutOfMemory",
        "PodDeleted",
        "PodLost",
        "StageTimeout",
    ] {
        assert!(
            codes.contains_key(code),
            "no attempt ended with {code}: {codes:?}"
        );
    }
    for phase in [
        WorkflowPhase::Completed,
        WorkflowPhase::Failed,
        WorkflowPhase::Cancelled,
    ] {
        assert!(endings.iter().any(|ending| ending.phase == phase), "{phase:?}");
    }
    assert!(
        endings.iter().any(|ending| ending.run > 1),
        "nobody asked for a new run"
    );
    let stages: Vec<&(String, StagePhase)> = endings.iter().flat_map(|ending| &ending.stages).collect();
    assert!(
        stages.iter().any(|(_, phase)| *phase == StagePhase::Skipped),
        "no stage was skipped"
    );
    assert!(
        endings.iter().any(|ending| ending.rounds > 1),
        "nothing was repaired twice"
    );
    let last = ("z".to_owned(), StagePhase::Succeeded);
    assert!(stages.contains(&&last), "no stage of finally ran");
}

#[test]
fn without_a_fault_no_attempt_is_burnt() {
    let endings = all(Weather::Calm, 200, &settings());
    let codes = codes(&endings);
    println!("{codes:?}");
    let agents = ["Broken", "GateFailed"];
    assert!(
        codes.keys().all(|code| agents.contains(&code.as_str())),
        "{codes:?}"
    );
    assert!(codes.contains_key("Broken"), "no agent ever failed");
}

#[test]
fn operators_without_a_grace_would_burn_each_others_attempts() {
    let hasty = Settings {
        job_grace_millis: 0,
        ..settings()
    };
    let codes = codes(&all(Weather::Calm, 50, &hasty));
    assert!(
        codes.contains_key("JobMissing"),
        "the simulation does not see what the grace is for: {codes:?}"
    );
}
