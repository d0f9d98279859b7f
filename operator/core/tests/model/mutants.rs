//! Operators that are broken on purpose: each has to be caught.

use stagecraft_api::status::{StagePhase, WorkflowPhase};
use stagecraft_core::observation::{JobEvidence, PodEvidence, PodPhase, ResultEvidence, RunEvidence};
use stagecraft_core::{Action, Observation, Plan, Settings, plan};

use crate::evidence::Fixed;
use crate::ledger::{FINAL, NEEDS, NO_LOSS, ONE_EFFECT, ONE_JOB, STORED};
use crate::model::Bounds;

/// How one is broken: its planner, or what carries out its plans.
#[derive(Clone)]
pub struct Mutant {
    pub name: &'static str,
    /// The promise that catches it.
    pub caught_by: &'static str,
    pub bounds: Bounds,
    pub plan: fn(&Fixed, &Observation, &Settings) -> Plan,
    /// The Job's name is another each time.
    pub random_names: bool,
    /// A creation without an answer is asked for again.
    pub repeats_posts: bool,
    /// A status is stored whatever was written meanwhile.
    pub ignores_versions: bool,
}

/// The one that ships.
pub fn none() -> Mutant {
    Mutant {
        name: "none",
        caught_by: "",
        bounds: Bounds::default(),
        plan: |_, observation, settings| plan(observation, settings),
        random_names: false,
        repeats_posts: false,
        ignores_versions: false,
    }
}

pub fn all() -> Vec<Mutant> {
    let bounds = |operators, deletions, deaths, lost_posts, failures| Bounds {
        operators,
        stages: 1,
        ticks: 1,
        deletions,
        deaths,
        lost_posts,
        failures,
        ..Bounds::default()
    };
    vec![
        Mutant {
            name: "random Job names: a creation that something on the way repeats makes another Job",
            caught_by: ONE_JOB,
            bounds: bounds(1, 0, 0, 1, 0),
            random_names: true,
            ..none()
        },
        Mutant {
            name: "repeated POST",
            caught_by: ONE_JOB,
            bounds: bounds(1, 1, 0, 1, 0),
            repeats_posts: true,
            ..none()
        },
        Mutant {
            name: "attempt number used again",
            caught_by: ONE_JOB,
            bounds: bounds(1, 0, 0, 0, 1),
            plan: uses_numbers_again,
            ..none()
        },
        Mutant {
            name: "no staleness guard: a status is stored whatever was written since it was looked at",
            caught_by: FINAL,
            bounds: bounds(2, 0, 0, 0, 0),
            ignores_versions: true,
            ..none()
        },
        Mutant {
            name: "heartbeat loss ends an attempt: a Pod that runs and says nothing counts as gone",
            caught_by: NO_LOSS,
            bounds: bounds(1, 0, 0, 0, 0),
            plan: takes_silence_for_death,
            ..none()
        },
        Mutant {
            name: "what is not seen counts as looked for",
            caught_by: NO_LOSS,
            bounds: bounds(1, 0, 0, 0, 0),
            plan: believes_its_cache,
            ..none()
        },
        Mutant {
            name: "Pod phase as success",
            caught_by: STORED,
            bounds: bounds(1, 0, 1, 0, 0),
            plan: believes_pods,
            ..none()
        },
        Mutant {
            name: "acknowledging before storing",
            caught_by: ONE_EFFECT,
            bounds: bounds(1, 0, 0, 0, 0),
            plan: acknowledges_first,
            ..none()
        },
        Mutant {
            name: "retry without a new run",
            caught_by: FINAL,
            bounds: bounds(1, 0, 0, 0, 2),
            plan: revives,
            ..none()
        },
        Mutant {
            name: "starting what needs others at once",
            caught_by: NEEDS,
            bounds: Bounds {
                stages: 2,
                ..bounds(1, 0, 0, 0, 0)
            },
            plan: does_not_wait,
            ..none()
        },
        Mutant {
            name: "taking the result of an earlier attempt",
            caught_by: STORED,
            // Between the status and the acknowledgement: what starts anew hears of the earlier result.
            bounds: Bounds {
                crashes: 1,
                ..bounds(1, 0, 0, 0, 1)
            },
            plan: takes_any_result,
            ..none()
        },
    ]
}

fn uses_numbers_again(_: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut planned = plan(observation, settings);
    for action in &mut planned.actions {
        match action {
            Action::Store(status) => {
                for stage in &mut status.stages {
                    stage.attempt = stage.attempt.min(1);
                }
            }
            Action::Start(task) => task.attempt.attempt = 1,
            _ => {}
        }
    }
    planned
}

fn takes_silence_for_death(_: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut observation = observation.clone();
    for evidence in observation.attempts.values_mut() {
        let runs = |pod: &PodEvidence| pod.phase == PodPhase::Running;
        if evidence.pod.as_ref().is_some_and(runs) {
            evidence.pod = None;
            evidence.job = JobEvidence::Missing { seen_before: true };
        }
    }
    plan(&observation, settings)
}

fn believes_its_cache(_: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut observation = observation.clone();
    for evidence in observation.attempts.values_mut() {
        evidence.live = true;
        if evidence.result == ResultEvidence::Unknown {
            evidence.result = ResultEvidence::None;
        }
    }
    plan(&observation, settings)
}

fn believes_pods(fixed: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut observation = observation.clone();
    for (stage, evidence) in &mut observation.attempts {
        let succeeded = evidence
            .pod
            .as_ref()
            .is_some_and(|pod| pod.phase == PodPhase::Succeeded);
        let status = observation
            .status
            .stages
            .iter()
            .find(|status| status.name == *stage);
        if succeeded && let Some(status) = status {
            let key = (crate::evidence::number(stage), status.attempt);
            evidence.result = ResultEvidence::Some(Box::new(fixed.result(key, true)));
        }
    }
    plan(&observation, settings)
}

fn acknowledges_first(_: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut planned = plan(observation, settings);
    planned
        .actions
        .sort_by_key(|action| !matches!(action, Action::Acknowledge(_)));
    planned
}

/// As if every stage that is needed had succeeded.
fn does_not_wait(_: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut observation = observation.clone();
    if let RunEvidence::Pinned(run) = &mut observation.run {
        for stage in &mut run.stages {
            stage.needs.clear();
        }
    }
    plan(&observation, settings)
}

/// As if the number of the attempt did not matter.
fn takes_any_result(fixed: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    let mut observation = observation.clone();
    for (stage, evidence) in &mut observation.attempts {
        let current = observation
            .status
            .stages
            .iter()
            .find(|status| status.name == *stage);
        let mut announced = observation.announced.iter();
        let earlier = announced.find(|key| key.stage == *stage);
        if let (Some(current), Some(_)) = (current, earlier) {
            let key = (crate::evidence::number(stage), current.attempt);
            evidence.result = ResultEvidence::Some(Box::new(fixed.result(key, true)));
        }
    }
    plan(&observation, settings)
}

fn revives(_: &Fixed, observation: &Observation, settings: &Settings) -> Plan {
    if observation.status.phase != WorkflowPhase::Failed {
        return plan(observation, settings);
    }
    let mut status = observation.status.clone();
    status.phase = WorkflowPhase::Running;
    for stage in status
        .stages
        .iter_mut()
        .filter(|stage| stage.phase == StagePhase::Failed)
    {
        stage.phase = StagePhase::Pending;
    }
    Plan {
        actions: vec![Action::Store(Box::new(status))],
        ..Plan::default()
    }
}
