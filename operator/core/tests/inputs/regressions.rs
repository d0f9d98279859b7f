//! What went wrong once, each as it was found.

use serde_json::{Value, json};
use stagecraft_api::status::{StagePhase, WorkflowPhase, WorkflowStatus};
use stagecraft_api::{AttemptKey, limit};
use stagecraft_core::observation::{Identity, RunEvidence};
use stagecraft_core::{Action, Settings, plan};
use stagecraft_inputs::clean;
use stagecraft_inputs::scene::Scene;

/// The clean scene after so many turns, with changes by pointer.
fn scene(turns: usize, changes: &[(&str, Value)]) -> Scene {
    let clean: Scene = serde_json::from_value(clean::scene()).unwrap();
    let mut document = serde_json::to_value(clean.after(turns)).unwrap();
    for (place, value) in changes {
        *document.pointer_mut(place).unwrap_or_else(|| panic!("{place}")) = value.clone();
    }
    serde_json::from_value(document).unwrap()
}

fn stage<'a>(status: &'a WorkflowStatus, name: &str) -> &'a stagecraft_api::StageStatus {
    status.stages.iter().find(|stage| stage.name == name).unwrap()
}

#[test]
fn an_attempt_after_the_last_number_is_refused_and_none_is_used_again() {
    let status = scene(1, &[("/status/stages/1/attempt", json!(u32::MAX))]).play();
    let make = stage(&status, "make");
    assert_eq!((make.phase, make.attempt), (StagePhase::Failed, u32::MAX));
    assert!(
        make.message.contains("no number for another attempt"),
        "{}",
        make.message
    );
}

#[test]
fn counters_of_a_stage_stay_at_their_end() {
    let counters =
        json!({"agent": u32::MAX, "timeout": u32::MAX, "infrastructure": u32::MAX, "wrongResult": u32::MAX});
    let mut failing = scene(2, &[]);
    let failure = serde_json::from_value(clean::failure()).unwrap();
    failing.results.insert("make".to_owned(), failure);
    let make = failing
        .status
        .stages
        .iter_mut()
        .find(|stage| stage.name == "make")
        .unwrap();
    make.failures = u32::MAX;
    make.losses = u32::MAX;
    make.failed_by = serde_json::from_value(counters).unwrap();
    let status = failing.play();
    assert_eq!(stage(&status, "make").failures, u32::MAX);
    let mut lost = scene(2, &[("/status/stages/1/phase", json!("Running"))]);
    lost.results.clear();
    lost.status.stages[1].losses = u32::MAX;
    lost.pods =
        serde_json::from_value(json!({"make": {"name": "p", "ended": true, "reason": "Shutdown"}})).unwrap();
    assert_eq!(stage(&lost.play(), "make").losses, u32::MAX);
}

#[test]
fn the_last_round_of_repair_is_the_last() {
    let mut refused = scene(3, &[]);
    let mut low = clean::result();
    low["metrics"]["covered"] = json!(1.0);
    refused
        .results
        .insert("judge".to_owned(), serde_json::from_value(low).unwrap());
    let judge = refused
        .status
        .stages
        .iter_mut()
        .find(|stage| stage.name == "judge")
        .unwrap();
    let round = json!({"round": u32::MAX, "digest": stagecraft_api::Digest::of(b"other")});
    judge.repair = Some(serde_json::from_value(round).unwrap());
    let status = refused.play();
    assert_eq!(stage(&status, "judge").phase, StagePhase::Failed);
}

#[test]
fn usage_that_no_api_server_takes_is_cut_where_it_comes_in() {
    let huge = json!({"cpuMillis": u64::MAX, "peakMemoryBytes": u64::MAX});
    let mut everywhere = scene(1, &[]);
    for result in everywhere.results.values_mut() {
        result.usage = Some(serde_json::from_value(huge.clone()).unwrap());
    }
    let status = everywhere.play();
    assert_eq!(status.phase, WorkflowPhase::Completed);
    assert_eq!(stage(&status, "ship").usage.unwrap().cpu_millis, limit::COUNT);
}

#[test]
fn usage_of_many_stages_is_summed_without_going_round() {
    let huge = json!({"cpuMillis": u64::MAX, "peakMemoryBytes": 0});
    let mut asking = scene(4, &[]);
    for stage in &mut asking.status.stages {
        stage.usage = Some(serde_json::from_value(huge.clone()).unwrap());
    }
    assert_eq!(asking.play().phase, WorkflowPhase::Completed);
}

#[test]
fn outputs_that_are_too_deep_fail_the_attempt_and_are_not_stored() {
    let mut deep = scene(1, &[]);
    let mut result = clean::result();
    result["outputs"]["deep"] = stagecraft_inputs::values::chain(limit::DEPTH + 1, false);
    deep.results
        .insert("make".to_owned(), serde_json::from_value(result).unwrap());
    let status = deep.play();
    let make = stage(&status, "make");
    assert!(
        make.history
            .iter()
            .all(|attempt| attempt.code == "OutputsTooDeep")
    );
    assert!(!make.history.is_empty() && make.outputs.is_empty());
}

#[test]
fn a_spec_or_an_agent_that_is_too_deep_is_not_accepted() {
    let mut spec: Scene = serde_json::from_value(clean::scene()).unwrap();
    let deep = stagecraft_inputs::values::chain(limit::DEPTH + 1, true);
    let mut agent = spec.clone();
    spec.spec.parameters.insert("names".to_owned(), deep.clone());
    let schema = json!({"default": deep});
    agent.agents.get_mut("worker").unwrap().outputs_schema = schema.as_object().cloned();
    for (scene, field) in [
        (spec, "spec: \"nested"),
        (agent, "deep with its template and Agents"),
    ] {
        let status = scene.play();
        assert!(
            status.run_ref.is_none() && status.message.contains(field),
            "{}",
            status.message
        );
    }
}

#[test]
fn stages_of_a_run_that_wait_for_each_other_are_told_apart_from_those_that_are_blocked() {
    let mut circle = scene(1, &[("/run/stages/4/finally", json!(true))]);
    let run = circle.run.as_mut().unwrap();
    let mut other = run.stages[4].clone();
    other.name = "other".to_owned();
    other.needs = vec!["tell".to_owned()];
    run.stages[4].needs = vec!["other".to_owned()];
    run.stages.push(other);
    let mut status = circle.status.stages[5].clone();
    status.name = "other".to_owned();
    circle.status.stages.push(status);
    circle.spec.cancel = true;
    assert_eq!(stage(&circle.play(), "other").phase, StagePhase::Pending);
}

#[test]
fn a_status_of_others_making_is_brought_within_its_bounds_or_ends_the_workflow() {
    let long = "x".repeat(300_000);
    let mut texts = scene(
        2,
        &[
            ("/status/message", json!(long)),
            ("/status/stages/1/message", json!(long)),
        ],
    );
    texts.status.stages[1].summary.clone_from(&long);
    texts.status.stages[0]
        .outputs
        .insert("big".to_owned(), json!(long));
    for number in 0..8 {
        let mut foreign = texts.status.conditions[0].clone();
        foreign.type_ = format!("Foreign{number}");
        texts.status.conditions.insert(0, foreign);
    }
    let status = texts.play();
    assert_eq!(status.phase, WorkflowPhase::Completed, "{}", status.message);
    let own = status
        .conditions
        .iter()
        .filter(|known| !known.type_.starts_with("Foreign"));
    assert_eq!((status.conditions.len(), own.count()), (8, 3));

    let mut many = scene(2, &[]);
    for number in 0..40 {
        let mut stage = many.status.stages[1].clone();
        stage.name = format!("s{number}");
        many.status.stages.push(stage);
    }
    let status = many.play();
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert!(
        status.message.contains("over the limit of 21"),
        "{}",
        status.message
    );
}

#[test]
fn a_new_run_of_many_stages_is_told_within_the_bound_of_an_event() {
    let mut again = scene(12, &[]);
    let run = again.run.as_mut().unwrap();
    let mut stages = Vec::new();
    for number in 0..20 {
        let mut stage = run.stages[0].clone();
        stage.name = format!("{number:02}{}", "s".repeat(61));
        stages.push(stage);
    }
    let first = stages[0].name.clone();
    run.stages = stages;
    again.spec.retry =
        Some(serde_json::from_value(json!({"from": first, "run": again.status.run + 1})).unwrap());
    let observation = stagecraft_core::Observation {
        now: again.now,
        identity: Identity {
            namespace: "here".into(),
            name: "flow".into(),
            uid: again.uid.clone(),
            generation: 2,
            metadata_bytes: 0,
        },
        spec: again.spec.clone(),
        status: again.status.clone(),
        run: RunEvidence::Pinned(run.clone()),
        attempts: std::collections::BTreeMap::new(),
        open_jobs: Vec::new(),
        announced: vec![AttemptKey {
            workflow_uid: again.uid.clone(),
            stage: "make".into(),
            attempt: 1,
        }],
        approvals: std::collections::BTreeMap::new(),
        admission: stagecraft_core::admit::Admission::Unasked,
        used: None,
        model_trouble: None,
        superseded_by: None,
    };
    let planned = plan(&observation, &Settings::default());
    let told = planned.actions.iter().find_map(|action| match action {
        Action::Record(notice) => Some(notice.message.clone()),
        _ => None,
    });
    let told = told.unwrap();
    assert!(
        told.starts_with("run 2 begins") && told.len() <= limit::MESSAGE_BYTES,
        "{told}"
    );
}
