//! What an operator observes in a state.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::moment::Moment;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, WorkflowStatus};
use stagecraft_api::workflow::{Retry, WorkflowSpec};
use stagecraft_core::admit::Admission;
use stagecraft_core::observation::{
    AttemptEvidence, ContainerEnd, Identity, JobEvidence, OpenJob, PodEvidence, PodPhase, ResultEvidence,
    RunEvidence,
};
use stagecraft_core::resolve::{Catalog, resolve};
use stagecraft_core::{Action, Observation, Settings, plan};

use crate::state::{Job, Jobs, Key, Operator, Pinned, State, Workflow};

/// What the last stage may be judged by.
const QUALITY: &str = "quality";
/// Stages in the order of their numbers.
pub const STAGES: [&str; 2] = ["a", "b"];
/// How much time passes at once: more than every grace, timeout and backoff.
const TICK_SECONDS: u64 = 400;

/// What is the same in every state.
pub struct Fixed {
    pub identity: Identity,
    pub spec: WorkflowSpec,
    pub run: Run,
    pub settings: Settings,
    pub catalog: Catalog,
    /// The status that a Workflow has once it was accepted.
    pub accepted: WorkflowStatus,
    /// Whether the last stage judges the first.
    repairs: bool,
    begin: Moment,
}

impl Fixed {
    /// Stages that follow one another; if it `repairs`, the last one sends what is not good enough back to the first.
    pub fn new(stages: usize, repairs: bool) -> Self {
        let stage = |(number, name): (usize, &&str)| {
            let needs: Vec<&str> = STAGES.iter().take(number).copied().collect();
            let stage =
                json!({"name": name, "needs": needs, "agent": "worker", "timeoutSeconds": 60, "retries": 1});
            if !repairs || number == 0 {
                return stage;
            }
            let gates = json!({
                "gates": [{"metric": QUALITY, "operator": ">=", "threshold": 1}],
                "repair": {"stage": STAGES[0], "maxRounds": 1},
            });
            merged(stage, gates)
        };
        let stages: Vec<_> = STAGES.iter().take(stages).enumerate().map(stage).collect();
        let spec = json!({"template": {"stages": stages}, "project": {"requirements": ["It ends."]}});
        let spec: WorkflowSpec = serde_json::from_value(spec).unwrap();
        let identity = Identity {
            namespace: "here".to_owned(),
            name: "flow".to_owned(),
            uid: "uid".to_owned(),
            generation: 1,
            metadata_bytes: 0,
        };
        let catalog = Catalog {
            providers: BTreeMap::new(),
            types: BTreeMap::new(),
            templates: BTreeMap::new(),
            agents: BTreeMap::from([(
                "worker".to_owned(),
                serde_json::from_value(json!({"command": ["work"]})).unwrap(),
            )]),
            own_agents: BTreeSet::new(),
            registry: false,
        };
        let begin: Moment = serde_json::from_value(json!("2026-11-01T10:00:00Z")).unwrap();
        let settings = Settings {
            backoff_base_millis: 0,
            backoff_cap_millis: 0,
            max_losses: 2,
            ..Settings::default()
        };
        let request = Observation {
            now: begin,
            identity: identity.clone(),
            spec: spec.clone(),
            status: WorkflowStatus::default(),
            run: RunEvidence::NotPinned(catalog.clone()),
            attempts: BTreeMap::new(),
            open_jobs: Vec::new(),
            announced: Vec::new(),
            approvals: BTreeMap::new(),
            admission: Admission::Unasked,
            used: None,
            model_trouble: None,
            superseded_by: None,
        };
        let stored = plan(&request, &settings)
            .actions
            .into_iter()
            .find_map(|action| match action {
                Action::Store(status) => Some(*status),
                _ => None,
            });
        Self {
            accepted: stored.unwrap(),
            run: resolve(&identity.name, &spec, &catalog).unwrap(),
            catalog,
            repairs,
            identity,
            spec,
            settings,
            begin,
        }
    }

    pub fn now(&self, state: &State) -> Moment {
        self.begin.plus_seconds(u64::from(state.ticks) * TICK_SECONDS)
    }

    pub fn attempt(&self, key: Key) -> AttemptKey {
        AttemptKey {
            workflow_uid: self.identity.uid.clone(),
            stage: STAGES[usize::from(key.0)].to_owned(),
            attempt: key.1,
        }
    }

    /// Whether what is not good enough is sent back, and no error of its agent.
    fn judges(&self, key: Key) -> bool {
        self.repairs && key.0 > 0
    }

    pub fn result(&self, key: Key, good: bool) -> AttemptResult {
        let outcome = if good || self.judges(key) {
            Outcome::Succeeded {
                summary: "done".to_owned(),
                outputs: Map::from_iter([("by".to_owned(), json!(key.1))]),
                workspace: None,
                artifacts: Vec::new(),
                metrics: BTreeMap::from([(QUALITY.to_owned(), f64::from(u8::from(good)))]),
            }
        } else {
            Outcome::Failed {
                error: StructuredError::new("Broken", Category::Execution, "it broke"),
            }
        };
        AttemptResult {
            attempt: self.attempt(key),
            started_at: self.begin,
            finished_at: self.begin,
            usage: None,
            outcome,
        }
    }

    /// The request as an operator sees it.
    pub fn spec(&self, workflow: &Workflow) -> WorkflowSpec {
        WorkflowSpec {
            cancel: workflow.cancel,
            retry: (workflow.retry > 0).then(|| Retry {
                from: STAGES[0].to_owned(),
                run: workflow.retry,
            }),
            ..self.spec.clone()
        }
    }

    /// Everything from memory, but for the stages in `live`.
    pub fn observe(
        &self,
        state: &State,
        operator: &Operator,
        base: &Workflow,
        live: &BTreeSet<String>,
    ) -> Observation {
        let status: WorkflowStatus = (*base.status).clone();
        let running = status
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        let attempts = running
            .map(|stage| {
                let key = (number(&stage.name), stage.attempt);
                let live = live.contains(&stage.name);
                let (jobs, pods): (&Jobs, &Jobs) = if live {
                    (&state.jobs, &state.jobs)
                } else {
                    (&operator.jobs, &operator.pods)
                };
                let result = if live || operator.announced.contains(&key) {
                    self.asked(state.results.get(&key), key)
                } else {
                    ResultEvidence::Unknown
                };
                let evidence = AttemptEvidence {
                    job: job(jobs.get(&key), operator.seen.contains(&key)),
                    pod: pods.get(&key).and_then(|job| pod(*job)),
                    result,
                    live,
                };
                (stage.name.clone(), evidence)
            })
            .collect();
        Observation {
            now: self.now(state),
            identity: self.identity.clone(),
            spec: self.spec(base),
            run: self.run_evidence(state, &status),
            attempts,
            open_jobs: self.open_jobs(&operator.jobs),
            announced: operator.announced.iter().map(|key| self.attempt(*key)).collect(),
            approvals: BTreeMap::new(),
            admission: Admission::Unasked,
            used: None,
            model_trouble: None,
            superseded_by: None,
            status,
        }
    }

    fn run_evidence(&self, state: &State, status: &WorkflowStatus) -> RunEvidence {
        if status.run_ref.is_none() {
            return RunEvidence::NotPinned(self.catalog.clone());
        }
        match state.pinned {
            Pinned::There => RunEvidence::Pinned(self.run.clone()),
            Pinned::NotYet | Pinned::Lost => RunEvidence::Lost("the ConfigMap is gone".to_owned()),
        }
    }

    fn asked(&self, stored: Option<&bool>, key: Key) -> ResultEvidence {
        stored.map_or(ResultEvidence::None, |good| {
            ResultEvidence::Some(Box::new(self.result(key, *good)))
        })
    }

    fn open_jobs(&self, jobs: &Jobs) -> Vec<OpenJob> {
        let open = jobs.iter().filter(|(_, job)| job.is_open());
        open.map(|(key, _)| OpenJob {
            name: stagecraft_api::name::job(&self.identity.name, &self.attempt(*key)),
            stage: STAGES[usize::from(key.0)].to_owned(),
            attempt: key.1,
            deleting: false,
        })
        .collect()
    }
}

fn merged(mut stage: Value, more: Value) -> Value {
    if let (Some(stage), Value::Object(more)) = (stage.as_object_mut(), more) {
        stage.extend(more);
    }
    stage
}

/// The number of a stage; one that is no agent's has none.
pub fn number(stage: &str) -> u8 {
    let at = STAGES.iter().position(|known| *known == stage);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn job(job: Option<&Job>, seen_before: bool) -> JobEvidence {
    let Some(job) = job else {
        return JobEvidence::Missing { seen_before };
    };
    JobEvidence::Present {
        failure: matches!(job, Job::Ended(false) | Job::Podless).then(|| "BackoffLimitExceeded".to_owned()),
        complete: *job == Job::Ended(true),
        deleting: false,
        trouble: None,
    }
}

fn pod(job: Job) -> Option<PodEvidence> {
    let (phase, exit) = match job {
        Job::Podless => return None,
        Job::Works | Job::Reported => (PodPhase::Running, None),
        Job::Ended(true) => (PodPhase::Succeeded, Some((0, "Completed"))),
        Job::Ended(false) => (PodPhase::Failed, Some((1, "Error"))),
    };
    Some(PodEvidence {
        name: "pod".to_owned(),
        phase,
        deleting_since: None,
        node_lost_since: None,
        reason: None,
        trouble: None,
        agent_end: exit.map(|(exit_code, reason)| ContainerEnd {
            exit_code,
            reason: reason.to_owned(),
            message: String::new(),
        }),
    })
}
