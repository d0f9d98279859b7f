//! One schedule, from its seed to its verdict.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use stagecraft_api::Workflow;
use stagecraft_core::Settings;
use stagecraft_core::retry::asked;

use crate::api_server::{Change, Stored};
use crate::operator::keep;
use crate::world::{World, sleep};
use crate::{chaos, cluster, promises, requests};

/// What became of it.
#[derive(Debug, Default)]
pub struct Verdict {
    pub broken: Vec<String>,
    /// Digest of everything that was written, in its order.
    pub digest: u64,
    /// How often what happened.
    pub counts: Vec<(&'static str, u64)>,
    /// How Workflows and attempts ended.
    pub endings: Vec<String>,
    /// Seconds that passed in the world.
    pub seconds: u64,
    pub trace: String,
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
pub fn play(seed: u64, traced: bool) -> Verdict {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(schedule(seed, traced)),
        Err(error) => Verdict {
            broken: vec![format!("there is no runtime: {error}")],
            ..Verdict::default()
        },
    }
}

async fn schedule(seed: u64, traced: bool) -> Verdict {
    let world = World::new(seed, traced);
    let begin = world.now();
    let generator = world.generator.fork();
    let jumps = generator.percent(1);
    let settings = Settings {
        max_losses: 6,
        max_running_stages: generator.pick(&[None, None, Some(1), Some(2)]).flatten(),
        ..Settings::default()
    };
    cluster::run(&world);
    let operators: Vec<_> = (1..=1 + usize::from(generator.percent(40)))
        .map(|number| keep(&world, number, settings.clone()))
        .collect();
    sleep(generator.millis(0, 500)).await;
    requests::create(&world);
    let time = generator.millis(5_000, 120_000);
    chaos::storm(&world, &operators, time, jumps).await;
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
    let revision = world.server.revision();
    world.note(|| "nothing is written from now on".to_owned());
    sleep(QUIET).await;
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
    let endings = endings(&world);
    chaos::remove_all(&world);
    broken.extend(what_stays(&world).await);
    let history = world.server.history();
    broken.extend(promises::broken(&world, &history));
    Verdict {
        broken,
        digest: digest(&history),
        counts: world.counts.all().into(),
        endings,
        seconds: world.now().millis_since(begin) / 1000,
        trace: world.trace(),
    }
}

/// Waits until every Workflow has ended; people answer what they are asked meanwhile.
async fn converges(world: &Arc<World>, bound: Duration, generator: &crate::generator::Generator) -> bool {
    let until = tokio::time::Instant::now() + bound;
    while tokio::time::Instant::now() < until {
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
    let until = tokio::time::Instant::now() + SETTLE;
    loop {
        let left = promises::left_over(world, &world.server.history());
        if left.is_empty() || tokio::time::Instant::now() > until {
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

fn endings(world: &World) -> Vec<String> {
    let mut endings = Vec::new();
    for workflow in world.server.all("workflows") {
        endings.push(workflow.text_at("status.phase").to_owned());
        let stages = workflow.value.pointer("/status/stages").and_then(Value::as_array);
        for stage in stages.into_iter().flatten() {
            let history = stage
                .get("history")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let codes = history.filter_map(|attempt| attempt.get("code")?.as_str());
            endings.extend(codes.filter(|code| !code.is_empty()).map(str::to_owned));
        }
        let run = workflow
            .value
            .pointer("/status/run")
            .and_then(Value::as_u64)
            .unwrap_or(0);
        if run > 1 {
            endings.push("a second run".to_owned());
        }
    }
    endings
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
