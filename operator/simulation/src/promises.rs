//! What must hold at all times, read off everything that was ever written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use serde::Deserialize as _;
use serde_json::Value;
use stagecraft_api::result::Outcome;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::{StagePhase, WorkflowStatus};
use stagecraft_api::{AttemptKey, label};
use stagecraft_core::summary::acknowledge;

use crate::api_server::{Change, ChangeKind, Stored};
use crate::world::World;

/// Every promise that some write broke.
pub fn broken(world: &World, history: &[Change]) -> Vec<String> {
    let mut ledger = Ledger::default();
    for change in history {
        match change.key.resource.kind {
            "Workflow" => ledger.workflow(change),
            "Job" if change.kind == ChangeKind::Added => ledger.job(&change.object),
            _ => {}
        }
    }
    ledger.results(world);
    let panics = world.panics.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.broken.extend(
        panics
            .iter()
            .map(|panic| format!("I9: the operator panicked: {panic}")),
    );
    ledger.broken
}

#[derive(Default)]
struct Ledger {
    broken: Vec<String>,
    /// The latest status of each Workflow, by UID.
    latest: BTreeMap<String, WorkflowStatus>,
    /// What each stage needs, by UID of the Workflow.
    graphs: BTreeMap<String, Graph>,
    /// Attempts that a stored status let run, and whether all that they needed was over by then.
    licensed: BTreeMap<AttemptKey, Result<(), String>>,
    jobs: BTreeSet<AttemptKey>,
    /// What stages said that they had produced.
    succeeded: BTreeMap<AttemptKey, Value>,
}

#[derive(Default)]
struct Graph {
    needs: BTreeMap<String, Vec<String>>,
    finally: BTreeSet<String>,
}

impl Ledger {
    fn promise(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(text());
        }
    }

    fn workflow(&mut self, change: &Change) {
        let (uid, revision) = (change.object.uid().to_owned(), change.object.revision);
        if change.kind == ChangeKind::Deleted {
            return;
        }
        let graph = graph(&change.object);
        self.graphs.entry(uid.clone()).or_insert(graph);
        let status = change.object.value.get("status").map(WorkflowStatus::deserialize);
        let Some(Ok(status)) = status else {
            return;
        };
        let name = change.object.name().to_owned();
        if let Some(before) = self.latest.get(&uid).cloned()
            && before != status
        {
            self.compare(&format!("{name} at revision {revision}"), &before, &status);
        }
        self.license(&uid, &status);
        self.latest.insert(uid, status);
    }

    fn compare(&mut self, place: &str, before: &WorkflowStatus, after: &WorkflowStatus) {
        let ended = before.phase.is_terminal();
        let mut seen = before.clone();
        acknowledge(&mut seen, after.observed_generation.unwrap_or(0));
        // That an edit was seen is told, and nothing else.
        self.promise(!ended || after.run == before.run + 1 || seen == *after, || {
            format!("I3: {place} had ended and its status changed")
        });
        for stage in &before.stages {
            let Some(later) = after.stages.iter().find(|later| later.name == stage.name) else {
                self.broken
                    .push(format!("I2: stage {} of {place} vanished", stage.name));
                continue;
            };
            let rank = |stage: &stagecraft_api::status::StageStatus| {
                let phase = match stage.phase {
                    StagePhase::Pending => 0,
                    StagePhase::Running => 1,
                    StagePhase::Waiting => 2,
                    StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => 3,
                };
                (stage.run, stage.round, stage.attempt, phase)
            };
            self.promise(
                rank(later) >= rank(stage) && later.attempt >= stage.attempt,
                || {
                    format!(
                        "I2: stage {} of {place} went from {:?} to {:?}",
                        stage.name,
                        rank(stage),
                        rank(later)
                    )
                },
            );
            let revived = (later.run, later.round) > (stage.run, stage.round);
            self.promise(!stage.phase.is_terminal() || later == stage || revived, || {
                format!("I3: stage {} of {place} had ended and changed", stage.name)
            });
        }
    }

    fn license(&mut self, uid: &str, status: &WorkflowStatus) {
        for stage in &status.stages {
            let key = AttemptKey {
                workflow_uid: uid.to_owned(),
                stage: stage.name.clone(),
                attempt: stage.attempt,
            };
            if stage.phase == StagePhase::Running && !self.licensed.contains_key(&key) {
                let open = self
                    .graphs
                    .get(uid)
                    .map(|graph| graph.open(&stage.name, status))
                    .unwrap_or_default();
                let license = if open.is_empty() {
                    Ok(())
                } else {
                    Err(open.join(", "))
                };
                self.licensed.insert(key, license);
            } else if stage.phase == StagePhase::Succeeded && stage.name != INITIALIZE {
                let outputs = serde_json::to_value(&stage.outputs).unwrap_or_default();
                self.succeeded.entry(key).or_insert(outputs);
            }
        }
    }

    fn job(&mut self, job: &Stored) {
        let key = (|| {
            Some(AttemptKey {
                workflow_uid: job.label(label::WORKFLOW_UID)?.to_owned(),
                stage: job.label(label::STAGE)?.to_owned(),
                attempt: job.label(label::ATTEMPT)?.parse().ok()?,
            })
        })();
        let Some(key) = key else {
            self.broken
                .push(format!("I1: Job {} belongs to no attempt", job.name()));
            return;
        };
        let first = self.jobs.insert(key.clone());
        self.promise(first, || format!("I1: a second Job was created for {key}"));
        match self.licensed.get(&key).cloned() {
            None => self.broken.push(format!(
                "I1: the Job of {key} was created before a status licensed it"
            )),
            Some(Err(open)) => self
                .broken
                .push(format!("I5: the Job of {key} was created before {open} was over")),
            Some(Ok(())) => {}
        }
    }

    /// I4, I6: what a stage says that it produced is what the gateway stored of that attempt.
    fn results(&mut self, world: &World) {
        let results = world.results.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, outputs) in std::mem::take(&mut self.succeeded) {
            let stored = results
                .iter()
                .find(|result| result.attempt == key)
                .map(|result| &result.outcome);
            let same = match stored {
                Some(Outcome::Succeeded { outputs: stored, .. }) => outputs == Value::Object(stored.clone()),
                Some(Outcome::Failed { .. }) | None => false,
            };
            self.promise(same, || {
                format!("I4: {key} succeeded with {outputs}, but {stored:?} is stored")
            });
        }
    }
}

/// Needs as the Workflow's own template names them.
fn graph(workflow: &Stored) -> Graph {
    let mut graph = Graph::default();
    for part in ["stages", "finally"] {
        let stages = workflow
            .value
            .pointer(&format!("/spec/template/{part}"))
            .and_then(Value::as_array);
        for stage in stages.into_iter().flatten() {
            let name = stage
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let needs = stage.get("needs").and_then(Value::as_array).into_iter().flatten();
            let needs = needs.filter_map(|need| need.as_str().map(str::to_owned));
            graph.needs.insert(name.clone(), needs.collect());
            if part == "finally" {
                graph.finally.insert(name);
            }
        }
    }
    graph
}

impl Graph {
    /// What a stage has to wait for and that is not over.
    fn open(&self, stage: &str, status: &WorkflowStatus) -> Vec<String> {
        let phase = |name: &str| {
            status
                .stages
                .iter()
                .find(|known| known.name == name)
                .map(|known| known.phase)
        };
        let needs = self.needs.get(stage).into_iter().flatten();
        let unmet =
            needs.filter(|need| !matches!(phase(need), Some(StagePhase::Succeeded | StagePhase::Skipped)));
        let mut open: Vec<String> = unmet.cloned().collect();
        if self.finally.contains(stage) {
            // Once it is known how the Workflow ends, what has not begun never does.
            let ending = status.ending.is_some();
            let is_open = |phase: Option<StagePhase>| match phase {
                None | Some(StagePhase::Pending) => !ending,
                Some(phase) => !phase.is_terminal(),
            };
            let others = self.needs.keys().filter(|name| !self.finally.contains(*name));
            open.extend(others.filter(|name| is_open(phase(name))).cloned());
        }
        open
    }
}

/// I8: what is left of Workflows that are gone.
pub fn left_over(world: &World, history: &[Change]) -> Vec<String> {
    let uids: BTreeSet<&str> = history
        .iter()
        .filter(|change| change.key.resource.kind == "Workflow")
        .map(|change| change.object.uid())
        .collect();
    let mut left = Vec::new();
    for plural in ["workflows", "jobs", "pods", "configmaps", "approvals"] {
        let objects = world.server.all(plural);
        left.extend(
            objects
                .iter()
                .map(|object| format!("I8: {plural} {} is left", object.name())),
        );
    }
    let stored = world.store.workflows();
    left.extend(
        stored
            .iter()
            .map(|uid| format!("I8: results of {uid} are left in the gateway's store")),
    );
    for uid in uids {
        left.extend(world.redis.find(uid).into_iter().map(|text| {
            let text: String = text.chars().take(120).collect();
            format!("I8: {text} is left in Redis")
        }));
    }
    left
}
