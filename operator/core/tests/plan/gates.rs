//! Gates, inputs and permissions of stages.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stagecraft_api::agent::Permission;
use stagecraft_api::digest::Digest;
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{Artifact, StagePhase, WorkflowPhase};
use stagecraft_api::template::StageInput;
use stagecraft_core::resolve::{Refusal, resolve};

use crate::fixture::{Scene, catalog, object, spec, started};

fn measured(metrics: &[(&str, f64)]) -> Outcome {
    Outcome::Succeeded {
        summary: "checked".to_owned(),
        outputs: object(json!({"findings": [{"check": "lint", "file": "a.ts", "line": 7, "message": "no"}]})),
        workspace: None,
        artifacts: vec![report()],
        metrics: metrics
            .iter()
            .map(|(name, value)| ((*name).to_owned(), *value))
            .collect(),
    }
}

fn report() -> Artifact {
    Artifact {
        name: "report.json".to_owned(),
        digest: Digest::of(b"report"),
        bytes: 6,
        media_type: "application/json".to_owned(),
    }
}

/// A stage with one gate, and what follows it.
fn gated() -> Scene {
    let mut scene = Scene::new("a, b");
    let gates = json!([{"metric": "lintErrors", "operator": "<=", "threshold": 0}]);
    scene.observation.spec.stages =
        vec![serde_json::from_value(json!({"name": "a", "gates": gates})).unwrap()];
    scene.act();
    scene.act();
    scene
}

#[test]
fn a_gate_that_holds_lets_the_stage_succeed_and_stands_in_the_status() {
    let mut scene = gated();
    scene.result("a", measured(&[("lintErrors", 0.0)]));
    scene.act();
    let stage = scene.stage("a");
    assert_eq!(stage.phase, StagePhase::Succeeded);
    assert!(stage.gates[0].passed);
    assert_eq!(stage.gates[0].actual, Some(0.0));
}

#[test]
fn a_gate_that_fails_ends_the_workflow_and_keeps_the_evidence() {
    for (metrics, text) in [
        (&[("lintErrors", 2.0)][..], "lintErrors is 2 and must be <= 0"),
        (&[("other", 0.0)][..], "lintErrors was not measured"),
    ] {
        let mut scene = gated();
        scene.result("a", measured(metrics));
        let planned = scene.act();
        assert!(started(&planned).is_empty(), "what comes after must not start");
        let stage = scene.stage("a").clone();
        assert_eq!(
            stage.phase,
            StagePhase::Failed,
            "the same work is not judged twice"
        );
        let error = stage.error.unwrap();
        assert_eq!(error.code, "GateFailed");
        assert!(error.message.contains(text), "{}", error.message);
        assert!(error.message.contains("a.ts:7 no"), "{}", error.message);
        assert_eq!(stage.artifacts, vec![report()]);
        assert!(stage.outputs.contains_key("findings") && !stage.gates[0].passed);
        assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
        assert_eq!(scene.stage("b").attempt, 0);
    }
}

#[test]
fn a_workflow_replaces_gates_of_its_template_by_metric() {
    let mut catalog = catalog("a");
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[0].gates = serde_json::from_value(json!([
        {"metric": "linesCovered", "operator": ">=", "threshold": 80},
        {"metric": "lintErrors", "operator": "<=", "threshold": 0},
    ]))
    .unwrap();
    let mut spec = spec();
    let own = json!([
        {"metric": "linesCovered", "operator": ">=", "threshold": 95},
        {"metric": "lintWarnings", "operator": "<=", "threshold": 3},
    ]);
    spec.stages = vec![serde_json::from_value(json!({"name": "a", "gates": own})).unwrap()];
    let run = resolve("flow", &spec, &catalog).unwrap();
    let gates: BTreeMap<&str, f64> = run.stages[0]
        .gates
        .iter()
        .map(|gate| (gate.metric.as_str(), gate.threshold))
        .collect();
    let expected = [("lintErrors", 0.0), ("linesCovered", 95.0), ("lintWarnings", 3.0)];
    assert_eq!(gates, BTreeMap::from(expected));
}

#[test]
fn more_gates_than_the_status_holds_are_refused() {
    let mut catalog = catalog("a");
    let gates = |prefix: &str| -> Vec<Value> {
        (0..7)
            .map(|number| json!({"metric": format!("{prefix}{number}"), "operator": "==", "threshold": 1}))
            .collect()
    };
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[0].gates = serde_json::from_value(json!(gates("theirs"))).unwrap();
    let mut spec = spec();
    spec.stages = vec![serde_json::from_value(json!({"name": "a", "gates": gates("own")})).unwrap()];
    let Err(Refusal::Violations(found)) = resolve("flow", &spec, &catalog) else {
        panic!("it was accepted")
    };
    assert_eq!(found[0].value, "14 gates with the template's");
}

#[test]
fn inputs_are_the_artifacts_of_earlier_stages() {
    let mut scene = Scene::new("a, b, c");
    let input = |artifact: &str| StageInput {
        stage: "a".to_owned(),
        artifact: artifact.to_owned(),
    };
    let template = scene.template_mut();
    template.stages[2].inputs = vec![input("report.json"), input("absent.tar")];
    scene.act();
    scene.act();
    scene.result("a", measured(&[]));
    scene.act();
    scene.result("b", measured(&[]));
    let planned = scene.act();
    let tasks = started(&planned);
    assert_eq!(tasks[0].attempt.stage, "c");
    let [found] = tasks[0].inputs.as_slice() else {
        panic!("{:?}", tasks[0].inputs)
    };
    assert_eq!((found.stage.as_str(), &found.digest), ("a", &report().digest));
    assert_eq!(tasks[0].missing_inputs, ["a/absent.tar"]);
}

#[test]
fn inputs_of_stages_that_are_not_needed_are_refused() {
    let mut catalog = catalog("a, b:, c: b");
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[2].inputs = vec![StageInput {
        stage: "a".to_owned(),
        artifact: "report.json".to_owned(),
    }];
    let Err(Refusal::Violations(found)) = resolve("flow", &spec(), &catalog) else {
        panic!("it was accepted")
    };
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].field, "template.spec.stages[name=c].inputs");
    assert!(found[0].remedy.contains("choose one of: b"), "{found:?}");
}

#[test]
fn permissions_are_for_agents_of_the_release() {
    let mut catalog = catalog("a");
    catalog.agents.get_mut("worker").unwrap().permissions = vec![Permission::Deploy];
    let run = resolve("flow", &spec(), &catalog).unwrap();
    assert_eq!(run.stages[0].agent.permissions, [Permission::Deploy]);
    catalog.own_agents.insert("worker".to_owned());
    let Err(Refusal::Violations(found)) = resolve("flow", &spec(), &catalog) else {
        panic!("it was accepted")
    };
    assert!(found[0].remedy.contains("permissions"), "{found:?}");
}
