//! What comes with the release.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stagecraft_api::payload::WorkKind;
use stagecraft_api::run::Run;
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_core::built_in;
use stagecraft_core::resolve::{Catalog, Refusal, resolve};

fn catalog() -> Catalog {
    let named = |(name, template): (&str, _)| (name.to_owned(), template);
    Catalog {
        types: built_in::templates().into_iter().map(named).collect(),
        agents: built_in::agents("toolchain")
            .into_iter()
            .map(|(name, agent)| (name.to_owned(), agent))
            .collect(),
        registry: true,
        ..Catalog::default()
    }
}

fn spec(kind: &str, parameters: &Value) -> WorkflowSpec {
    let spec = json!({"type": kind, "parameters": parameters, "project": {"requirements": ["It greets."]}});
    serde_json::from_value(spec).unwrap()
}

fn run(kind: &str) -> Run {
    resolve("flow", &spec(kind, &json!({})), &catalog()).unwrap_or_else(|error| panic!("{kind}: {error:?}"))
}

fn gates(run: &Run, stage: &str) -> String {
    let gates = &run.stage(stage).unwrap().gates;
    let told = gates
        .iter()
        .map(|gate| format!("{}{}{}", gate.metric, gate.operator.as_str(), gate.threshold));
    told.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_type_is_a_graph_of_the_built_in_agents() {
    let all = "scaffold:scaffold validate:validation e2e:e2e integrate:integration deploy:deployment";
    for (kind, expected) in [
        (
            "echo",
            "scaffold:echo validate:echo e2e:echo integrate:echo deploy:echo",
        ),
        ("app", all),
        ("service", all),
        ("feature", all),
        ("bugfix", all),
        (
            "capability",
            "scaffold:scaffold validate:validation integrate:integration",
        ),
    ] {
        let stages = run(kind).stages;
        let found = stages
            .iter()
            .map(|stage| format!("{}:{}", stage.name, stage.agent.name));
        assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{kind}");
    }
    let known: Vec<&str> = built_in::templates().into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        known,
        ["echo", "app", "service", "feature", "bugfix", "capability"]
    );
}

#[test]
fn the_first_stage_is_told_which_kind_of_work_is_wanted() {
    for kind in WorkKind::ALL {
        let run = run(kind.as_str());
        let payload = &run.stage("scaffold").unwrap().payload;
        assert_eq!(payload["kind"], kind.as_str());
    }
}

#[test]
fn what_a_change_does_not_pass_goes_back_to_be_made_better() {
    let sent_back = |kind: &str| {
        let run = run(kind);
        let repair = run.stage("validate").unwrap().repair.clone();
        repair.map(|repair| (repair.stage, repair.max_rounds))
    };
    for kind in ["feature", "bugfix"] {
        assert_eq!(sent_back(kind), Some(("scaffold".to_owned(), 3)), "{kind}");
    }
    for kind in ["app", "service", "capability"] {
        assert_eq!(sent_back(kind), None, "{kind}");
    }
}

#[test]
fn the_gates_are_those_of_the_kind_of_work() {
    let checks = "typescriptErrors<=0 lintErrors<=0 testsFailed<=0 testsPassed>=1 linesCovered>=80";
    let validate: BTreeMap<&str, String> = WorkKind::ALL
        .into_iter()
        .map(|kind| (kind.as_str(), gates(&run(kind.as_str()), "validate")))
        .collect();
    assert_eq!(validate["app"], format!("{checks} buildErrors<=0"));
    assert_eq!(validate["feature"], validate["app"]);
    assert_eq!(
        validate["bugfix"],
        format!("{checks} buildErrors<=0 testsSkipped<=0")
    );
    assert_eq!(validate["service"], checks);
    assert_eq!(validate["capability"], checks);
    let bugfix = run("bugfix");
    assert_eq!(gates(&bugfix, "e2e"), "e2eFailed<=0 e2ePassed>=1");
    assert_eq!(
        gates(&bugfix, "integrate"),
        "typescriptErrors<=0 testsFailed<=0 testsPassed>=1 buildErrors<=0"
    );
}

#[test]
fn work_on_a_project_names_its_branch() {
    for kind in ["feature", "bugfix", "capability"] {
        assert_eq!(run(kind).parameters["branch"], "main");
        let spec_of = |branch: &str| spec(kind, &json!({"branch": branch}));
        let own = resolve("flow", &spec_of("release-1.2"), &catalog()).unwrap();
        assert_eq!(own.parameters["branch"], "release-1.2");
        for (stage, field) in [("scaffold", "baseBranch"), ("integrate", "targetBranch")] {
            assert_eq!(
                own.stage(stage).unwrap().payload[field],
                "${{ parameters.branch }}"
            );
        }
        let refused = resolve("flow", &spec_of("-x"), &catalog());
        let Err(Refusal::Violations(violations)) = refused else {
            panic!("{kind}: {refused:?}")
        };
        assert_eq!(violations[0].field, "spec.parameters.branch");
    }
    let refused = resolve("flow", &spec("app", &json!({"branch": "main"})), &catalog());
    assert!(matches!(refused, Err(Refusal::Violations(_))), "{refused:?}");
}

/// Without a registry the work could only fail in its last stage.
#[test]
fn what_is_deployed_needs_a_registry() {
    let without = Catalog {
        registry: false,
        ..catalog()
    };
    for kind in ["app", "service", "feature", "bugfix"] {
        let Err(Refusal::Violations(found)) = resolve("flow", &spec(kind, &json!({})), &without) else {
            panic!("{kind}")
        };
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].remedy.contains("registry.host"), "{found:?}");
    }
    for kind in ["echo", "capability"] {
        assert!(
            resolve("flow", &spec(kind, &json!({})), &without).is_ok(),
            "{kind}"
        );
    }
}
