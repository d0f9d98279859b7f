//! One schedule, from its seed to its verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stagecraft_api::Workflow;
use stagecraft_core::Settings;
use stagecraft_core::retry::asked;
use tokio::time::Instant;

use crate::api_server::{Change, Stored};
use crate::operator::keep;
use crate::requests::BROKEN;
use crate::world::{HERE, Trace, Weather, World, sleep};
use crate::{chaos, cluster, promises, requests};

/// What became of it.
#[derive(Debug, Default, PartialEq)]
pub struct Verdict {
    pub broken: Vec<String>,
    /// Digest of everything that was written, in its order.
    pub digest: u64,
    /// How often what befell whom.
    pub counts: BTreeMap<String, u64>,
    /// What happened to Workflows, stages and attempts.
    pub reached: BTreeSet<String>,
    /// Seconds that passed in the world.
    pub seconds: u64,
}

/// Within this every Workflow ends when the faults have stopped.
const BOUND: Duration = Duration::from_hours(3);
/// The same, after clocks were a day off.
const BOUND_AFTER_JUMPS: Duration = Duration::from_hours(60);
/// How long what has ended, or is deleted, may take to be put away.
const SETTLE: Duration = Duration::from_mins(4);
/// How long nothing is written then.
const QUIET: Duration = Duration::from_mins(10);

/// Plays the schedule of a seed. It must be the only one on its thread.
pub fn play(seed: u64, trace: Option<Trace>) -> Verdict {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(schedule(seed, trace)),
        Err(error) => Verdict {
            broken: vec![format!("there is no runtime: {error}")],
            ..Verdict::default()
        },
    }
}

/// Seven of ten are storms.
fn weather(seed: u64) -> Weather {
    match seed % 10 {
        0 => Weather::Calm,
        1 => Weather::RedisAway,
        2 => Weather::Kills,
        _ => Weather::Storm,
    }
}

async fn schedule(seed: u64, trace: Option<Trace>) -> Verdict {
    let world = World::new(seed, weather(seed), trace);
    let begin = Instant::now();
    let generator = world.generator.fork();
    let jumps = world.weather == Weather::Storm && generator.percent(2);
    let settings = Settings {
        max_losses: 6,
        max_running_stages: generator.pick(&[None, None, Some(1), Some(2)]).flatten(),
        ..Settings::default()
    };
    cluster::run(&world);
    let two = world.weather != Weather::Kills && generator.percent(40);
    let operators: Vec<_> = (1..=1 + usize::from(two))
        .map(|number| keep(&world, number, settings.clone()))
        .collect();
    if two {
        world.counts.count("two operators at once");
    }
    sleep(generator.millis(0, 500)).await;
    requests::create(&world);
    let time = generator.millis(5_000, 120_000);
    chaos::blow(&world, &operators, time, jumps).await;
    chaos::calm(&world, &operators);

    let mut broken = Vec::new();
    if !converges(&world, if jumps { BOUND_AFTER_JUMPS } else { BOUND }, &generator).await {
        for workflow in world
            .server
            .all("workflows")
            .iter()
            .filter(|workflow| is_open(workflow))
        {
            broken.push(format!(
                "I7: {} does not end: {}",
                workflow.name(),
                workflow.text_at("status.message")
            ));
        }
    }
    world.note(|| "all have ended".to_owned());
    sleep(SETTLE).await;
    broken.extend(promises::left_over(&world, &world.server.history()));
    let (revision, elsewhere) = (world.server.revision(), writes_elsewhere(&world));
    world.note(|| "nothing is written from now on".to_owned());
    sleep(QUIET).await;
    if writes_elsewhere(&world) != elsewhere {
        broken.push("I7: Redis or the gateway's store was written to though all had ended".to_owned());
    }
    if world.server.revision() != revision {
        let history = world.server.history();
        let late: Vec<&Change> = history
            .iter()
            .filter(|change| change.object.revision > revision)
            .collect();
        broken.extend(late.iter().take(5).map(|change| {
            format!(
                "I7: {} {} was written though all had ended",
                change.key.resource.plural, change.key.name
            )
        }));
    }
    broken.extend(unmarked(&world));
    chaos::remove_all(&world);
    broken.extend(what_stays(&world).await);
    let history = world.server.history();
    let findings = promises::read(&world, &history);
    broken.extend(findings.broken);
    Verdict {
        broken,
        digest: digest(&history),
        counts: world.counts.all(),
        reached: findings.reached,
        seconds: begin.elapsed().as_secs(),
    }
}

/// How often anything but the API server was written to.
fn writes_elsewhere(world: &World) -> (u64, u64) {
    (world.redis.writes(), world.store.writes())
}

/// I9: a Workflow that cannot be decoded says so, and no more.
fn unmarked(world: &World) -> Option<String> {
    let broken = world.server.get("workflows", HERE, BROKEN)?;
    let conditions = broken
        .value
        .pointer("/status/conditions")
        .and_then(Value::as_array);
    let mut conditions = conditions.into_iter().flatten();
    let marked = conditions.any(|condition| {
        let text = |field: &str| condition.get(field).and_then(Value::as_str);
        text("type") == Some("Accepted") && text("status") == Some("False")
    });
    (!marked).then(|| format!("I9: {BROKEN} does not say that it cannot be decoded"))
}

/// Waits until every Workflow has ended; people answer what they are asked meanwhile.
async fn converges(world: &Arc<World>, bound: Duration, generator: &crate::generator::Generator) -> bool {
    let until = Instant::now() + bound;
    while Instant::now() < until {
        if world
            .server
            .all("workflows")
            .iter()
            .all(|workflow| !is_open(workflow))
        {
            return true;
        }
        chaos::decide_all(world, generator);
        sleep(Duration::from_secs(5)).await;
    }
    false
}

/// What is still there when there was time enough to remove it.
async fn what_stays(world: &World) -> Vec<String> {
    let until = Instant::now() + SETTLE;
    loop {
        let left = promises::anything(world, &world.server.history());
        if left.is_empty() || Instant::now() > until {
            return left;
        }
        sleep(Duration::from_secs(5)).await;
    }
}

/// Whether a Workflow has something to do: it has not ended, or is to run once more.
fn is_open(stored: &Stored) -> bool {
    let Some(workflow) = stored.decode::<Workflow>() else {
        return false;
    };
    let status = workflow.status.unwrap_or_default();
    !status.phase.is_terminal() || asked(&workflow.spec, &status).is_some()
}

/// FNV-1a of all but the Events, which kube stamps with the time of this machine.
fn digest(history: &[Change]) -> u64 {
    let told = history
        .iter()
        .filter(|change| change.key.resource.kind != "Event");
    let bytes = told.flat_map(|change| change.object.text.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
