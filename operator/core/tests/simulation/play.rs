//! One Workflow from its creation to its end: first at random, then as a cluster without faults would go on.

use stagecraft_api::status::{StagePhase, WorkflowPhase};
use stagecraft_api::workflow::Retry;
use stagecraft_core::Settings;
use stagecraft_core::retry::asked;

use crate::operator::Operator;
use crate::world::{Weather, World};

/// What became of it.
pub struct Ending {
    pub phase: WorkflowPhase,
    /// How often it was run.
    pub run: u32,
    /// The most rounds of repair that a stage was part of.
    pub rounds: u32,
    /// How its stages ended.
    pub stages: Vec<(String, StagePhase)>,
    /// How each failed attempt ended.
    pub codes: Vec<String>,
}

/// Steps at random before the faults stop.
const STEPS: u64 = 250;
/// Within this a Workflow converges when the faults have stopped: all attempts of a path of five stages in three rounds, each with its
/// timeout, its Pod's grace and its backoff.
const BOUND_SECONDS: u64 = 3 * 5 * 9 * (40 + 20 + 150 + 75);
/// How long it is watched afterwards.
const QUIET_SECONDS: u64 = 1_000;

pub fn play(seed: u64, weather: Weather, settings: &Settings) -> Ending {
    let mut world = World::new(seed, weather);
    let count = if world.generator.one_in(3) { 1 } else { 2 };
    let mut operators: Vec<Operator> = (0..count)
        .map(|number| Operator::new(number, settings, &world))
        .collect();
    for _ in 0..STEPS {
        random_step(&mut world, &mut operators);
    }
    world.note(|| "the faults stop".to_owned());
    world.weather = Weather::Calm;
    world.gateway.reachable = true;
    world.spec.suspend = false;
    converge(&mut world, &mut operators);
    stay_quiet(&mut world, &mut operators);
    Ending {
        phase: world.stored().phase,
        run: world.stored().run,
        rounds: world
            .stored()
            .stages
            .iter()
            .map(|stage| stage.round)
            .max()
            .unwrap_or(0),
        stages: world
            .stored()
            .stages
            .iter()
            .map(|stage| (stage.name.clone(), stage.phase))
            .collect(),
        codes: world.ledger.codes,
    }
}

fn random_step(world: &mut World, operators: &mut [Operator]) {
    let storm = world.weather == Weather::Storm;
    let many = u64::try_from(operators.len()).unwrap_or(1);
    let one = usize::try_from(world.generator.below(many)).unwrap_or(0);
    match world.generator.below(27) {
        0..=8 => {
            let Some(operator) = operators.get_mut(one) else {
                return;
            };
            if operator.wants_to_run(world.now) {
                operator.step(world);
            }
            // Without a fault nobody sleeps between two actions.
            while !storm && operator.has_something_to_do() {
                operator.step(world);
            }
        }
        9..=12 => {
            if let Some(operator) = operators.get_mut(one) {
                operator.sync(world);
            }
        }
        13..=17 => world.run_cluster(false),
        18..=20 => {
            let millis = world.generator.below(2_000);
            pass(world, operators, millis);
        }
        21 | 22 => deliver(world, operators, one),
        23 if storm => world.strike(),
        24 if storm && world.generator.one_in(3) => {
            if let Some(operator) = operators.get_mut(one) {
                operator.crash(world);
            }
        }
        25 if storm => match world.generator.below(4) {
            0 => world.stream.clear(),
            1 => world.gateway.reachable = !world.gateway.reachable,
            2 => {
                let millis = world.generator.below(120_000);
                pass(world, operators, millis);
            }
            _ => world.gateway.reachable = true,
        },
        26 if storm => ask(world),
        _ => {}
    }
}

/// The owner holds the Workflow, lets it go on, ends it, or has it run once more.
fn ask(world: &mut World) {
    if world.stored().phase.is_terminal() {
        return ask_again(world);
    }
    if world.generator.one_in(40) {
        world.spec.cancel = true;
    } else {
        world.spec.suspend = world.generator.one_in(4);
    }
    let (suspend, cancel) = (world.spec.suspend, world.spec.cancel);
    world.note(|| format!("the owner says: suspend {suspend}, cancel {cancel}"));
}

fn ask_again(world: &mut World) {
    let stages = world.stored().stages.len().saturating_sub(1);
    let one = usize::try_from(world.generator.below(u64::try_from(stages).unwrap_or(0))).unwrap_or(0);
    let from = world
        .stored()
        .stages
        .iter()
        .skip(1)
        .nth(one)
        .map(|stage| stage.name.clone());
    let Some(from) = from else { return };
    let run = world.stored().run + 1;
    world.note(|| format!("the owner says: run {run} from {from}"));
    world.spec.cancel = false;
    world.spec.retry = Some(Retry { from, run });
}

fn pass(world: &mut World, operators: &mut [Operator], millis: u64) {
    world.now = world.now.plus_millis(millis);
    for post in world.land() {
        if let Some(operator) = post.answer_to.and_then(|number| operators.get_mut(number)) {
            operator.answer(&post.job, world);
        }
    }
}

/// Each entry goes to one reader of the group.
fn deliver(world: &mut World, operators: &mut [Operator], one: usize) {
    let entry = world.stream.iter_mut().find(|entry| !entry.delivered);
    let Some(key) = entry.map(|entry| {
        entry.delivered = true;
        entry.key.clone()
    }) else {
        return;
    };
    world.note(|| format!("operator {one} hears of {key}"));
    if let Some(operator) = operators.get_mut(one) {
        operator.hear(&key, world);
    }
}

/// Some time without faults. Operators run only when something woke them or their time has come.
fn fair_step(world: &mut World, operators: &mut [Operator], millis: u64) {
    world.run_cluster(true);
    for one in 0..operators.len() {
        deliver(world, operators, one);
    }
    for operator in operators.iter_mut() {
        operator.sync(world);
        for _ in 0..40 {
            if !operator.wants_to_run(world.now) {
                break;
            }
            operator.step(world);
            if operator.waits_for_an_answer() {
                break;
            }
        }
    }
    pass(world, operators, millis);
}

/// I7: it ends within a bound.
fn converge(world: &mut World, operators: &mut [Operator]) {
    for _ in 0..BOUND_SECONDS {
        if world.stored().phase.is_terminal() && asked(&world.spec, world.stored()).is_none() {
            return;
        }
        fair_step(world, operators, 1_000);
    }
    let status = serde_json::to_string_pretty(world.stored()).unwrap();
    world
        .ledger
        .promise(false, &format!("I7: the Workflow does not end: {status}"));
}

/// I7: then nothing is written, what is left over is put away, and nobody has anything to do.
fn stay_quiet(world: &mut World, operators: &mut [Operator]) {
    let writes = world.ledger.writes;
    // A Pod on a node that never comes back stays; nobody can help that.
    world.cluster.bring_nodes_back();
    for _ in 0..QUIET_SECONDS / 5 {
        fair_step(world, operators, 5_000);
    }
    world.ledger.promise(
        world.ledger.writes == writes,
        "I7: something was written after the end",
    );
    world
        .ledger
        .promise(!world.cluster.is_busy(), "a Job or Pod was left working");
    world.ledger.promise(
        operators.iter().all(Operator::is_at_rest),
        "I7: an operator never comes to rest",
    );
}
