//! Workflows, evidence and results in few words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use stagecraft_api::agent::AgentSpec;
use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::moment::Moment;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::template::WorkflowTemplateSpec;
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_core::admit::{Admission, Running, Seat, decide};
use stagecraft_core::observation::{AttemptEvidence, Identity, OpenJob, ResultEvidence, RunEvidence};
use stagecraft_core::resolve::Catalog;
use stagecraft_core::{Action, Observation, Plan, Settings, plan};

use crate::evidence::present;

pub const UID: &str = "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11";
/// Longest time of an attempt of every stage made here, in seconds.
pub const TIMEOUT: u64 = 100;

/// Seconds after ten o'clock, when everything here begins.
pub fn at(seconds: u64) -> Moment {
    let ten: Moment = serde_json::from_value(json!("2026-11-01T10:00:00Z")).unwrap();
    ten.plus_seconds(seconds)
}

pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// A template from text: `a, b, c: a, d: b c, e:` has stages a to e, where b needs a by default, d both, e nothing.
pub fn template(text: &str) -> WorkflowTemplateSpec {
    let stages: Vec<Value> = text
        .split(',')
        .map(|stage| match stage.split_once(':') {
            None => json!({"name": stage.trim(), "agent": "worker"}),
            Some((name, needs)) => json!({
                "name": name.trim(), "agent": "worker",
                "needs": needs.split_whitespace().collect::<Vec<_>>(),
            }),
        })
        .map(|mut stage| {
            stage["timeoutSeconds"] = json!(TIMEOUT);
            stage["retries"] = json!(1);
            stage
        })
        .collect();
    serde_json::from_value(json!({"stages": stages})).unwrap()
}

pub fn worker() -> AgentSpec {
    serde_json::from_value(json!({"command": ["work"]})).unwrap()
}

pub fn catalog(text: &str) -> Catalog {
    Catalog {
        providers: BTreeMap::new(),
        types: BTreeMap::new(),
        templates: BTreeMap::from([("mine".to_owned(), template(text))]),
        agents: BTreeMap::from([("worker".to_owned(), worker())]),
        own_agents: BTreeSet::new(),
        registry: false,
    }
}

pub fn spec() -> WorkflowSpec {
    serde_json::from_value(json!({
        "templateRef": {"name": "mine"},
        "project": {"requirements": ["It greets."]},
    }))
    .unwrap()
}

pub fn run(text: &str) -> Run {
    stagecraft_core::resolve::resolve("flow", &spec(), &catalog(text)).unwrap()
}

pub fn key(stage: &str, attempt: u32) -> AttemptKey {
    AttemptKey {
        workflow_uid: UID.to_owned(),
        stage: stage.to_owned(),
        attempt,
    }
}

/// One Workflow as it goes along.
pub struct Scene {
    pub observation: Observation,
    pub settings: Settings,
    /// Stages of other Workflows that run.
    pub others: usize,
}

impl Scene {
    /// A Workflow that nobody has looked at yet.
    pub fn new(text: &str) -> Self {
        Self {
            observation: Observation {
                now: at(0),
                identity: Identity {
                    namespace: "here".to_owned(),
                    name: "flow".to_owned(),
                    uid: UID.to_owned(),
                    generation: 1,
                    metadata_bytes: 0,
                },
                spec: spec(),
                status: WorkflowStatus::default(),
                run: RunEvidence::NotPinned(catalog(text)),
                attempts: BTreeMap::new(),
                open_jobs: Vec::new(),
                announced: Vec::new(),
                approvals: BTreeMap::new(),
                admission: Admission::Unasked,
                used: None,
                model_trouble: None,
                superseded_by: None,
            },
            others: 0,
            settings: Settings::default(),
        }
    }

    /// The same, accepted and with its first stages running, at ten o'clock.
    pub fn running(text: &str) -> Self {
        let mut scene = Self::new(text);
        scene.act();
        scene.act();
        scene
    }

    /// The template, as long as the Workflow is not accepted.
    pub fn template_mut(&mut self) -> &mut WorkflowTemplateSpec {
        let RunEvidence::NotPinned(catalog) = &mut self.observation.run else {
            panic!("the run is pinned")
        };
        catalog.templates.get_mut("mine").unwrap()
    }

    /// Plans, and has it decided what may start when the plan asks for that.
    pub fn plan(&self) -> Plan {
        let first = plan(&self.observation, &self.settings);
        if first.wants.is_empty() {
            return first;
        }
        let seat = |agent: &str| Seat {
            namespace: "here".to_owned(),
            agent: agent.to_owned(),
        };
        let own = self.observation.status.stages.iter();
        let own =
            own.filter(|stage| stage.phase == StagePhase::Running && !first.frees.contains(&stage.name));
        let running = Running {
            seats: own
                .map(|_| seat("/worker"))
                .chain((0..self.others).map(|_| seat("/another")))
                .collect(),
            keys: BTreeMap::new(),
        };
        let now = self.observation.now;
        let mut observation = self.observation.clone();
        observation.admission = decide(UID, &first.wants, &running, now, &self.settings);
        plan(&observation, &self.settings)
    }

    /// Plans, and stores what is to be stored as the API server would.
    pub fn act(&mut self) -> Plan {
        let planned = self.plan();
        let before = self.observation.status.clone();
        for action in &planned.actions {
            match action {
                Action::Pin(run) => self.observation.run = RunEvidence::Pinned((**run).clone()),
                Action::Store(status) => {
                    let text = serde_json::to_string(status).unwrap();
                    self.observation.status = serde_json::from_str(&text).unwrap();
                }
                _ => {}
            }
        }
        // A new attempt has its Job at once, and what was known of the one before says nothing of it.
        let attempts = &mut self.observation.attempts;
        for stage in &self.observation.status.stages {
            let same = before.stages.iter().find(|known| known.name == stage.name);
            let same = same.is_some_and(|known| known.attempt == stage.attempt);
            if stage.phase != StagePhase::Running {
                attempts.remove(&stage.name);
            } else if !same {
                attempts.insert(stage.name.clone(), present());
            }
        }
        planned
    }

    pub fn at(&mut self, seconds: u64) -> &mut Self {
        self.observation.now = at(seconds);
        self
    }

    pub fn see(&mut self, stage: &str, evidence: AttemptEvidence) -> &mut Self {
        self.observation.attempts.insert(stage.to_owned(), evidence);
        self
    }

    /// The gateway has a result of the stage's current attempt, and announced it.
    pub fn result(&mut self, stage: &str, outcome: Outcome) -> &mut Self {
        let result = result(stage, self.stage(stage).attempt, outcome);
        let evidence = self
            .observation
            .attempts
            .entry(stage.to_owned())
            .or_insert_with(present);
        evidence.result = ResultEvidence::Some(Box::new(result));
        self
    }

    pub fn stage(&self, name: &str) -> &StageStatus {
        let stages = &self.observation.status.stages;
        stages.iter().find(|stage| stage.name == name).unwrap()
    }

    pub fn condition(&self, type_: &str) -> String {
        let conditions = &self.observation.status.conditions;
        let condition = conditions.iter().find(|found| found.type_ == type_).unwrap();
        format!("{} {}", condition.status, condition.reason)
    }

    /// The state of every stage after `initialize`, such as `a Running 1`.
    pub fn stages(&self) -> String {
        let stages = self.observation.status.stages.iter().skip(1);
        let texts: Vec<String> = stages
            .map(|stage| format!("{} {:?} {}", stage.name, stage.phase, stage.attempt))
            .collect();
        texts.join(", ")
    }
}

/// The actions in a line each, without what people read.
pub fn actions(plan: &Plan) -> Vec<String> {
    let text = |action: &Action| match action {
        Action::Look { stage } => Some(format!("look {stage}")),
        Action::Pin(_) => Some("pin".to_owned()),
        Action::Store(_) => Some("store".to_owned()),
        Action::Start(task) => Some(format!("start {} {}", task.attempt.stage, task.attempt.attempt)),
        Action::Close { job, .. } => Some(format!("close {job}")),
        Action::Acknowledge(key) => Some(format!("acknowledge {} {}", key.stage, key.attempt)),
        Action::Record(_) => None,
        Action::Delete => Some("delete".to_owned()),
        Action::Ask { request, .. } => Some(format!("ask about {}", request.stage)),
    };
    plan.actions.iter().filter_map(text).collect()
}

pub fn quiet(plan: &Plan) -> bool {
    plan.actions.is_empty()
}

pub fn started(plan: &Plan) -> Vec<TaskEnvelope> {
    let task = |action: &Action| match action {
        Action::Start(task) => Some((**task).clone()),
        _ => None,
    };
    plan.actions.iter().filter_map(task).collect()
}

pub fn open_job(stage: &str, attempt: u32) -> OpenJob {
    OpenJob {
        name: format!("{stage}-{attempt}"),
        stage: stage.to_owned(),
        attempt,
        deleting: false,
    }
}

pub fn result(stage: &str, attempt: u32, outcome: Outcome) -> AttemptResult {
    AttemptResult {
        attempt: key(stage, attempt),
        started_at: at(0),
        finished_at: at(0),
        usage: None,
        outcome,
    }
}

pub fn success(outputs: Value) -> Outcome {
    Outcome::Succeeded {
        summary: "did it".to_owned(),
        outputs: object(outputs),
        workspace: None,
        artifacts: Vec::new(),
        metrics: BTreeMap::new(),
    }
}

pub fn failure(category: Category) -> Outcome {
    Outcome::Failed {
        error: StructuredError::new("Broken", category, "it broke"),
    }
}
