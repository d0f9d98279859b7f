//! What an Agent and a model provider have to be for a stage, before anything runs.

use std::collections::BTreeSet;

use serde_json::Value;
use stagecraft_api::agent::{AgentSpec, Requirement};
use stagecraft_api::model::{Protocol, RunModel};
use stagecraft_api::provider::ProviderKind;
use stagecraft_api::quantity::billionths;
use stagecraft_api::run::RunStage;
use stagecraft_api::workflow::ModelChoice;

use crate::resolve::{Catalog, Violation, choices, violation};
use crate::schema::{Mismatch, check, validator};

/// The provider is there, calls models, and allows the one that is wanted.
pub(crate) fn find_model(
    choice: &ModelChoice,
    catalog: &Catalog,
    violations: &mut Vec<Violation>,
) -> Option<RunModel> {
    let ModelChoice { provider, model } = choice;
    let Some(found) = catalog.providers.get(provider) else {
        let none = "there is none in this namespace; create a ModelProvider of that name";
        let remedy = choices(catalog.providers.keys(), none);
        let remedy = format!("no such ModelProvider in this namespace; {remedy}");
        violations.push(violation("spec.model.provider", provider, remedy));
        return None;
    };
    let protocol = match found.provider {
        ProviderKind::Anthropic => Some(Protocol::Anthropic),
        ProviderKind::Openai => Some(Protocol::Openai),
        ProviderKind::Builtin => None,
    };
    let Some(protocol) = protocol else {
        let remedy = "the built-in provider calls no model; name another, or remove spec.model";
        violations.push(violation("spec.model.provider", provider, remedy));
        return None;
    };
    let allowed: BTreeSet<&String> = found.allowed_models.iter().chain(&found.model).collect();
    if let Some(model) = model
        && !allowed.contains(model)
    {
        let remedy = format!(
            "ModelProvider {provider} does not allow it; {}",
            choices(
                allowed.into_iter(),
                "add it to spec.allowedModels of the ModelProvider"
            )
        );
        violations.push(violation("spec.model.model", model, remedy));
    }
    Some(RunModel {
        provider: provider.clone(),
        model: model.clone(),
        protocol,
    })
}

/// The installation and the Workflow have what the Agent needs, and it asks for nothing that it may not have.
pub(crate) fn check_requirements(
    field: &str,
    name: &str,
    agent: &AgentSpec,
    has_model: bool,
    catalog: &Catalog,
    violations: &mut Vec<Violation>,
) {
    if agent.requires.contains(&Requirement::Registry) && !catalog.registry {
        violations.push(violation(
            field,
            name,
            "this agent pushes images and the installation names no registry; set the chart's value registry.host to one \
             that the nodes can pull from",
        ));
    }
    if agent.requires.contains(&Requirement::Model) && !has_model {
        violations.push(violation(
            field,
            name,
            "this agent calls models; set spec.model.provider to a ModelProvider of the Workflow's namespace",
        ));
    }
    if !agent.permissions.is_empty() && catalog.own_agents.contains(name) {
        violations.push(violation(
            field,
            name,
            "this Agent asks for permissions, which only Agents in the release's namespace may have; have an administrator \
             create it there, or remove its permissions",
        ));
    }
}

/// An Agent whose schemas are none would fail when its work is done.
pub(crate) fn check_schemas(name: &str, agent: &AgentSpec, violations: &mut Vec<Violation>) {
    for (field, schema) in [
        ("payloadSchema", &agent.payload_schema),
        ("outputsSchema", &agent.outputs_schema),
    ] {
        if let Some(Err(error)) = schema.as_ref().map(validator) {
            violations.push(violation(
                format!("Agent {name}: spec.{field}"),
                "",
                format!("is not a JSON Schema: {error}; correct the Agent"),
            ));
        }
    }
}

/// Kubernetes takes no Pod that asks for more than it may have.
pub(crate) fn check_resources(stage: &RunStage, violations: &mut Vec<Violation>) {
    let resources = stage.agent.resources.with_defaults();
    for (name, request) in &resources.requests {
        let Some(limit) = resources.limits.get(name) else {
            continue;
        };
        if billionths(request) > billionths(limit) {
            violations.push(violation(
                format!("stages[name={}].resources.requests.{name}", stage.name),
                request,
                format!(
                    "is more than the limit of {limit}: lower it, or raise limits.{name}, in the stage or in Agent {}",
                    stage.agent.name
                ),
            ));
        }
    }
}

pub(crate) fn check_payload(stage: &RunStage, agent: &AgentSpec, violations: &mut Vec<Violation>) {
    let Some(schema) = &agent.payload_schema else {
        return;
    };
    let name = &stage.agent.name;
    match check(schema, &Value::Object(stage.payload.clone())) {
        // The schema has been looked at.
        Ok(()) | Err(Mismatch::Schema(_)) => {}
        Err(Mismatch::Value(problems)) => violations.extend(problems.into_iter().map(|problem| {
            violation(
                format!("stages[name={}].payload{}", stage.name, problem.path),
                problem.value,
                format!("{}; see payloadSchema of Agent {name}", problem.what),
            )
        })),
    }
}
