//! From a request to a pinned run, or to what is wrong with the request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stagecraft_api::error::truncate;
use stagecraft_api::run::{INITIALIZE, Run, RunStage};
use stagecraft_api::status::{RunRef, StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};
use stagecraft_api::{limit, name};

use crate::envelope::run_digest;
use crate::observation::Observation;
use crate::plan::{Action, Notice, Plan};
use crate::resolve::{Catalog, NO_REQUIREMENTS, Refusal, resolve};
use crate::stop::Stop;
use crate::summary;
use crate::summary::counted;

/// Plans for a Workflow of which nothing is pinned yet.
pub(crate) fn accept(observation: &Observation, catalog: &Catalog) -> Plan {
    let Observation {
        now, identity, spec, ..
    } = observation;
    let mut status = observation.status.clone();
    let newer = observation.superseded_by.clone().map(Stop::Superseded);
    let stop = spec.cancel.then_some(Stop::Cancelled).or(newer);
    if let Some(stop) = stop {
        let message = stop.message();
        status.observed_generation = Some(identity.generation);
        summary::end(&mut status, WorkflowPhase::Cancelled, &message, *now);
        return store(status, false, "Cancelled", &message);
    }
    match resolve(&identity.name, spec, catalog) {
        Ok(run) => {
            initialize(&mut status, observation, &run);
            let message = format!(
                "accepted: {} of template {}",
                counted(run.stages.len(), "stage"),
                run.template
            );
            let mut plan = store(status, false, "Accepted", &message);
            plan.actions.insert(0, Action::Pin(Box::new(run)));
            plan
        }
        Err(Refusal::NoRequirements) => {
            summary::accept(&mut status, Some(NO_REQUIREMENTS), identity.generation, *now);
            summary::end(&mut status, WorkflowPhase::Failed, NO_REQUIREMENTS, *now);
            store(status, true, "Failed", NO_REQUIREMENTS)
        }
        Err(Refusal::Violations(violations)) => {
            let problems: Vec<String> = violations.iter().map(ToString::to_string).collect();
            let problems = problems.join("; ");
            summary::accept(&mut status, Some(&problems), identity.generation, *now);
            if status == observation.status {
                return Plan::default();
            }
            store(status, true, "NotAccepted", &problems)
        }
    }
}

fn store(status: WorkflowStatus, warning: bool, reason: &'static str, message: &str) -> Plan {
    let notice = Notice {
        about: None,
        warning,
        reason,
        message: truncate(message, limit::MESSAGE_BYTES),
    };
    Plan {
        actions: vec![Action::Store(Box::new(status)), Action::Record(notice)],
        ..Plan::default()
    }
}

/// Records what was understood, as the first of the stage outputs.
fn initialize(status: &mut WorkflowStatus, observation: &Observation, run: &Run) {
    let Observation { now, identity, .. } = observation;
    summary::accept(status, None, identity.generation, *now);
    status.template.clone_from(&run.template);
    let digest = run_digest(run);
    status.run_ref = Some(RunRef {
        name: name::run(&identity.name, &identity.uid, &digest),
        digest,
    });
    status.trace_id = name::trace_id(&identity.uid);
    status.run = 1;
    status.started_at = Some(*now);
    let understood = StageStatus {
        name: INITIALIZE.to_owned(),
        run: 1,
        phase: StagePhase::Succeeded,
        started_at: Some(*now),
        finished_at: Some(*now),
        message: "the request was understood".to_owned(),
        summary: format!(
            "{} for project {}",
            counted(run.project.requirements.len(), "requirement"),
            run.project.name
        ),
        outputs: understood(run),
        ..StageStatus::default()
    };
    let pending = run.stages.iter().map(|stage| StageStatus {
        name: stage.name.clone(),
        run: 1,
        agent: stage.agent.name.clone(),
        message: waits_for(stage),
        ..StageStatus::default()
    });
    status.stages = std::iter::once(understood).chain(pending).collect();
    summary::summarize(status, run, &BTreeMap::new(), *now);
}

/// What a stage that has not begun says.
pub(crate) fn waits_for(stage: &RunStage) -> String {
    match (stage.finally, stage.needs.is_empty()) {
        (true, _) => "runs when the stages before it are over".to_owned(),
        (false, true) => "ready to start".to_owned(),
        (false, false) => truncate(
            &format!("waits for {}", stage.needs.join(", ")),
            limit::MESSAGE_BYTES,
        ),
    }
}

fn understood(run: &Run) -> Map<String, Value> {
    let stages: Vec<Value> = run
        .stages
        .iter()
        .map(|stage| json!({"name": stage.name, "agent": stage.agent.name}))
        .collect();
    // The texts themselves stand in the spec; here they would not fit the bound.
    let value = json!({
        "project": run.project.name,
        "template": run.template,
        "requirements": run.project.requirements.len(),
        "stages": stages,
    });
    match value {
        Value::Object(outputs) => outputs,
        _ => Map::new(),
    }
}
