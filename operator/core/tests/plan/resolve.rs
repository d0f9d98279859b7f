use serde_json::{Value, json};
use stagecraft_api::agent::{AgentSpec, Requirement};
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_core::resolve::{Catalog, Refusal, Violation, resolve};

use crate::fixture::{catalog, object, run, spec, template, worker};

/// The spec with some of its fields laid over.
fn spec_with(changes: Value) -> WorkflowSpec {
    let mut value = serde_json::to_value(spec()).unwrap();
    for (field, change) in object(changes) {
        value[field] = change;
    }
    serde_json::from_value(value).unwrap()
}

fn violations(spec: &WorkflowSpec, catalog: &Catalog) -> Vec<Violation> {
    match resolve("flow", spec, catalog) {
        Err(Refusal::Violations(violations)) => violations,
        other => panic!("{other:?}"),
    }
}

/// Each expected text is part of the violation in its place.
fn check(spec: &WorkflowSpec, catalog: &Catalog, expected: &[(&str, &str, &str)]) {
    let found = violations(spec, catalog);
    let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), expected.len(), "{texts:#?}");
    for (violation, (field, value, remedy)) in found.iter().zip(expected) {
        assert_eq!(violation.field, *field, "{texts:#?}");
        assert_eq!(violation.value, *value, "{texts:#?}");
        assert!(violation.remedy.contains(remedy), "{texts:#?}");
    }
}

#[test]
fn a_request_without_requirements_is_refused_whatever_else_is_wrong() {
    for requirements in [json!([]), json!([""]), json!([" ", "\n\t"])] {
        let spec =
            spec_with(json!({"project": {"requirements": requirements}, "templateRef": {"name": "none"}}));
        let refusal = resolve("flow", &spec, &Catalog::default());
        assert_eq!(refusal, Err(Refusal::NoRequirements), "{spec:?}");
    }
    let absent = spec_with(json!({"project": {}}));
    assert_eq!(
        resolve("flow", &absent, &catalog("a")),
        Err(Refusal::NoRequirements)
    );
}

#[test]
fn requirements_are_trimmed_and_blank_ones_left_out() {
    let spec = spec_with(json!({"project": {"requirements": [" one ", "", "two\n"]}}));
    let run = resolve("flow", &spec, &catalog("a")).unwrap();
    assert_eq!(run.project.requirements, vec!["one", "two"]);
    assert_eq!(run.project.name, "flow", "the Workflow's name is the default");
}

#[test]
fn exactly_one_of_type_and_template_is_wanted() {
    let both = spec_with(json!({"type": "app"}));
    let neither = WorkflowSpec {
        template_ref: None,
        ..spec()
    };
    for spec in [both, neither] {
        check(
            &spec,
            &catalog("a"),
            &[("spec.type", "", "exactly one of type, templateRef and template")],
        );
    }
}

#[test]
fn an_unknown_template_is_answered_with_the_known_ones() {
    let unknown = spec_with(json!({"templateRef": {"name": "hers"}}));
    check(
        &unknown,
        &catalog("a"),
        &[("spec.templateRef.name", "hers", "choose one of: mine")],
    );
    check(
        &unknown,
        &Catalog::default(),
        &[("spec.templateRef.name", "hers", "create a WorkflowTemplate")],
    );
}

#[test]
fn a_type_names_a_template_that_came_with_the_release_only() {
    let mut spec = spec_with(json!({"type": "mine"}));
    spec.template_ref = None;
    check(
        &spec,
        &catalog("a"),
        &[("spec.type", "mine", "no built-in types yet")],
    );
    let mut types = catalog("a");
    types.types.insert("mine".into(), template("a, b"));
    assert_eq!(resolve("flow", &spec, &types).unwrap().stages.len(), 2);
    spec.type_ = Some("other".into());
    check(&spec, &types, &[("spec.type", "other", "choose one of: mine")]);
}

#[test]
fn a_stage_needs_the_one_before_it_unless_it_says_otherwise() {
    let run = run("a, b, c: a, d: b c, e:");
    let needs: Vec<String> = run.stages.iter().map(|stage| stage.needs.join(" ")).collect();
    assert_eq!(needs, vec!["", "a", "a", "b c", ""]);
}

#[test]
fn overrides_change_what_they_name_and_nothing_else() {
    let mut catalog = catalog("a, b");
    catalog.agents.insert("other".into(), worker());
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[1].payload = object(json!({"kept": 1, "changed": {"deep": 1}}));
    let spec = spec_with(json!({"stages": [{
        "name": "b", "agent": "other", "timeoutSeconds": 7, "retries": 0, "payload": {"changed": 2, "added": 3}
    }]}));
    let run = resolve("flow", &spec, &catalog).unwrap();
    assert_eq!(run.stages[0], self::run("a, b").stages[0]);
    let changed = &run.stages[1];
    assert_eq!(
        (
            changed.agent.name.as_str(),
            changed.timeout_seconds,
            changed.retries
        ),
        ("other", 7, 0)
    );
    assert_eq!(
        changed.payload,
        object(json!({"kept": 1, "changed": 2, "added": 3}))
    );
}

#[test]
fn overrides_must_name_stages_of_the_template_once() {
    let spec = spec_with(json!({"stages": [{"name": "a"}, {"name": "x"}, {"name": "a"}]}));
    check(
        &spec,
        &catalog("a, b"),
        &[
            ("spec.stages[1].name", "x", "choose one of: a, b"),
            ("spec.stages[2].name", "a", "named twice"),
        ],
    );
}

#[test]
fn an_unknown_agent_is_reported_where_it_is_named() {
    let mut catalog = catalog("a, b");
    catalog.templates.get_mut("mine").unwrap().stages[0].agent = "ghost".into();
    let spec = spec_with(json!({"stages": [{"name": "b", "agent": "phantom"}]}));
    check(
        &spec,
        &catalog,
        &[
            (
                "template.spec.stages[name=a].agent",
                "ghost",
                "choose one of: worker",
            ),
            ("spec.stages[0].agent", "phantom", "choose one of: worker"),
        ],
    );
}

#[test]
fn a_payload_is_checked_against_the_schema_of_its_agent_after_the_overrides() {
    let mut catalog = catalog("a");
    let agent: AgentSpec = serde_json::from_value(json!({
        "command": ["work"],
        "payloadSchema": {
            "type": "object", "required": ["path"], "additionalProperties": false,
            "properties": {"path": {"type": "string"}, "count": {"type": "integer", "maximum": 3}}
        }
    }))
    .unwrap();
    catalog.agents.insert("worker".into(), agent);
    check(
        &spec(),
        &catalog,
        &[("stages[name=a].payload", "{}", "\"path\" is a required property")],
    );
    let wrong =
        spec_with(json!({"stages": [{"name": "a", "payload": {"path": 1, "count": 4, "colour": "red"}}]}));
    let found = violations(&wrong, &catalog);
    let fields: Vec<&str> = found.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(fields.contains(&"stages[name=a].payload.path"), "{fields:?}");
    assert!(fields.contains(&"stages[name=a].payload.count"), "{fields:?}");
    assert!(
        found
            .iter()
            .all(|violation| violation.remedy.contains("payloadSchema of Agent worker"))
    );
    let right = spec_with(json!({"stages": [{"name": "a", "payload": {"path": "x", "count": 3}}]}));
    assert!(resolve("flow", &right, &catalog).is_ok());
}

#[test]
fn a_broken_payload_schema_is_the_agents_fault() {
    let mut catalog = catalog("a");
    catalog.agents.get_mut("worker").unwrap().payload_schema = Some(object(json!({"type": "sausage"})));
    check(
        &spec(),
        &catalog,
        &[("Agent worker: spec.payloadSchema", "", "correct the Agent")],
    );
}

#[test]
fn an_agent_that_pushes_images_needs_a_registry() {
    let mut catalog = catalog("a");
    catalog.agents.get_mut("worker").unwrap().requires = vec![Requirement::Registry];
    check(
        &spec(),
        &catalog,
        &[("template.spec.stages[name=a].agent", "worker", "registry.host")],
    );
    catalog.registry = true;
    assert!(resolve("flow", &spec(), &catalog).is_ok());
}

#[test]
fn an_agent_that_calls_models_needs_a_provider() {
    let mut catalog = catalog("a");
    catalog.agents.get_mut("worker").unwrap().requires = vec![Requirement::Model];
    check(
        &spec(),
        &catalog,
        &[(
            "template.spec.stages[name=a].agent",
            "worker",
            "set spec.model.provider",
        )],
    );
    let provider = json!({"provider": "openai", "model": "small"});
    catalog
        .providers
        .insert("ours".to_owned(), serde_json::from_value(provider).unwrap());
    let with = spec_with(json!({"model": {"provider": "ours"}}));
    assert!(resolve("flow", &with, &catalog).is_ok());
}

#[test]
fn a_model_is_one_that_a_provider_of_the_namespace_allows() {
    let mut catalog = catalog("a");
    let asked = |model: Value| spec_with(json!({"model": model}));
    let none = "there is none in this namespace; create a ModelProvider of that name";
    check(
        &asked(json!({"provider": "ours"})),
        &catalog,
        &[("spec.model.provider", "ours", none)],
    );
    for (name, provider) in [
        ("plain", json!({"provider": "builtin"})),
        (
            "ours",
            json!({"provider": "anthropic", "model": "small", "allowedModels": ["small", "large"]}),
        ),
    ] {
        let provider = serde_json::from_value(provider).unwrap();
        catalog.providers.insert(name.to_owned(), provider);
    }
    check(
        &asked(json!({"provider": "theirs"})),
        &catalog,
        &[("spec.model.provider", "theirs", "choose one of: ours, plain")],
    );
    check(
        &asked(json!({"provider": "plain"})),
        &catalog,
        &[("spec.model.provider", "plain", "calls no model")],
    );
    check(
        &asked(json!({"provider": "ours", "model": "huge"})),
        &catalog,
        &[(
            "spec.model.model",
            "huge",
            "does not allow it; choose one of: large, small",
        )],
    );
    for model in [
        json!({"provider": "ours"}),
        json!({"provider": "ours", "model": "large"}),
    ] {
        let run = resolve("flow", &asked(model.clone()), &catalog).unwrap();
        let mut expected = model;
        expected["protocol"] = json!("anthropic");
        assert_eq!(serde_json::to_value(run.model).unwrap(), expected);
    }
}

#[test]
fn an_agent_that_uses_models_waits_for_them_only_where_the_workflow_has_one() {
    let mut catalog = catalog("a");
    catalog.agents.get_mut("worker").unwrap().uses = vec![Requirement::Model];
    let provider = json!({"provider": "openai", "model": "small"});
    catalog
        .providers
        .insert("ours".to_owned(), serde_json::from_value(provider).unwrap());
    for (spec, expected) in [(json!({}), false), (json!({"model": {"provider": "ours"}}), true)] {
        let run = resolve("flow", &spec_with(spec), &catalog).unwrap();
        assert_eq!(run.stage("a").unwrap().agent.needs_model, expected);
    }
}

#[test]
fn resources_are_the_workflows_laid_over_the_templates_and_the_agents() {
    let mut catalog = catalog("a");
    let agent = catalog.agents.get_mut("worker").unwrap();
    agent.resources =
        serde_json::from_value(json!({"limits": {"memory": "1Gi", "cpu": "1", "ephemeral-storage": "1Gi"}}))
            .unwrap();
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[0].resources =
        serde_json::from_value(json!({"limits": {"memory": "2Gi", "cpu": "2"}})).unwrap();
    let spec = spec_with(json!({
        "stages": [{"name": "a", "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi"}}}],
    }));
    let run = resolve("flow", &spec, &catalog).unwrap();
    assert_eq!(
        serde_json::to_value(&run.stage("a").unwrap().agent.resources).unwrap(),
        json!({
            "requests": {"cpu": "500m"},
            "limits": {"memory": "4Gi", "cpu": "2", "ephemeral-storage": "1Gi"},
        })
    );
}

#[test]
fn a_stage_cannot_ask_for_more_than_it_may_have() {
    let with = |agent: Value, template: Value, own: Value| {
        let mut catalog = catalog("a");
        catalog.agents.get_mut("worker").unwrap().resources = serde_json::from_value(agent).unwrap();
        let stage = &mut catalog.templates.get_mut("mine").unwrap().stages[0];
        stage.resources = serde_json::from_value(template).unwrap();
        (
            spec_with(json!({"stages": [{"name": "a", "resources": own}]})),
            catalog,
        )
    };
    let memory = "stages[name=a].resources.requests.memory";
    for (agent, template, own, field, value, limit) in [
        (
            json!({"requests": {"memory": "2Gi"}}),
            json!({}),
            json!({}),
            memory,
            "2Gi",
            "the limit of 1Gi",
        ),
        (
            json!({"requests": {"memory": "512Mi"}}),
            json!({"limits": {"memory": "511Mi"}}),
            json!({}),
            memory,
            "512Mi",
            "the limit of 511Mi",
        ),
        (
            json!({"limits": {"cpu": "1"}}),
            json!({}),
            json!({"requests": {"cpu": "1001m"}}),
            "stages[name=a].resources.requests.cpu",
            "1001m",
            "the limit of 1",
        ),
    ] {
        let (spec, catalog) = with(agent, template, own);
        check(&spec, &catalog, &[(field, value, limit)]);
    }
    for (agent, template, own) in [
        (json!({}), json!({"limits": {"memory": "16Mi"}}), json!({})),
        (
            json!({"limits": {"cpu": "1"}}),
            json!({"requests": {"cpu": "1000m"}}),
            json!({}),
        ),
        (json!({"requests": {"cpu": "64"}}), json!({}), json!({})),
    ] {
        let (spec, catalog) = with(agent, template, own);
        assert!(resolve("flow", &spec, &catalog).is_ok());
    }
}

#[test]
fn the_retry_policy_of_a_stage_is_the_workflows_laid_over_the_templates() {
    let mut catalog = catalog("a");
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[0].retry_policy =
        serde_json::from_value(json!({"resource": 1, "model": 2, "backoff": {"baseSeconds": 7}})).unwrap();
    let spec = spec_with(json!({
        "stages": [{"name": "a", "retryPolicy": {"model": 5, "timeout": 0}}],
    }));
    let run = resolve("flow", &spec, &catalog).unwrap();
    assert_eq!(
        serde_json::to_value(&run.stage("a").unwrap().retry_policy).unwrap(),
        json!({
            "resource": 1, "model": 5, "timeout": 0,
            "backoff": {"baseSeconds": 7, "factor": 2, "capSeconds": 60},
        })
    );
}

#[test]
fn budgets_of_stages_are_the_workflows_laid_over_the_templates() {
    let mut catalog = catalog("a");
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[0].budget = serde_json::from_value(json!({"tokens": 10, "calls": 3})).unwrap();
    let spec = spec_with(json!({
        "budget": {"cost": 5_000_000},
        "stages": [{"name": "a", "budget": {"tokens": 20}}],
    }));
    let run = resolve("flow", &spec, &catalog).unwrap();
    assert_eq!(run.budget.cost, Some(5_000_000));
    let stage = run.stage("a").unwrap().budget;
    assert_eq!((stage.tokens, stage.calls, stage.cost), (Some(20), Some(3), None));
}

#[test]
fn a_graph_that_cannot_end_is_refused() {
    let cycle = "these stages wait for each other in a cycle";
    for (text, stages) in [
        ("a: a", "a"),
        ("a: c, b, c", "a, b, c"),
        ("a:, b: c, c: b", "b, c"),
    ] {
        check(
            &spec(),
            &catalog(text),
            &[("template.spec.stages[*].needs", stages, cycle)],
        );
    }
    check(
        &spec(),
        &catalog("a, b: x"),
        &[("template.spec.stages[name=b].needs", "x", "choose one of: a, b")],
    );
    check(
        &spec(),
        &catalog("a, initialize, a"),
        &[
            (
                "template.spec.stages[1].name",
                "initialize",
                "taken by Stagecraft",
            ),
            ("template.spec.stages[2].name", "a", "named twice"),
            (
                "template.spec.stages[*].needs",
                "a, initialize",
                "wait for each other",
            ),
        ],
    );
    let mut empty = catalog("a");
    empty.templates.get_mut("mine").unwrap().stages.clear();
    check(
        &spec(),
        &empty,
        &[("template.spec.stages", "", "add at least one")],
    );
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let spec = spec_with(json!({
        "project": {"requirements": ["r".repeat(130 * 1024)]},
        "stages": [{"name": "x"}, {"name": "a", "agent": "ghost"}],
    }));
    check(
        &spec,
        &catalog("a, b: y"),
        &[
            ("spec", "133256 bytes", "at most 73728 bytes"),
            ("spec.stages[0].name", "x", "choose one of"),
            ("template.spec.stages[name=b].needs", "y", "choose one of"),
            ("spec.stages[1].agent", "ghost", "choose one of: worker"),
        ],
    );
}

#[test]
fn a_violation_names_field_value_and_remedy() {
    let unknown = spec_with(json!({"templateRef": {"name": "hers"}}));
    assert_eq!(
        violations(&unknown, &catalog("a"))[0].to_string(),
        "spec.templateRef.name: \"hers\": no such template; choose one of: mine"
    );
}

#[test]
fn a_task_that_would_not_fit_an_annotation_is_refused() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let mut catalog = catalog(&names.join(", "));
    let spec = spec_with(json!({"project": {"requirements": ["r".repeat(60 * 1024)]}}));
    assert!(resolve("flow", &spec, &catalog).is_ok());
    let template = catalog.templates.get_mut("mine").unwrap();
    template.stages[3].payload = object(json!({"text": "t".repeat(60 * 1024)}));
    let found = violations(&spec, &catalog);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].field, "stages[name=s3]");
    assert!(found[0].remedy.contains("write long texts into the workspace"));
}

#[test]
fn a_run_that_would_not_fit_a_config_map_is_refused() {
    let mut catalog = catalog("a, b, c, d, e, f");
    let text = "t".repeat(200 * 1024);
    for stage in &mut catalog.templates.get_mut("mine").unwrap().stages {
        stage.payload = object(json!({"text": text}));
    }
    let found = violations(&spec(), &catalog);
    assert!(
        found[0].value.contains("bytes with its template and Agents"),
        "{found:?}"
    );
}

#[test]
fn an_agent_whose_schemas_are_none_is_found_before_any_stage_runs() {
    for field in ["payloadSchema", "outputsSchema"] {
        let mut catalog = catalog("a");
        let agent = catalog.agents.get_mut("worker").unwrap();
        let schema = Some(object(json!({"type": "strange"})));
        if field == "payloadSchema" {
            agent.payload_schema = schema;
        } else {
            agent.outputs_schema = schema;
        }
        // What a payload refers to is known only later; its schema is looked at all the same.
        let payload = json!({"stages": [{"name": "a", "payload": {"of": "${{ repair.round }}"}}]});
        for spec in [json!({}), payload] {
            let name = format!("Agent worker: spec.{field}");
            check(&spec_with(spec), &catalog, &[(&name, "", "is not a JSON Schema")]);
        }
    }
}
