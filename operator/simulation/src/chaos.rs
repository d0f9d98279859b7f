//! What befalls everything, and what owners do to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::api_server::{Deletion, Key, Stored};
use crate::generator::Generator;
use crate::operator::Operator;
use crate::world::{HERE, Weather, World, sleep};

/// One day, as a clock may be off.
const DAY_MILLIS: i64 = 86_400_000;

/// Strikes at random for a while, as the weather is; `jumps` says whether clocks are moved, too.
pub async fn blow(world: &Arc<World>, operators: &[Arc<Operator>], time: Duration, jumps: bool) {
    let generator = world.generator.fork();
    let until = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < until {
        sleep(generator.millis(100, 5_000)).await;
        match world.weather {
            Weather::RedisAway if generator.percent(50) => strike_redis(world, &generator),
            Weather::Kills if generator.percent(50) => kill(operators, &generator),
            Weather::Calm | Weather::RedisAway | Weather::Kills => calm_strike(world, &generator),
            Weather::Storm if jumps && generator.percent(20) => jump(world, operators, &generator),
            Weather::Storm => strike(world, operators, &generator),
        }
    }
}

/// What costs no attempt.
fn calm_strike(world: &Arc<World>, generator: &Generator) {
    if generator.percent(30) {
        world.note(|| "the API server forgets the past".to_owned());
        world.server.compact();
    } else {
        owner(world, generator);
    }
}

fn strike_redis(world: &Arc<World>, generator: &Generator) {
    if generator.percent(50) {
        world.note(|| "Redis is emptied".to_owned());
        world.counts.count("Redis emptied");
        world.redis.flush();
    } else {
        let time = generator.millis(500, 20_000);
        away(world, |world| &world.redis_is_up, time, "Redis");
    }
}

fn kill(operators: &[Arc<Operator>], generator: &Generator) {
    if let Some(process) = generator.pick(operators).and_then(|operator| operator.process()) {
        process.crash_in(1 + generator.below(12));
    }
}

/// A clock is a day off: an operator's, or all that are not its own.
fn jump(world: &World, operators: &[Arc<Operator>], generator: &Generator) {
    let millis = generator.pick(&[DAY_MILLIS, -DAY_MILLIS, 0]).unwrap_or(0);
    world.counts.count("clocks moved by a day");
    let operator = generator.pick(operators).and_then(|operator| operator.process());
    match operator {
        Some(process) if generator.percent(70) => {
            world.note(|| format!("the clock of {} is {millis} ms ahead", process.name));
            process.skew.store(millis, Ordering::Relaxed);
        }
        _ => {
            world.note(|| format!("all clocks are {millis} ms ahead"));
            world.clock.set_ahead(millis);
        }
    }
}

fn strike(world: &Arc<World>, operators: &[Arc<Operator>], generator: &Generator) {
    match generator.below(22) {
        0..3 => kill(operators, generator),
        3 => {
            if let Some(process) = generator.pick(operators).and_then(|operator| operator.process()) {
                world.note(|| format!("{} is killed", process.name));
                process.crashed.notify_one();
            }
        }
        4..7 => strike_redis(world, generator),
        7 => {
            let time = generator.millis(500, 30_000);
            away(world, |world| &world.gateway_is_up, time, "the gateway");
        }
        8 | 9 => {
            world.note(|| "the API server forgets the past".to_owned());
            world.server.compact();
        }
        10 | 11 => hand(world, generator, "jobs", None),
        12 | 13 => hand(world, generator, "pods", None),
        14 => hand(world, generator, "pods", Some(0)),
        _ => owner(world, generator),
    }
}

fn away(world: &Arc<World>, part: fn(&World) -> &AtomicBool, time: Duration, name: &'static str) {
    world.note(|| format!("{name} is away for {} ms", time.as_millis()));
    part(world).store(false, Ordering::Relaxed);
    let world = world.clone();
    tokio::spawn(async move {
        sleep(time).await;
        part(&world).store(true, Ordering::Relaxed);
    });
}

/// Somebody deletes a Job or a Pod by hand.
fn hand(world: &World, generator: &Generator, plural: &str, grace: Option<i64>) {
    let all = world.server.all(plural);
    if let Some(found) = generator.pick(&all)
        && let Some(key) = Key::of(plural, found.namespace(), found.name())
    {
        world.note(|| format!("{} is deleted by hand, grace {grace:?}", found.name()));
        let deletion = Deletion {
            grace,
            ..Deletion::default()
        };
        let _ = world.server.delete(&key, &deletion);
    }
}

/// An owner changes their mind, or a person decides.
fn owner(world: &World, generator: &Generator) {
    let workflows = world.server.all("workflows");
    let Some(workflow) = generator.pick(&workflows) else {
        return;
    };
    match generator.below(12) {
        0..2 => edit(world, &workflow, &json!({"suspend": true})),
        2..5 => edit(world, &workflow, &json!({"suspend": false})),
        5 => edit(world, &workflow, &json!({"cancel": true})),
        6 => edit(world, &workflow, &json!({"priority": "high"})),
        7 if generator.percent(40) => remove(world, &workflow),
        8..10 => retry(world, generator, &workflow),
        _ => decide_all(world, generator),
    }
}

fn edit(world: &World, workflow: &Stored, change: &Value) {
    if let Some(key) = Key::of("workflows", HERE, workflow.name()) {
        world.note(|| format!("the owner of {} sets {change}", workflow.name()));
        let _ = world.server.update(&key, false, |object| {
            json_patch::merge(&mut object["spec"], change);
        });
    }
}

fn remove(world: &World, workflow: &Stored) {
    if let Some(key) = Key::of("workflows", HERE, workflow.name()) {
        world.note(|| format!("the owner of {} deletes it", workflow.name()));
        let _ = world.server.delete(&key, &Deletion::default());
    }
}

/// Asks for a new run of a Workflow that has ended.
fn retry(world: &World, generator: &Generator, workflow: &Stored) {
    let ended = matches!(
        workflow.text_at("status.phase"),
        "Completed" | "Failed" | "Cancelled"
    );
    let stages = workflow.value.pointer("/status/stages").and_then(Value::as_array);
    let names: Vec<String> = stages
        .into_iter()
        .flatten()
        .filter_map(|stage| stage.get("name")?.as_str().map(str::to_owned))
        .filter(|name| name != "initialize")
        .collect();
    let run = workflow
        .value
        .pointer("/status/run")
        .and_then(Value::as_u64)
        .unwrap_or(0);
    if ended
        && run < 3
        && let Some(from) = generator.pick(&names)
    {
        edit(
            world,
            workflow,
            &json!({"cancel": false, "retry": {"from": from, "run": run + 1}}),
        );
    }
}

/// Every open Approval is decided.
pub fn decide_all(world: &World, generator: &Generator) {
    for approval in world.server.all("approvals") {
        let open = approval
            .value
            .pointer("/spec/decision")
            .is_none_or(Value::is_null);
        if open && let Some(key) = Key::of("approvals", approval.namespace(), approval.name()) {
            let verdict = if generator.percent(80) {
                "approved"
            } else {
                "rejected"
            };
            world.note(|| format!("{} is {verdict}", approval.name()));
            let decision = json!({"verdict": verdict, "by": "somebody", "comment": "", "answer": ""});
            let _ = world
                .server
                .update(&key, false, |object| object["spec"]["decision"] = decision);
        }
    }
}

/// The faults stop: every clock is right, every part is there, nobody holds anything back.
pub fn calm(world: &World, operators: &[Arc<Operator>]) {
    world.note(|| "the faults stop".to_owned());
    world.is_rough.store(false, Ordering::Relaxed);
    world.clock.set_ahead(0);
    world.redis_is_up.store(true, Ordering::Relaxed);
    world.gateway_is_up.store(true, Ordering::Relaxed);
    for process in operators.iter().filter_map(|operator| operator.process()) {
        process.skew.store(0, Ordering::Relaxed);
        process.crash_in(0);
    }
    for workflow in world.server.all("workflows") {
        if workflow.value.pointer("/spec/suspend") == Some(&json!(true)) {
            edit(world, &workflow, &json!({"suspend": false}));
        }
    }
}

/// Everybody deletes what they asked for.
pub fn remove_all(world: &World) {
    for workflow in world.server.all("workflows") {
        remove(world, &workflow);
    }
}
