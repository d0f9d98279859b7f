//! The benchmark: how fast a Workflow is beside what Kubernetes does without Stagecraft, how long a hand-off takes, what the
//! operator costs, and how long it takes until a calculator is made. It prints and judges nothing: targets stand beside what
//! was measured.

mod calculators;
mod cost;
mod hand_off;
mod machine;
mod race;
mod statistics;

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use stagecraft_api::{Moment, Workflow, WorkflowPhase};

use crate::scenario::release::Release;
use crate::scenario::waiting::until;
use statistics::Sample;

/// Measures the installed release.
#[derive(Parser, Debug)]
#[command(name = "stagecraft-bench", version)]
pub struct Arguments {
    /// How often the race of a Workflow against plain Jobs is run.
    #[arg(long, default_value_t = 5)]
    repeats: usize,

    /// How many Workflows run at once in the load part. 0 leaves it out.
    #[arg(long, default_value_t = 100)]
    workflows: usize,

    /// How many calculators are made, one after the other. 0 leaves them out.
    #[arg(long, default_value_t = 5)]
    calculators: usize,

    /// Only this part; may be given several times. Default: all.
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
}

impl Arguments {
    fn wants(&self, part: Part) -> bool {
        let measures = match part {
            Part::Race => true,
            Part::Load => self.workflows > 0,
            Part::Calculators => self.calculators > 0,
        };
        measures && (self.only.is_empty() || self.only.contains(&part))
    }
}

/// What can be measured alone.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A Workflow against plain Jobs, one after the other, and what the operator takes for one Workflow.
    Race,
    /// Many Workflows at once.
    Load,
    /// Calculators, from their requirements to running applications.
    Calculators,
}

/// Longest time for the whole load to complete.
const PATIENCE: Duration = Duration::from_mins(20);

/// Runs everything and prints as it goes.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let client = crate::client::connect().await?;
    let release = Release::find(&client)
        .await
        .context("the benchmark needs an installed release: run `make up install` first")?;
    let bench = Bench::begin(client, release).await?;
    let outcome = bench.measure(&arguments).await;
    bench.end().await;
    outcome
}

/// A namespace for the benchmark.
struct Bench {
    client: Client,
    release: Release,
    namespace: String,
}

impl Bench {
    async fn begin(client: Client, release: Release) -> anyhow::Result<Self> {
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let wanted: Namespace = serde_json::from_value(json!({"metadata": {
            "generateName": "stagecraft-bench-",
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}))?;
        let namespace = namespaces
            .create(&PostParams::default(), &wanted)
            .await?
            .name_any();
        Ok(Self {
            client,
            release,
            namespace,
        })
    }

    async fn end(&self) {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if let Err(error) = namespaces
            .delete(&self.namespace, &DeleteParams::background())
            .await
        {
            eprintln!("namespace {} was not deleted: {error}", self.namespace);
        }
    }

    async fn measure(&self, arguments: &Arguments) -> anyhow::Result<()> {
        print!("{}", machine::describe(&self.client).await?);
        if arguments.wants(Part::Calculators) {
            print!("{}", calculators::tools()?);
        }
        println!();
        if arguments.wants(Part::Race) || arguments.wants(Part::Load) {
            // Images are pulled and caches filled before anything counts.
            self.run_workflow("warm-up").await?;
        }
        if arguments.wants(Part::Race) {
            self.measure_race(arguments.repeats).await?;
        }
        if arguments.wants(Part::Load) {
            if !arguments.wants(Part::Race) {
                // Otherwise the race has done so: the peak must not be of what ran before the benchmark.
                cost::restarted(self).await?;
            }
            self.measure_load(arguments.workflows).await?;
        }
        if arguments.wants(Part::Calculators) {
            calculators::run(self, arguments.calculators).await?;
        }
        Ok(())
    }

    async fn measure_race(&self, repeats: usize) -> anyhow::Result<()> {
        let begun = Moment::now();
        let race = race::run(self, repeats).await?;
        println!("{}", race::report(&race));
        let alone = hand_off::since(&self.client, &self.release, begun).await?;
        println!("{}", hand_off::report("Workflows one after the other", &alone));

        let before = cost::restarted(self).await?;
        self.run_workflow("single").await?;
        println!("{}", cost::report(1, before, cost::now(self).await?));
        Ok(())
    }

    async fn measure_load(&self, count: usize) -> anyhow::Result<()> {
        let begun = Moment::now();
        let before = cost::now(self).await?;
        let took = self.run_many(count).await?;
        let after = cost::now(self).await?;
        let mut text = String::new();
        writeln!(text, "Load: {count} Workflows at once")?;
        writeln!(text, "  all completed in {:.1} s", took.as_secs_f64())?;
        println!("{text}");
        let loaded = hand_off::since(&self.client, &self.release, begun).await?;
        println!(
            "{}",
            hand_off::report(&format!("{count} Workflows at once"), &loaded)
        );
        println!("{}", cost::report(count, before, after));
        Ok(())
    }

    fn workflows(&self) -> Api<Workflow> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates a five-stage echo Workflow and waits until it completed. From before the request to after the news.
    async fn run_workflow(&self, name: &str) -> anyhow::Result<Duration> {
        let begun = std::time::Instant::now();
        self.create(name).await?;
        self.completed(&[name.to_owned()]).await?;
        Ok(begun.elapsed())
    }

    async fn run_many(&self, count: usize) -> anyhow::Result<Duration> {
        let begun = std::time::Instant::now();
        let names: Vec<String> = (0..count).map(|index| format!("load-{index}")).collect();
        for name in &names {
            self.create(name).await?;
        }
        self.completed(&names).await?;
        Ok(begun.elapsed())
    }

    async fn create(&self, name: &str) -> anyhow::Result<()> {
        let workflow: Value = crate::scenario::samples::echo(name);
        self.workflows()
            .create(&PostParams::default(), &serde_json::from_value(workflow)?)
            .await?;
        Ok(())
    }

    async fn completed(&self, names: &[String]) -> anyhow::Result<()> {
        let config = kube::runtime::watcher::Config::default();
        let what = format!("{} Workflows completed", names.len());
        let found = until(self.workflows(), config, PATIENCE, &what, |found| {
            let ended = |workflow: &&Workflow| {
                names.contains(&workflow.name_any())
                    && workflow
                        .status
                        .as_ref()
                        .is_some_and(|status| status.phase.is_terminal())
            };
            found.iter().filter(ended).count() == names.len()
        })
        .await?;
        for workflow in found
            .iter()
            .filter(|workflow| names.contains(&workflow.name_any()))
        {
            let status = workflow.status.clone().unwrap_or_default();
            anyhow::ensure!(
                status.phase == WorkflowPhase::Completed,
                "Workflow {} failed: {}",
                workflow.name_any(),
                status.message
            );
        }
        Ok(())
    }
}

/// "met" or "MISSED".
fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(arguments: &[&str]) -> Vec<Part> {
        let arguments = Arguments::parse_from([&["stagecraft-bench"], arguments].concat());
        let parts = Part::value_variants().iter().copied();
        parts.filter(|part| arguments.wants(*part)).collect()
    }

    #[test]
    fn all_parts_are_measured_unless_some_are_named_or_left_out() {
        let all = [Part::Race, Part::Load, Part::Calculators];
        assert_eq!(wanted(&[]), all);
        assert_eq!(wanted(&["--only", "calculators"]), [Part::Calculators]);
        assert_eq!(
            wanted(&["--only", "load", "--only", "race"]),
            [Part::Race, Part::Load]
        );
        assert_eq!(wanted(&["--calculators", "0", "--workflows", "0"]), [Part::Race]);
        assert!(wanted(&["--only", "calculators", "--calculators", "0"]).is_empty());
        assert!(Arguments::try_parse_from(["stagecraft-bench", "--only", "all"]).is_err());
    }
}
