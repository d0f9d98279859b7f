//! Graphs of stages: conditions, parameters and references.

use serde_json::{Value, json};
use stagecraft_api::WorkflowPhase;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::result::Outcome;
use stagecraft_api::run::Run;
use stagecraft_api::template::WorkflowTemplateSpec;
use stagecraft_core::resolve::{Refusal, resolve};

use crate::fixture::{Scene, actions, catalog, object, quiet, spec, started, success};

/// A Workflow of its own stages, accepted, with the first of them running.
pub fn running(template: Value, parameters: Value) -> Scene {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
    scene.observation.spec.parameters = object(parameters);
    scene.act();
    scene.act();
    scene
}

pub fn stage(name: &str, change: Value) -> Value {
    let mut stage = object(json!({"name": name, "agent": "worker", "retries": 0}));
    stage.extend(object(change));
    Value::Object(stage)
}

pub fn fatal() -> Outcome {
    Outcome::Failed {
        error: StructuredError::new("Wrong", Category::Validation, "it is wrong").fatal(),
    }
}

/// The problems of a template, as `field: value: remedy`.
fn problems(template: Value, parameters: Value) -> Vec<String> {
    let mut wanted = spec();
    wanted.template_ref = None;
    wanted.template = Some(serde_json::from_value::<WorkflowTemplateSpec>(template).unwrap());
    wanted.parameters = object(parameters);
    let Err(Refusal::Violations(violations)) = resolve("flow", &wanted, &catalog("unused")) else {
        return Vec::new();
    };
    violations.iter().map(ToString::to_string).collect()
}

fn accepted(template: Value, parameters: Value) -> Run {
    let mut wanted = spec();
    wanted.template_ref = None;
    wanted.template = Some(serde_json::from_value(template).unwrap());
    wanted.parameters = object(parameters);
    resolve("flow", &wanted, &catalog("unused")).unwrap()
}

#[test]
fn a_stage_whose_condition_does_not_hold_is_skipped_and_those_after_it_go_on() {
    let template = json!({
        "parameters": [{"name": "deploy", "default": false}],
        "stages": [
            stage("a", json!({})),
            stage("b", json!({"when": "stages.a.outputs.tests > 3"})),
            stage("c", json!({"when": "parameters.deploy"})),
            stage("d", json!({})),
        ],
    });
    let mut scene = running(template.clone(), json!({}));
    scene.at(1).result("a", success(json!({"tests": 3})));
    assert_eq!(actions(&scene.act()), ["store", "start d 1", "acknowledge a 1"]);
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Skipped 0, c Skipped 0, d Running 1"
    );
    let message = scene.stage("b").message.clone();
    assert!(message.contains("stages.a.outputs.tests > 3"), "{message}");
    assert_eq!(scene.observation.status.progress, "3/4");
    scene.result("d", success(json!({})));
    scene.act();
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    assert_eq!(scene.observation.status.message, "2 stages succeeded, 2 skipped");
    assert!(quiet(&scene.plan()));

    let mut scene = running(template, json!({"deploy": true}));
    scene.result("a", success(json!({"tests": 4})));
    scene.act();
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Running 1, c Pending 0, d Pending 0"
    );
}

#[test]
fn the_workspace_goes_through_a_stage_that_is_skipped() {
    let template = json!({"stages": [
        stage("a", json!({})), stage("b", json!({"when": "false"})), stage("c", json!({})),
    ]});
    let mut scene = running(template, json!({}));
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let Outcome::Succeeded {
        summary,
        outputs,
        artifacts,
        metrics,
        ..
    } = success(json!({}))
    else {
        panic!()
    };
    let workspace = serde_json::from_value(json!({
        "commit": commit, "bundle": stagecraft_api::Digest::of(b""), "bytes": 1,
    }))
    .unwrap();
    scene.result(
        "a",
        Outcome::Succeeded {
            summary,
            outputs,
            artifacts,
            metrics,
            workspace,
        },
    );
    let tasks = started(&scene.act());
    assert_eq!(tasks[0].workspace.as_ref().unwrap().commit, commit);
}

#[test]
fn a_condition_that_comes_to_nothing_fails_its_stage_and_says_why() {
    let template = json!({"stages": [
        stage("a", json!({})),
        stage("b", json!({"when": "stages.a.outputs.absent > 3"})),
        stage("c", json!({})),
    ]});
    let mut scene = running(template, json!({}));
    scene.at(1).result("a", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge a 1"]);
    assert_eq!(scene.stages(), "a Succeeded 1, b Failed 0, c Pending 0");
    let error = scene.stage("b").error.clone().unwrap();
    assert_eq!(
        (error.code.as_str(), error.category),
        ("ConditionFailed", Category::Configuration)
    );
    assert!(error.message.contains("absent"), "{error:?}");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
    assert!(scene.stage("c").message.contains("not started: stage b failed"));
}

#[test]
fn references_in_a_payload_become_values_when_the_stage_starts() {
    let template = json!({
        "parameters": [{"name": "who", "default": "world"}],
        "stages": [
            stage("a", json!({})),
            stage("b", json!({"payload": {
                "text": "Hello ${{ parameters.who }}, ${{ stages.a.outputs.count }} times",
                "list": "${{ stages.a.outputs.list }}",
            }})),
        ],
    });
    let mut scene = running(template, json!({"who": "you"}));
    scene.result("a", success(json!({"count": 2, "list": [1, 2]})));
    let tasks = started(&scene.act());
    let stagecraft_api::payload::Payload::Other { payload, .. } = &tasks[0].payload else {
        panic!("{:?}", tasks[0].payload)
    };
    assert_eq!(
        Value::Object(payload.clone()),
        json!({"text": "Hello you, 2 times", "list": [1, 2]})
    );
}

#[test]
fn a_reference_to_what_is_not_there_fails_the_stage_before_it_starts() {
    let template = json!({"stages": [
        stage("a", json!({})),
        stage("b", json!({"payload": {"deep": {"text": "${{ stages.a.outputs.absent }}"}}})),
    ]});
    let mut scene = running(template, json!({}));
    scene.result("a", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge a 1"]);
    let error = scene.stage("b").error.clone().unwrap();
    assert_eq!(
        (error.code.as_str(), scene.stage("b").attempt),
        ("ReferenceFailed", 0)
    );
    assert!(error.message.contains("payload.deep.text"), "{error:?}");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
}

#[test]
fn a_resolved_payload_is_held_to_the_agents_schema_and_to_a_size() {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    scene.observation.spec.template = Some(
        serde_json::from_value(json!({"stages": [
            stage("a", json!({})),
            stage("b", json!({"payload": {"count": "${{ stages.a.outputs.count }}"}})),
        ]}))
        .unwrap(),
    );
    let stagecraft_core::observation::RunEvidence::NotPinned(catalog) = &mut scene.observation.run else {
        panic!()
    };
    let worker = catalog.agents.get_mut("worker").unwrap();
    worker.payload_schema = Some(object(json!({"properties": {"count": {"type": "integer"}}})));
    scene.act();
    scene.act();
    scene.result("a", success(json!({"count": "three"})));
    scene.act();
    let error = scene.stage("b").error.clone().unwrap();
    assert!(
        error.message.contains("payload.count") && error.message.contains("three"),
        "{error:?}"
    );

    let many: Vec<String> = (0..4).map(|_| "${{ stages.a.outputs }}".to_owned()).collect();
    let template = json!({"stages": [stage("a", json!({})), stage("b", json!({"payload": {"many": many}}))]});
    let mut scene = running(template, json!({}));
    scene.result("a", success(json!({"text": "x".repeat(8_000)})));
    scene.act();
    let error = scene.stage("b").error.clone().unwrap();
    assert!(error.message.contains("at most 16384"), "{error:?}");
}

#[test]
fn what_cannot_work_is_refused_before_any_stage_runs() {
    let template = json!({
        "parameters": [
            {"name": "count", "schema": {"type": "integer", "minimum": 1}},
            {"name": "wrong", "schema": {"type": "integer"}, "default": "x"},
            {"name": "broken", "schema": {"type": 7}, "default": 1},
        ],
        "stages": [
            stage("a", json!({"when": "stages.b.outputs.x"})),
            stage("b", json!({"when": "parameters.absent &&"})),
            stage("c", json!({"needs": ["last"], "payload": {"x": "${{ parameters.absent }}"}})),
        ],
        "finally": [stage("last", json!({"when": "stages.c.phase == 'Succeeded'"})), stage("a", json!({}))],
    });
    let found = problems(template, json!({"count": 0, "other": 1}));
    for part in [
        "template.spec.finally[1].name: \"a\": named twice",
        "template.spec.stages[name=c].needs: \"last\": stages of finally run after the others",
        "spec.parameters.other: \"1\": the template has no such parameter; choose one of: count, wrong, broken",
        "spec.parameters.count: \"0\": 0 is less than the minimum of 1",
        "template.spec.parameters[name=wrong].default: ",
        "template.spec.parameters[name=broken].schema: \"\": is not a JSON Schema",
        "template.spec.stages[name=a].when: \"stages.b\": an expression reads stages that are needed",
        "template.spec.stages[name=b].when: ",
        "template.spec.stages[name=c].payload.x: \"parameters.absent\"",
    ] {
        assert!(
            found.iter().any(|problem| problem.starts_with(part)),
            "{part}: {found:#?}"
        );
    }
    assert!(
        !found
            .iter()
            .any(|problem| problem.contains("finally[name=last].when")),
        "finally sees every stage: {found:#?}"
    );
    let unset = problems(
        json!({"parameters": [{"name": "count", "description": "How many."}], "stages": [stage("a", json!({}))]}),
        json!({}),
    );
    assert_eq!(
        unset,
        ["spec.parameters.count: \"\": the template needs a value; set it: How many."]
    );
    let many: Vec<Value> = (0..20)
        .map(|number| stage(&format!("s{number}"), json!({})))
        .collect();
    let found = problems(
        json!({"stages": many, "finally": [stage("z", json!({}))]}),
        json!({}),
    );
    assert!(found[0].contains("at most 20 stages"), "{found:?}");
}

#[test]
fn parameters_and_the_stages_of_finally_are_pinned_with_the_run() {
    let run = accepted(
        json!({
            "parameters": [{"name": "a", "default": {"deep": 1}}, {"name": "b", "default": 2}],
            "stages": [stage("x", json!({}))],
            "finally": [stage("y", json!({})), stage("z", json!({"needs": ["y"]}))],
        }),
        json!({"b": null}),
    );
    assert_eq!(
        Value::Object(run.parameters),
        json!({"a": {"deep": 1}, "b": null})
    );
    let stages: Vec<(&str, bool, usize)> = run
        .stages
        .iter()
        .map(|stage| (stage.name.as_str(), stage.finally, stage.needs.len()))
        .collect();
    assert_eq!(stages, [("x", false, 0), ("y", true, 0), ("z", true, 1)]);
    assert_eq!(run.template, "inline");
}
