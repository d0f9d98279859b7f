//! From a request to a run, or to everything that is wrong with it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use stagecraft_api::agent::{AgentSpec, Requirement};
use stagecraft_api::gate::Gate;
use stagecraft_api::limit;
use stagecraft_api::provider::ModelProviderSpec;
use stagecraft_api::run::{Run, RunAgent, RunProject, RunStage};
use stagecraft_api::template::WorkflowTemplateSpec;
use stagecraft_api::workflow::{StageOverride, WorkflowSpec};

use crate::checks::{check_payload, check_requirements, check_resources, check_schemas, find_model};
use crate::graph::{Node, check_approvals, check_graph, check_inputs, check_repairs, nodes};
use crate::parameters::{check_references, check_when, resolve_parameters};
use crate::size::{check_run, check_spec};

/// What a Workflow can refer to: its own namespace's objects laid over the release's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Templates of the release that came with Stagecraft: the values of `spec.type`.
    pub types: BTreeMap<String, WorkflowTemplateSpec>,
    /// Every template that `spec.templateRef` can name.
    pub templates: BTreeMap<String, WorkflowTemplateSpec>,
    pub agents: BTreeMap<String, AgentSpec>,
    /// Names of those of the Agents that the Workflow's namespace has itself.
    pub own_agents: BTreeSet<String>,
    /// Model providers of the Workflow's own namespace.
    pub providers: BTreeMap<String, ModelProviderSpec>,
    /// Whether `registry.host` is set.
    pub registry: bool,
}

/// Why a request does not become a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is nothing to do. The Workflow fails at once.
    NoRequirements,
    /// The author, or the catalog, has to change something. The Workflow waits for that.
    Violations(Vec<Violation>),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field.
    pub field: String,
    /// Its value, as the author wrote it.
    pub value: String,
    /// What is wrong and what to do about it.
    pub remedy: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {:?}: {}", self.field, self.value, self.remedy)
    }
}

/// The message of a Workflow without requirements. Programs look for it: it never changes.
pub const NO_REQUIREMENTS: &str = "Project requirements cannot be empty";

/// What the status of a Workflow that brings its stages itself calls its template.
pub const INLINE: &str = "inline";

/// Turns the request of the Workflow `name` into a run.
pub fn resolve(name: &str, spec: &WorkflowSpec, catalog: &Catalog) -> Result<Run, Refusal> {
    let requirements: Vec<String> = spec
        .project
        .requirements
        .iter()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .collect();
    if requirements.is_empty() {
        return Err(Refusal::NoRequirements);
    }

    let mut violations = Vec::new();
    if !check_spec(spec, &mut violations) {
        return Err(Refusal::Violations(violations));
    }
    if let Some(retry) = &spec.retry {
        violations.push(violation(
            "spec.retry",
            format!("from {}, run {}", retry.from, retry.run),
            "there is no run yet to follow upon; set it once the Workflow has ended",
        ));
    }
    let model = spec
        .model
        .as_ref()
        .and_then(|choice| find_model(choice, catalog, &mut violations));
    let found = find_template(spec, catalog, &mut violations);
    let resolved = found.as_ref().map(|(_, template)| {
        let nodes = nodes(template);
        check_overrides(&spec.stages, &nodes, &mut violations);
        check_graph(&nodes, &mut violations);
        check_inputs(&nodes, &mut violations);
        check_repairs(&nodes, &mut violations);
        check_approvals(spec, &nodes, &mut violations);
        let parameters = resolve_parameters(spec, template, &mut violations);
        (
            parameters,
            resolve_stages(spec, &nodes, template, catalog, &mut violations),
        )
    });
    let run = found
        .zip(resolved)
        .map(|((template, _), (parameters, stages))| Run {
            template: template.to_owned(),
            project: RunProject {
                name: spec.project.name.clone().unwrap_or_else(|| name.to_owned()),
                description: spec.project.description.trim().to_owned(),
                requirements,
            },
            priority: spec.priority,
            deadline_seconds: spec.deadline_seconds,
            model: model.clone(),
            budget: spec.budget,
            parameters,
            stages,
        });
    if let Some(run) = &run {
        check_run(run, &mut violations);
    }
    match run {
        Some(run) if violations.is_empty() => Ok(run),
        _ => Err(Refusal::Violations(violations)),
    }
}

pub(crate) fn violation(
    field: impl Into<String>,
    value: impl Into<String>,
    remedy: impl Into<String>,
) -> Violation {
    Violation {
        field: field.into(),
        value: value.into(),
        remedy: remedy.into(),
    }
}

/// "choose one of: a, b", or that there is none.
pub(crate) fn choices<'a>(names: impl Iterator<Item = &'a String>, none: &str) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() {
        none.to_owned()
    } else {
        format!("choose one of: {}", names.join(", "))
    }
}

fn find_template<'a>(
    spec: &'a WorkflowSpec,
    catalog: &'a Catalog,
    violations: &mut Vec<Violation>,
) -> Option<(&'a str, &'a WorkflowTemplateSpec)> {
    let (field, name, templates, remedy) = match (&spec.type_, &spec.template_ref, &spec.template) {
        (None, None, Some(template)) => return Some((INLINE, template)),
        (Some(name), None, None) => {
            let remedy = choices(
                catalog.types.keys(),
                "this installation has no built-in types yet; use templateRef with a template of your own",
            );
            ("spec.type", name, &catalog.types, remedy)
        }
        (None, Some(reference), None) => {
            let remedy = choices(
                catalog.templates.keys(),
                "there is none in this namespace or the release's; create a WorkflowTemplate of that name",
            );
            (
                "spec.templateRef.name",
                &reference.name,
                &catalog.templates,
                remedy,
            )
        }
        _ => {
            violations.push(violation(
                "spec.type",
                "",
                "set exactly one of type, templateRef and template",
            ));
            return None;
        }
    };
    let template = templates.get(name);
    if template.is_none() {
        violations.push(violation(field, name, format!("no such template; {remedy}")));
    }
    template.map(|template| (name.as_str(), template))
}

fn check_overrides(overrides: &[StageOverride], nodes: &[Node<'_>], violations: &mut Vec<Violation>) {
    let mut seen = BTreeSet::new();
    for (index, stage) in overrides.iter().enumerate() {
        let field = format!("spec.stages[{index}].name");
        if !nodes.iter().any(|known| known.stage.name == stage.name) {
            let remedy = choices(
                nodes.iter().map(|known| &known.stage.name),
                "the template has no stages",
            );
            violations.push(violation(
                &field,
                &stage.name,
                format!("the template has no such stage; {remedy}"),
            ));
        }
        if !seen.insert(&stage.name) {
            violations.push(violation(
                &field,
                &stage.name,
                "named twice; keep one entry for each stage",
            ));
        }
    }
}

fn resolve_stages(
    spec: &WorkflowSpec,
    nodes: &[Node<'_>],
    template: &WorkflowTemplateSpec,
    catalog: &Catalog,
    violations: &mut Vec<Violation>,
) -> Vec<RunStage> {
    let mut stages = Vec::new();
    for node in nodes {
        let change = spec
            .stages
            .iter()
            .enumerate()
            .find(|(_, change)| change.name == node.stage.name);
        check_when(node, nodes, template, violations);
        let resolved = resolve_stage(node, change, spec.model.is_some(), catalog, violations);
        if let Some((stage, agent)) = &resolved {
            check_schemas(&stage.agent.name, agent, violations);
            check_resources(stage, violations);
        }
        if let Some((mut stage, agent)) = resolved {
            let refers = check_references(&stage.payload, node, nodes, template, violations);
            if refers {
                stage.payload_schema.clone_from(&agent.payload_schema);
            } else {
                check_payload(&stage, agent, violations);
            }
            stages.push(stage);
        }
    }
    stages
}

fn resolve_stage<'a>(
    node: &Node<'_>,
    change: Option<(usize, &StageOverride)>,
    has_model: bool,
    catalog: &'a Catalog,
    violations: &mut Vec<Violation>,
) -> Option<(RunStage, &'a AgentSpec)> {
    let stage = node.stage;
    let changed_agent = change.and_then(|(at, change)| change.agent.as_ref().map(|agent| (at, agent)));
    let (field, agent_name) = match changed_agent {
        Some((at, agent)) => (format!("spec.stages[{at}].agent"), agent),
        None => (node.field("agent"), &stage.agent),
    };
    let Some(agent) = catalog.agents.get(agent_name) else {
        let remedy = choices(
            catalog.agents.keys(),
            "there is none in this namespace or the release's",
        );
        violations.push(violation(field, agent_name, format!("no such Agent; {remedy}")));
        return None;
    };
    check_requirements(&field, agent_name, agent, has_model, catalog, violations);
    let gates = gates(
        &stage.gates,
        change.map_or(&[], |(_, change)| change.gates.as_slice()),
    );
    if gates.len() > limit::GATES {
        violations.push(violation(
            format!("spec.stages[name={}].gates", stage.name),
            format!("{} gates with the template's", gates.len()),
            format!("a stage has at most {} gates: leave some out", limit::GATES),
        ));
    }
    let mut payload = stage.payload.clone();
    payload.extend(
        change
            .and_then(|(_, change)| change.payload.clone())
            .unwrap_or_default(),
    );
    let resources = change
        .map(|(_, change)| change.resources.clone())
        .unwrap_or_default()
        .or(&stage.resources)
        .or(&agent.resources);
    let resolved = RunStage {
        name: stage.name.clone(),
        needs: node.needs.clone(),
        when: stage.when.clone(),
        finally: node.finally,
        approval: stage.approval.clone(),
        phase: stage.phase,
        timeout_seconds: change
            .and_then(|(_, change)| change.timeout_seconds)
            .unwrap_or(stage.timeout_seconds),
        retries: change
            .and_then(|(_, change)| change.retries)
            .unwrap_or(stage.retries),
        retry_policy: change
            .map(|(_, change)| change.retry_policy.clone())
            .unwrap_or_default()
            .or(&stage.retry_policy),
        budget: change
            .map(|(_, change)| change.budget)
            .unwrap_or_default()
            .or(stage.budget),
        payload,
        payload_schema: None,
        gates,
        repair: stage.repair.clone(),
        inputs: stage.inputs.clone(),
        agent: RunAgent {
            resources,
            ..run_agent(
                agent_name,
                agent,
                has_model,
                catalog.own_agents.contains(agent_name),
            )
        },
    };
    Some((resolved, agent))
}

/// The template's gates, each replaced by the Workflow's of the same metric, and the Workflow's further ones.
fn gates(template: &[Gate], own: &[Gate]) -> Vec<Gate> {
    let kept = |gate: &&Gate| !own.iter().any(|own| own.metric == gate.metric);
    template.iter().filter(kept).chain(own).cloned().collect()
}

fn run_agent(name: &str, agent: &AgentSpec, has_model: bool, own: bool) -> RunAgent {
    let AgentSpec {
        description: _,
        version,
        image,
        command,
        env,
        resources,
        payload_schema: _,
        outputs_schema,
        requires,
        uses,
        workspace,
        permissions,
        max_running,
    } = agent.clone();
    RunAgent {
        name: name.to_owned(),
        version,
        image,
        command,
        env,
        resources,
        outputs_schema,
        workspace,
        permissions,
        needs_model: requires.contains(&Requirement::Model)
            || (has_model && uses.contains(&Requirement::Model)),
        own,
        max_running,
    }
}
