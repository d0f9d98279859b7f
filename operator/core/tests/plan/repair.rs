//! Work that goes back to be made better.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stagecraft_api::WorkflowPhase;
use stagecraft_api::result::Outcome;
use stagecraft_core::resolve::{Refusal, resolve};

use crate::fixture::{Scene, actions, catalog, object, quiet, spec, started, success};

/// A graph in which `check` sends the work back to `make`; `other` runs beside it.
fn template(max_rounds: u32) -> Value {
    json!({"stages": [
        {"name": "make", "agent": "worker", "payload": {"round": "${{ repair.round }}", "found": "${{ repair.findings }}"}},
        {"name": "check", "agent": "worker", "needs": ["make"],
         "gates": [{"metric": "errors", "operator": "<=", "threshold": 0}],
         "repair": {"stage": "make", "maxRounds": max_rounds}},
        {"name": "other", "agent": "worker", "needs": ["make"]},
        {"name": "last", "agent": "worker", "needs": ["check", "other"]},
    ]})
}

fn running(template: Value) -> Scene {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
    scene.act();
    scene.act();
    scene
}

fn measured(errors: f64) -> Outcome {
    let Outcome::Succeeded {
        summary,
        outputs: _,
        workspace,
        artifacts,
        ..
    } = success(json!({}))
    else {
        panic!()
    };
    Outcome::Succeeded {
        summary,
        outputs: object(json!({"findings": [{"check": "types", "message": format!("{errors} are wrong")}]})),
        workspace,
        artifacts,
        metrics: BTreeMap::from([("errors".to_owned(), errors)]),
    }
}

fn made(scene: &mut Scene) {
    scene.result("make", success(json!({})));
    scene.act();
}

#[test]
fn what_a_gate_refuses_goes_back_with_what_was_found_and_comes_again() {
    let mut scene = running(template(3));
    made(&mut scene);
    assert_eq!(
        scene.stages(),
        "make Succeeded 1, check Running 1, other Running 1, last Pending 0"
    );
    let other = scene.stage("other").job.clone();
    scene.result("check", measured(2.0));
    let plan = scene.act();
    assert_eq!(
        actions(&plan),
        [
            "store".to_owned(),
            "start make 2".to_owned(),
            format!("close {other}"),
            "acknowledge check 1".to_owned(),
            "acknowledge other 1".to_owned(),
        ]
    );
    let task = &started(&plan)[0];
    let repair = task.context.repair.clone().unwrap();
    assert_eq!((repair.stage.as_str(), repair.round), ("check", 1));
    assert!(repair.message.contains("errors is 2"), "{repair:?}");
    let stagecraft_api::payload::Payload::Other { payload, .. } = &task.payload else {
        panic!()
    };
    assert_eq!(payload["round"], json!(1));
    assert_eq!(payload["found"][0]["message"], json!("2 are wrong"));

    assert_eq!(
        scene.stages(),
        "make Running 2, check Pending 1, other Pending 1, last Pending 0"
    );
    let check = scene.stage("check");
    assert!(
        check.message.contains("sent back to make (round 1 of 3)"),
        "{}",
        check.message
    );
    assert_eq!(
        (check.round, check.gates.len()),
        (1, 1),
        "the evidence stays in sight"
    );
    made(&mut scene);
    scene
        .result("check", measured(0.0))
        .result("other", success(json!({})));
    scene.act();
    scene.result("last", success(json!({})));
    scene.act();
    assert_eq!(
        scene.stages(),
        "make Succeeded 2, check Succeeded 2, other Succeeded 2, last Succeeded 1"
    );
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    assert!(quiet(&scene.plan()));
}

/// Plays rounds in which `check` measures these, and tells how it ended.
fn after(max_rounds: u32, errors: &[f64]) -> (String, String) {
    let mut scene = running(template(max_rounds));
    for errors in errors {
        made(&mut scene);
        scene
            .result("check", measured(*errors))
            .result("other", success(json!({})));
        scene.act();
    }
    (
        format!("{:?}", scene.observation.status.phase),
        scene.stage("check").message.clone(),
    )
}

#[test]
fn repair_ends_with_its_rounds_or_when_it_changes_nothing() {
    let (phase, message) = after(2, &[5.0, 4.0, 3.0]);
    assert_eq!(phase, "Failed");
    assert!(
        message.starts_with("2 rounds of repair were not enough"),
        "{message}"
    );
    let (phase, message) = after(9, &[5.0, 5.0]);
    assert_eq!(phase, "Failed");
    assert!(
        message.starts_with("round 1 of repair changed nothing about what is found"),
        "{message}"
    );
    let (phase, _) = after(9, &[5.0, 4.0, 5.0, 4.0]);
    assert_ne!(phase, "Failed", "each round changed something");
}

#[test]
fn a_round_that_leaves_the_commit_as_it_was_is_the_last() {
    let mut scene = running(template(9));
    let commit = |outcome: Outcome| match outcome {
        Outcome::Succeeded {
            summary,
            outputs,
            artifacts,
            metrics,
            ..
        } => Outcome::Succeeded {
            summary,
            outputs,
            artifacts,
            metrics,
            workspace: serde_json::from_value(json!({
                "commit": "0123456789abcdef0123456789abcdef01234567",
                "bundle": stagecraft_api::Digest::of(b""), "bytes": 1,
            }))
            .unwrap(),
        },
        failed @ Outcome::Failed { .. } => failed,
    };
    for errors in [2.0, 1.0] {
        scene.result("make", commit(success(json!({}))));
        scene.act();
        scene
            .result("check", measured(errors))
            .result("other", success(json!({})));
        scene.act();
    }
    let message = scene.stage("check").message.clone();
    assert!(
        message.starts_with("round 1 of repair left the work as it was"),
        "{message}"
    );
}

#[test]
fn a_new_run_has_its_own_rounds() {
    let mut scene = running(template(1));
    for errors in [2.0, 1.0] {
        made(&mut scene);
        scene
            .result("check", measured(errors))
            .result("other", success(json!({})));
        scene.act();
    }
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
    scene.observation.spec.retry = Some(serde_json::from_value(json!({"from": "make", "run": 2})).unwrap());
    scene.act();
    scene.act();
    made(&mut scene);
    scene.result("check", measured(1.0));
    scene.act();
    assert_eq!(scene.stage("check").round, 1);
    assert_eq!(
        scene.stages(),
        "make Running 4, check Pending 3, other Pending 3, last Pending 0"
    );
}

#[test]
fn a_warning_is_told_and_holds_nothing_up() {
    let mut template = template(1);
    template["stages"][1]["gates"][0]["severity"] = json!("warning");
    let mut scene = running(template);
    made(&mut scene);
    scene.result("check", measured(2.0));
    scene.act();
    let check = scene.stage("check");
    assert_eq!(
        check.message,
        "succeeded, with warnings: errors is 2 and must be <= 0"
    );
    assert!(!check.gates[0].passed);
}

#[test]
fn work_goes_back_only_to_a_stage_that_it_came_from() {
    for (stage, part) in [
        ("other", "choose one of: make"),
        ("check", "choose one of: make"),
        ("absent", "needed"),
    ] {
        let mut template = template(1);
        template["stages"][1]["repair"]["stage"] = json!(stage);
        let mut wanted = spec();
        wanted.template_ref = None;
        wanted.template = Some(serde_json::from_value(template).unwrap());
        let refused = resolve("flow", &wanted, &catalog("unused"));
        let Err(Refusal::Violations(violations)) = refused else {
            panic!("{stage}: {refused:?}")
        };
        assert_eq!(
            violations[0].field,
            "template.spec.stages[name=check].repair.stage"
        );
        assert!(violations[0].remedy.contains(part), "{violations:?}");
    }
}

#[test]
fn a_round_of_a_later_run_belongs_to_that_run() {
    let mut scene = running(template(3));
    made(&mut scene);
    scene.result("check", measured(2.0));
    scene.act();
    made(&mut scene);
    for stage in ["check", "other", "last"] {
        scene.result(stage, measured(0.0));
        scene.act();
    }
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    scene.observation.spec.retry = Some(serde_json::from_value(json!({"from": "check", "run": 2})).unwrap());
    scene.act();
    scene.act();
    let before = scene.stage("make").clone();
    assert_eq!((before.run, before.round), (1, 1));
    scene.result("check", measured(1.0));
    scene.act();
    let after = scene.stage("make");
    // The same round of the same run would be a stage that had ended and changed.
    assert_eq!(
        (after.run, after.round, after.attempt),
        (2, 1, before.attempt + 1)
    );
}

/// `check` and `ship` both send the work back to `make`: the one by a gate, the other because a person said so.
fn two_senders() -> Value {
    json!({"stages": [
        {"name": "make", "agent": "worker"},
        {"name": "check", "agent": "worker", "needs": ["make"],
         "gates": [{"metric": "errors", "operator": "<=", "threshold": 0}],
         "repair": {"stage": "make", "maxRounds": 5}},
        {"name": "ship", "agent": "worker", "needs": ["check"],
         "gates": [{"metric": "errors", "operator": "<=", "threshold": 0}],
         "repair": {"stage": "make", "maxRounds": 2}},
    ]})
}

#[test]
fn rounds_count_on_whoever_sends_the_work_back_and_each_hears_its_own_sender() {
    let mut scene = running(two_senders());
    for errors in [3.0, 2.0] {
        made(&mut scene);
        scene.result("check", measured(errors));
        scene.act();
    }
    made(&mut scene);
    scene.result("check", measured(0.0));
    scene.act();
    assert_eq!((scene.stage("make").round, scene.stage("ship").round), (2, 2));
    scene.result("ship", measured(7.0));
    let plan = scene.act();
    let repair = started(&plan)[0].context.repair.clone().unwrap();
    assert_eq!((repair.stage.as_str(), repair.round), ("ship", 3));
    assert_eq!(repair.findings[0]["message"], json!("7 are wrong"));
    let rounds: Vec<u32> = ["make", "check", "ship"]
        .map(|name| scene.stage(name).round)
        .into();
    assert_eq!(rounds, [3, 3, 3]);
    let message = scene.stage("ship").message.clone();
    assert!(message.contains("(round 1 of 2)"), "{message}");

    made(&mut scene);
    scene.result("check", measured(1.0));
    let plan = scene.act();
    let repair = started(&plan)[0].context.repair.clone().unwrap();
    assert_eq!((repair.stage.as_str(), repair.round), ("check", 4));
    let message = scene.stage("check").message.clone();
    assert!(message.contains("(round 3 of 5)"), "{message}");
}

#[test]
fn a_round_begins_with_the_work_that_was_judged() {
    let mut scene = running(template(9));
    let commit = |digit: &str| {
        match success(json!({})) {
        Outcome::Succeeded {
            summary,
            outputs,
            artifacts,
            metrics,
            ..
        } => Outcome::Succeeded {
            summary,
            outputs,
            artifacts,
            metrics,
            workspace: serde_json::from_value(json!({
                "commit": digit.repeat(40), "bundle": stagecraft_api::Digest::of(digit.as_bytes()), "bytes": 1,
            }))
            .unwrap(),
        },
        failed @ Outcome::Failed { .. } => failed,
    }
    };
    for (digit, errors) in [("1", 3.0), ("2", 2.0)] {
        scene.result("make", commit(digit));
        scene.act();
        scene.result("check", measured(errors));
        let plan = scene.act();
        let task = &started(&plan)[0];
        assert_eq!(task.attempt.stage, "make");
        assert_eq!(task.workspace.as_ref().unwrap().commit, digit.repeat(40));
    }
}

#[test]
fn a_workflow_that_goes_back_to_its_first_stage_has_begun() {
    let mut scene = running(template(3));
    made(&mut scene);
    scene.observation.spec.suspend = true;
    scene.result("check", measured(2.0));
    scene.act();
    assert_eq!(
        scene.stages(),
        "make Pending 1, check Pending 1, other Pending 1, last Pending 0"
    );
    assert!(stagecraft_core::start::has_begun(&scene.observation.status));
}

#[test]
fn what_is_found_again_after_the_round_of_another_stage_is_not_in_vain() {
    let mut scene = running(two_senders());
    for (check, ship) in [(3.0, None), (0.0, Some(7.0)), (3.0, None)] {
        made(&mut scene);
        scene.result("check", measured(check));
        scene.act();
        if let Some(ship) = ship {
            scene.result("ship", measured(ship));
            scene.act();
        }
    }
    assert_eq!(scene.stage("make").round, 3);
    assert_eq!(scene.stages(), "make Running 4, check Pending 3, ship Pending 1");
}
