//! What must hold at all times, read off everything that was ever written.

mod ends;
mod graph;
mod remains;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use serde::Deserialize as _;
use serde_json::Value;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::{AttemptKey, label};
use stagecraft_core::summary::acknowledge;

use crate::api_server::{Change, ChangeKind, Stored};
use crate::world::{Weather, World};

use self::graph::Graph;

pub use self::remains::{anything, left_over};

/// What a schedule came to.
#[derive(Default)]
pub struct Findings {
    /// Every promise that some write broke.
    pub broken: Vec<String>,
    /// What happened to Workflows, stages and attempts.
    pub reached: BTreeSet<String>,
}

/// Reads everything that was ever written, write by write.
pub fn read(world: &World, history: &[Change]) -> Findings {
    let mut ledger = Ledger::new(world);
    for change in history {
        match change.key.resource.kind {
            "Workflow" => ledger.workflow(change),
            "Approval" => ledger.approval(&change.object),
            "Job" if change.kind == ChangeKind::Added => ledger.job(&change.object),
            _ => {}
        }
    }
    let panics = world.panics.lock().unwrap_or_else(PoisonError::into_inner);
    let panics = panics
        .iter()
        .map(|panic| format!("I9: the operator panicked: {panic}"));
    ledger.findings.broken.extend(panics);
    ledger.findings
}

struct Ledger<'a> {
    world: &'a World,
    findings: Findings,
    /// The latest status of each Workflow, by UID.
    latest: BTreeMap<String, WorkflowStatus>,
    /// What each stage needs, by UID of the Workflow.
    graphs: BTreeMap<String, Graph>,
    /// Attempts that a stored status let run, and whether all that they needed was over by then.
    licensed: BTreeMap<AttemptKey, Result<(), String>>,
    jobs: BTreeSet<AttemptKey>,
}

/// One write of a Workflow's status.
struct Write<'a> {
    uid: &'a str,
    /// Workflow and revision, for people.
    place: String,
    revision: u64,
    /// The run that the owner asks for.
    asked: u64,
}

impl<'a> Ledger<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            findings: Findings::default(),
            latest: BTreeMap::new(),
            graphs: BTreeMap::new(),
            licensed: BTreeMap::new(),
            jobs: BTreeSet::new(),
        }
    }

    fn promise(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.findings.broken.push(text());
        }
    }

    fn keep(&mut self, promise: Result<(), String>) {
        self.findings.broken.extend(promise.err());
    }

    fn reach(&mut self, what: &str) {
        if !self.findings.reached.contains(what) {
            self.findings.reached.insert(what.to_owned());
        }
    }

    fn workflow(&mut self, change: &Change) {
        let object = &change.object;
        let uid = object.uid();
        if change.kind == ChangeKind::Deleted {
            return;
        }
        let Some(status) = object.value.get("status") else {
            return;
        };
        let write = Write {
            uid,
            place: format!("{} at revision {}", object.name(), object.revision),
            revision: object.revision,
            asked: object
                .value
                .pointer("/spec/retry/run")
                .and_then(Value::as_u64)
                .unwrap_or(0),
        };
        let status = match WorkflowStatus::deserialize(status) {
            Ok(status) => status,
            Err(error) => {
                let place = &write.place;
                return self.promise(false, || {
                    format!("I2: the status of {place} is no status: {error}")
                });
            }
        };
        self.graphs
            .entry(uid.to_owned())
            .or_insert_with(|| Graph::of(object));
        let before = self.latest.get(uid).cloned().unwrap_or_default();
        if before != status {
            self.compare(&write, &before, &status);
            self.license(uid, &status);
            self.look_at(uid, &status);
            self.latest.insert(uid.to_owned(), status);
        }
    }

    fn compare(&mut self, write: &Write<'_>, before: &WorkflowStatus, after: &WorkflowStatus) {
        let place = &write.place;
        let mut seen = before.clone();
        acknowledge(&mut seen, after.observed_generation.unwrap_or(0));
        // That an edit was seen is told, and nothing else.
        let same = !before.phase.is_terminal() || seen == *after;
        let again = after.run == before.run + 1;
        self.promise(same || again, || {
            format!("I3: {place} had ended and its status changed")
        });
        let first = before.run == 0 && after.run <= 1;
        let asked = before.phase.is_terminal() && again && u64::from(after.run) == write.asked;
        self.promise(after.run == before.run || first || asked, || {
            format!(
                "I3: {place} went from run {} to {}, and its owner asked for {}",
                before.run, after.run, write.asked
            )
        });
        for stage in &before.stages {
            let Some(later) = after.stages.iter().find(|later| later.name == stage.name) else {
                self.promise(false, || format!("I2: stage {} of {place} vanished", stage.name));
                continue;
            };
            if later != stage {
                self.compare_stages(write, stage, later);
            }
        }
    }

    fn compare_stages(&mut self, write: &Write<'_>, stage: &StageStatus, later: &StageStatus) {
        let what = format!("stage {} of {}", stage.name, write.place);
        let forwards = rank(later) >= rank(stage) && later.attempt >= stage.attempt;
        self.promise(forwards, || {
            format!("I2: {what} went from {:?} to {:?}", rank(stage), rank(later))
        });
        self.promise(later.attempt <= stage.attempt + 1, || {
            format!("I1: {what} skipped an attempt")
        });
        let anew = (later.run, later.round) > (stage.run, stage.round);
        self.promise(!stage.phase.is_terminal() || anew, || {
            format!("I3: {what} had ended and changed")
        });
        let past = |attempt: u32| {
            later
                .history
                .iter()
                .find(|known| known.attempt == attempt)
                .cloned()
        };
        for known in &stage.history {
            let same = past(known.attempt).is_none_or(|now| now == *known);
            self.promise(same, || {
                format!("I3: attempt {} of {what} had ended and changed", known.attempt)
            });
        }
        let key = key_of(write.uid, stage);
        let journal = &self.world.journal;
        let ended =
            past(stage.attempt).filter(|_| stage.history.iter().all(|one| one.attempt != stage.attempt));
        let goes_on = later.phase == StagePhase::Running && later.attempt == stage.attempt;
        if let Some(ended) = ended {
            let verdict = ends::failed(journal, &key, &ended.code, write.revision);
            self.keep(verdict);
            let allowed = match self.world.weather {
                Weather::Storm => true,
                // Killed between the status and the creation that it lets happen.
                Weather::Kills => ended.code == "JobMissing",
                Weather::Calm | Weather::RedisAway => false,
            };
            self.promise(allowed || !ends::is_loss(&ended.code), || {
                format!(
                    "I10: {key} was lost by {} in {:?} weather",
                    ended.code, self.world.weather
                )
            });
        } else if stage.phase == StagePhase::Running && later.phase == StagePhase::Succeeded {
            let outputs = Value::Object(later.outputs.clone());
            let verdict = ends::succeeded(journal, &key, &outputs, write.revision);
            self.keep(verdict);
        } else if stage.phase == StagePhase::Running && !goes_on && !anew {
            let code = later.error.as_ref().map(|error| error.code.as_str());
            self.promise(code == Some("Cancelled"), || {
                format!("I3: {key} ended and its history does not say how: {code:?}")
            });
        }
        self.promise(
            stage.phase != StagePhase::Waiting || later.phase != StagePhase::Succeeded || anew,
            || format!("I3: {what} had failed and succeeded without another attempt"),
        );
    }

    /// What a status lets run.
    fn license(&mut self, uid: &str, status: &WorkflowStatus) {
        let running = status
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        for stage in running {
            let key = key_of(uid, stage);
            if !self.licensed.contains_key(&key) {
                let graph = self.graphs.get(uid);
                let open = graph
                    .map(|graph| graph.open(&stage.name, status))
                    .unwrap_or_default();
                let license = if open.is_empty() {
                    Ok(())
                } else {
                    Err(open.join(", "))
                };
                self.licensed.insert(key, license);
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
            return self.promise(false, || format!("I1: Job {} belongs to no attempt", job.name()));
        };
        let first = self.jobs.insert(key.clone());
        self.promise(first, || format!("I1: a second Job was created for {key}"));
        match self.licensed.get(&key).cloned() {
            None => self.promise(false, || {
                format!("I1: the Job of {key} was created before a status licensed it")
            }),
            Some(Err(open)) => self.promise(false, || {
                format!("I5: the Job of {key} was created before {open} was over")
            }),
            Some(Ok(())) => {}
        }
    }

    /// Takes down what a schedule should reach now and then.
    fn look_at(&mut self, uid: &str, status: &WorkflowStatus) {
        self.reach(status.phase.as_str());
        let mut reached: Vec<&str> = Vec::new();
        for stage in status.stages.iter().filter(|stage| stage.name != INITIALIZE) {
            let history = stage.history.iter();
            reached.extend(history.map(|attempt| attempt.code.as_str()));
            let of_finally = self
                .graphs
                .get(uid)
                .is_some_and(|graph| graph.is_of_finally(&stage.name));
            let seen = [
                (stage.phase == StagePhase::Skipped, "a stage was skipped"),
                (
                    of_finally && stage.phase == StagePhase::Succeeded,
                    "a stage of finally succeeded",
                ),
                (stage.round > 1, "a second round"),
            ];
            reached.extend(seen.iter().filter(|(seen, _)| *seen).map(|(_, what)| *what));
        }
        for what in reached {
            self.reach(what);
        }
        if status.run > 1 {
            self.reach("a second run");
        }
        let waits_for = |reason: &str| {
            let mut conditions = status.conditions.iter();
            conditions.any(|condition| condition.type_ == "Progressing" && condition.reason == reason)
        };
        for reason in ["Suspended", "Limit"] {
            if waits_for(reason) {
                self.reach(reason);
            }
        }
    }

    fn approval(&mut self, approval: &Stored) {
        match approval.text_at("spec.decision.verdict") {
            "" => {}
            verdict => self.reach(&format!("an approval was {verdict}")),
        }
    }
}

fn key_of(uid: &str, stage: &StageStatus) -> AttemptKey {
    AttemptKey {
        workflow_uid: uid.to_owned(),
        stage: stage.name.clone(),
        attempt: stage.attempt,
    }
}

fn rank(stage: &StageStatus) -> (u32, u32, u32, u8) {
    let phase = match stage.phase {
        StagePhase::Pending => 0,
        StagePhase::Running => 1,
        StagePhase::Waiting => 2,
        StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => 3,
    };
    (stage.run, stage.round, stage.attempt, phase)
}
