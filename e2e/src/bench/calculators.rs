//! Calculators from their requirements to running applications: how long they take, stage by stage, and what they take of
//! the machine. First each is a project of its own, then one project is done again, which finds warm caches and its own earlier
//! work.

mod table;
mod tools;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::ResourceExt as _;
use kube::api::PostParams;
use kube::runtime::watcher;
use serde_json::{Value, json};
use stagecraft_api::Workflow;

use super::Bench;
use crate::scenario::app::calculator;
use crate::scenario::samples::set;
use crate::scenario::waiting::until;
use table::{Run, Target, shortcoming, standing};

pub use tools::describe as tools;

/// Longest time for one calculator. Far more than the target: one that misses it is measured all the same.
const PATIENCE: Duration = Duration::from_mins(10);
/// For a project that nobody has made before.
const NEW: Target = Target { seconds: 180.0 };
/// For a project that was made before.
const AGAIN: Target = Target { seconds: 90.0 };
/// How often one project is done again.
const REPEATS: usize = 3;

/// Makes `count` calculators one after the other and prints what they took; then the first of them again.
pub async fn run(bench: &Bench, count: usize) -> anyhow::Result<()> {
    let mut new = Vec::new();
    for index in 0..count {
        let name = format!("calculator-{index}");
        new.push(one(bench, &name, &name).await?);
    }
    println!(
        "{}",
        table::report(
            "Calculators, one after the other, each a project of its own",
            NEW,
            &new
        )
    );
    let Some(first) = new.first() else {
        return Ok(());
    };
    let mut again = Vec::new();
    for repeat in 0..REPEATS {
        let name = format!("{}-again-{repeat}", first.name);
        again.push(one(bench, &name, &first.name).await?);
    }
    let title = format!("{} again, with warm caches", first.name);
    println!("{}", table::report(&title, AGAIN, &again));
    Ok(())
}

/// Makes one calculator: from before the request to after the news that it completed.
async fn one(bench: &Bench, name: &str, project: &str) -> anyhow::Result<Run> {
    let wanted: Workflow = serde_json::from_value(workflow(name, project))?;
    let begun = Instant::now();
    bench
        .workflows()
        .create(&PostParams::default(), &wanted)
        .await
        .with_context(|| format!("Workflow {name} was not created"))?;
    let found = ended(bench, name).await?;
    let took = begun.elapsed();
    let status = found.status.unwrap_or_default();
    if let Some(shortcoming) = shortcoming(&status) {
        anyhow::bail!(
            "calculator {name} is not made after {:.1} s: {shortcoming}",
            took.as_secs_f64()
        );
    }
    // On the error stream: it is news for whoever waits, not a part of the report.
    eprintln!("{name} completed in {:.1} s", took.as_secs_f64());
    Ok(Run::of(name, took, &status))
}

async fn ended(bench: &Bench, name: &str) -> anyhow::Result<Workflow> {
    let only = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let what = format!("calculator {name} completed");
    let is_terminal = |workflow: &Workflow| {
        let status = workflow.status.as_ref();
        status.is_some_and(|status| status.phase.is_terminal())
    };
    let waited = until(bench.workflows(), only, PATIENCE, &what, |found| {
        found.iter().any(is_terminal)
    });
    match waited.await {
        Ok(found) => found
            .into_iter()
            .find(|workflow| workflow.name_any() == name)
            .with_context(|| format!("Workflow {name} is gone")),
        Err(error) => {
            let seen = bench.workflows().get(name).await;
            let where_it_stands = match seen {
                Ok(workflow) => standing(&workflow.status.unwrap_or_default()),
                Err(error) => format!("it cannot be read: {error}"),
            };
            Err(error.context(format!("calculator {name}: {where_it_stands}")))
        }
    }
}

/// The manifest of the scenarios, with a project that may have another name than the Workflow.
fn workflow(name: &str, project: &str) -> Value {
    let mut workflow = calculator(name);
    set(&mut workflow, "/spec/project", "name", json!(project));
    workflow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_project_is_asked_for_again_by_a_workflow_of_another_name() {
        let (new, again) = (workflow("a", "a"), workflow("a-again-0", "a"));
        assert_eq!(new["spec"], again["spec"]);
        assert_eq!(new["spec"]["project"]["name"], "a");
        assert_ne!(new["metadata"]["name"], again["metadata"]["name"]);
        assert_ne!(new["spec"], workflow("b", "b")["spec"]);
    }
}
