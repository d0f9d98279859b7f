//! A Workflow with all that is known of it, as JSON, so that tests and fuzzers can bring any of it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use stagecraft_api::agent::AgentSpec;
use stagecraft_api::approval::Decision;
use stagecraft_api::budget::ModelUsage;
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::ModelProviderSpec;
use stagecraft_api::result::AttemptResult;
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, WorkflowStatus};
use stagecraft_api::template::WorkflowTemplateSpec;
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_api::{AttemptKey, Moment};
use stagecraft_core::admit::Admission;
use stagecraft_core::approval::ApprovalEvidence;
use stagecraft_core::observation::{
    AttemptEvidence, ContainerEnd, Identity, JobEvidence, OpenJob, PodEvidence, PodPhase, ResultEvidence,
    RunEvidence,
};
use stagecraft_core::provider::trouble;
use stagecraft_core::resolve::Catalog;
use stagecraft_core::tally::tally;
use stagecraft_core::{Action, Observation, Settings, plan};

use crate::promise;

/// Turns of one play: more than any Workflow here needs.
const TURNS: usize = 12;

#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Scene {
    pub now: Moment,
    pub name: String,
    pub namespace: String,
    pub uid: String,
    pub generation: i64,
    pub spec: WorkflowSpec,
    #[serde(default)]
    pub status: WorkflowStatus,
    /// None: it is resolved against the templates and agents.
    #[serde(default)]
    pub run: Option<Run>,
    #[serde(default)]
    pub templates: BTreeMap<String, WorkflowTemplateSpec>,
    #[serde(default)]
    pub agents: BTreeMap<String, AgentSpec>,
    /// By stage.
    #[serde(default)]
    pub results: BTreeMap<String, AttemptResult>,
    /// By stage.
    #[serde(default)]
    pub pods: BTreeMap<String, SeenPod>,
    /// Of the Job of a stage, where that is not one that runs. By stage.
    #[serde(default)]
    pub ends: BTreeMap<String, SeenEnd>,
    /// What the gateway answers where it does not answer.
    #[serde(default)]
    pub silence: Option<String>,
    #[serde(default)]
    pub decision: Option<Decision>,
    /// When that was.
    #[serde(default)]
    pub decided_at: Option<Moment>,
    /// Known from the beginning, by name.
    #[serde(default)]
    pub approvals: BTreeMap<String, SeenApproval>,
    #[serde(default)]
    pub providers: BTreeMap<String, ModelProviderSpec>,
    #[serde(default)]
    pub report: Option<ProviderReport>,
    #[serde(default)]
    pub used: Option<Vec<ModelUsage>>,
    #[serde(default)]
    pub superseded_by: Option<String>,
    /// How the ConfigMap of the run was lost.
    #[serde(default)]
    pub lost: Option<String>,
    #[serde(default)]
    pub metadata_bytes: usize,
    /// How much time passes with each turn.
    #[serde(default)]
    pub step_seconds: u64,
    #[serde(default)]
    pub announced: Vec<AttemptKey>,
    #[serde(default)]
    pub jobs: Vec<SeenJob>,
    #[serde(default)]
    pub limit: Option<usize>,
}

/// What is known of the Pod of a stage.
#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct SeenPod {
    pub name: String,
    pub ended: bool,
    pub deleting_since: Option<Moment>,
    pub node_lost_since: Option<Moment>,
    pub reason: Option<String>,
    pub trouble: Option<String>,
    pub exit_code: Option<i32>,
    pub message: String,
}

/// A Job that is not there, or is about to end.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum SeenEnd {
    Missing { seen_before: bool },
    Foreign,
    Refused(String),
    Failed(String),
    Complete,
    Deleting,
    Troubled(String),
}

/// An Approval, whoever asked for it.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct SeenApproval {
    pub expires_at: Moment,
    #[serde(default)]
    pub decision: Option<Decision>,
    #[serde(default)]
    pub decided_at: Option<Moment>,
}

/// A Job that has not ended.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct SeenJob {
    pub name: String,
    pub stage: String,
    pub attempt: u32,
}

impl Scene {
    /// Plans turn by turn, doing what each plan says, and holds every plan to its promises. The status that it comes to.
    pub fn play(&self) -> WorkflowStatus {
        let mut observation = self.observation();
        self.turns(&mut observation, TURNS);
        observation.status
    }

    fn turns(&self, observation: &mut Observation, turns: usize) {
        let settings = Settings {
            max_running_stages: self.limit,
            ..Settings::default()
        };
        for _ in 0..turns {
            let mut next = plan(observation, &settings);
            promise::check(&next);
            if !next.wants.is_empty() {
                let granted = next.wants.iter().map(|wish| wish.place.stage.clone());
                observation.admission = Admission::Decided {
                    granted: granted.collect(),
                    held: BTreeMap::new(),
                };
                next = plan(observation, &settings);
                promise::check(&next);
            }
            if next.actions.is_empty() && self.step_seconds == 0 {
                return;
            }
            for action in next.actions {
                self.act(observation, action);
            }
            observation.now = observation.now.plus_seconds(self.step_seconds);
            self.look(observation);
        }
    }

    fn observation(&self) -> Observation {
        let run = match (&self.run, &self.lost) {
            (_, Some(how)) => RunEvidence::Lost(how.clone()),
            (Some(run), None) => RunEvidence::Pinned(run.clone()),
            (None, None) => RunEvidence::NotPinned(Catalog {
                providers: self.providers.clone(),
                types: self.templates.clone(),
                templates: self.templates.clone(),
                agents: self.agents.clone(),
                own_agents: BTreeSet::new(),
                registry: true,
            }),
        };
        let jobs = self.jobs.iter().map(|job| OpenJob {
            name: job.name.clone(),
            stage: job.stage.clone(),
            attempt: job.attempt,
            deleting: false,
        });
        let mut observation = Observation {
            now: self.now,
            identity: Identity {
                namespace: self.namespace.clone(),
                name: self.name.clone(),
                uid: self.uid.clone(),
                generation: self.generation,
                metadata_bytes: self.metadata_bytes,
            },
            spec: self.spec.clone(),
            status: self.status.clone(),
            run,
            attempts: BTreeMap::new(),
            open_jobs: jobs.collect(),
            announced: self.announced.clone(),
            approvals: self
                .approvals
                .iter()
                .map(|(name, known)| (name.clone(), known.evidence()))
                .collect(),
            admission: Admission::Unasked,
            used: self.used.clone(),
            model_trouble: self.report.as_ref().and_then(|report| trouble(report, self.now)),
            superseded_by: self.superseded_by.clone(),
        };
        self.look(&mut observation);
        observation
    }

    fn act(&self, observation: &mut Observation, action: Action) {
        match action {
            Action::Store(status) => {
                let _ = tally(&observation.status, &status);
                observation.status = *status;
                observation.admission = Admission::Unasked;
            }
            Action::Pin(run) => observation.run = RunEvidence::Pinned(*run),
            Action::Ask { name, request } => {
                let evidence = ApprovalEvidence {
                    expires_at: request.expires_at,
                    decision: self.decision.clone(),
                    decided_at: self.decided_at,
                };
                observation.approvals.insert(name, evidence);
            }
            Action::Look { .. }
            | Action::Start(_)
            | Action::Close { .. }
            | Action::Acknowledge(_)
            | Action::Record(_)
            | Action::Delete => {}
        }
    }

    /// The same as it stands after so many turns.
    #[must_use]
    pub fn after(&self, turns: usize) -> Self {
        let mut observation = self.observation();
        self.turns(&mut observation, turns);
        let run = match observation.run {
            RunEvidence::Pinned(run) => Some(run),
            RunEvidence::NotPinned(_) | RunEvidence::Lost(_) => None,
        };
        Self {
            status: observation.status,
            run,
            ..self.clone()
        }
    }

    /// What there is to see of the stages that run.
    fn look(&self, observation: &mut Observation) {
        let running = observation
            .status
            .stages
            .iter()
            .filter(|stage| stage.phase == StagePhase::Running);
        observation.attempts = running
            .map(|stage| {
                let result = match (self.results.get(&stage.name), &self.silence) {
                    (Some(result), _) => ResultEvidence::Some(Box::new(result.clone())),
                    (None, Some(how)) => ResultEvidence::Unavailable(how.clone()),
                    (None, None) => ResultEvidence::None,
                };
                let evidence = AttemptEvidence {
                    job: self
                        .ends
                        .get(&stage.name)
                        .map_or_else(running_job, SeenEnd::evidence),
                    pod: self.pods.get(&stage.name).map(SeenPod::evidence),
                    result,
                    live: true,
                };
                (stage.name.clone(), evidence)
            })
            .collect();
    }
}

/// A Job that runs.
fn running_job() -> JobEvidence {
    JobEvidence::Present {
        failure: None,
        complete: false,
        deleting: false,
        trouble: None,
    }
}

impl SeenEnd {
    fn evidence(&self) -> JobEvidence {
        let mut job = running_job();
        if let JobEvidence::Present {
            failure,
            complete,
            deleting,
            trouble,
        } = &mut job
        {
            match self {
                Self::Missing { seen_before } => {
                    return JobEvidence::Missing {
                        seen_before: *seen_before,
                    };
                }
                Self::Foreign => return JobEvidence::Foreign,
                Self::Refused(why) => return JobEvidence::Refused(why.clone()),
                Self::Failed(why) => *failure = Some(why.clone()),
                Self::Complete => *complete = true,
                Self::Deleting => *deleting = true,
                Self::Troubled(why) => *trouble = Some(why.clone()),
            }
        }
        job
    }
}

impl SeenApproval {
    fn evidence(&self) -> ApprovalEvidence {
        let Self {
            expires_at,
            decision,
            decided_at,
        } = self.clone();
        ApprovalEvidence {
            expires_at,
            decision,
            decided_at,
        }
    }
}

impl SeenPod {
    fn evidence(&self) -> PodEvidence {
        PodEvidence {
            name: self.name.clone(),
            phase: if self.ended {
                PodPhase::Failed
            } else {
                PodPhase::Running
            },
            deleting_since: self.deleting_since,
            node_lost_since: self.node_lost_since,
            reason: self.reason.clone(),
            trouble: self.trouble.clone(),
            agent_end: self.exit_code.map(|exit_code| ContainerEnd {
                exit_code,
                reason: "Error".to_owned(),
                message: self.message.clone(),
            }),
        }
    }
}
