//! Values for the parameters of a template, and the expressions that read them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use stagecraft_api::error::truncate;
use stagecraft_api::template::{Parameter, WorkflowTemplateSpec};
use stagecraft_api::workflow::WorkflowSpec;

use crate::expression::{self, Expression};
use crate::graph::{Node, before};
use crate::reference::references;
use crate::resolve::{Violation, choices, violation};
use crate::schema::{Mismatch, check};

/// Every parameter with its value: the Workflow's, or else the template's.
pub(crate) fn resolve_parameters(
    spec: &WorkflowSpec,
    template: &WorkflowTemplateSpec,
    violations: &mut Vec<Violation>,
) -> Map<String, Value> {
    for (name, value) in &spec.parameters {
        if !template.parameters.iter().any(|known| known.name == *name) {
            let remedy = choices(
                template.parameters.iter().map(|known| &known.name),
                "it has none: remove the field",
            );
            violations.push(violation(
                format!("spec.parameters.{name}"),
                truncate(&value.to_string(), 80),
                format!("the template has no such parameter; {remedy}"),
            ));
        }
    }
    let mut values = Map::new();
    let mut names = BTreeSet::new();
    for parameter in &template.parameters {
        if !names.insert(&parameter.name) {
            violations.push(violation(
                format!("template.spec.parameters[name={}]", parameter.name),
                &parameter.name,
                "named twice; give each parameter a name of its own",
            ));
        }
        let (field, value) = match (spec.parameters.get(&parameter.name), &parameter.default) {
            (Some(value), _) => (format!("spec.parameters.{}", parameter.name), value),
            (None, Some(value)) => (
                format!("template.spec.parameters[name={}].default", parameter.name),
                value,
            ),
            (None, None) => {
                violations.push(violation(
                    format!("spec.parameters.{}", parameter.name),
                    "",
                    format!("the template needs a value; set it: {}", parameter.description),
                ));
                continue;
            }
        };
        check_value(parameter, &field, value, violations);
        values.insert(parameter.name.clone(), value.clone());
    }
    values
}

fn check_value(parameter: &Parameter, field: &str, value: &Value, violations: &mut Vec<Violation>) {
    let Some(schema) = &parameter.schema else { return };
    match check(schema, value) {
        Ok(()) => {}
        Err(Mismatch::Schema(error)) => violations.push(violation(
            format!("template.spec.parameters[name={}].schema", parameter.name),
            "",
            format!("is not a JSON Schema: {error}; correct the template"),
        )),
        Err(Mismatch::Value(problems)) => violations.extend(problems.into_iter().map(|problem| {
            violation(
                format!("{field}{}", problem.path),
                problem.value,
                format!(
                    "{}; see the schema of parameter {} in the template",
                    problem.what, parameter.name
                ),
            )
        })),
    }
}

/// The condition of a stage can be read, and names only what is known when the stage starts.
pub(crate) fn check_when(
    node: &Node<'_>,
    nodes: &[Node<'_>],
    template: &WorkflowTemplateSpec,
    violations: &mut Vec<Violation>,
) {
    if let Some(when) = &node.stage.when {
        let parsed = expression::parse(when);
        check_expression(
            &node.field("when"),
            when,
            parsed,
            node,
            nodes,
            template,
            violations,
        );
    }
}

/// The same for the references of a payload. Answers whether there are any.
pub(crate) fn check_references(
    payload: &Map<String, Value>,
    node: &Node<'_>,
    nodes: &[Node<'_>],
    template: &WorkflowTemplateSpec,
    violations: &mut Vec<Violation>,
) -> bool {
    let found = references(payload);
    let any = !found.is_empty();
    for (path, parsed) in found {
        let field = node.field(&format!("payload{path}"));
        check_expression(&field, "${{ ... }}", parsed, node, nodes, template, violations);
    }
    any
}

fn check_expression(
    field: &str,
    text: &str,
    parsed: Result<Expression, String>,
    node: &Node<'_>,
    nodes: &[Node<'_>],
    template: &WorkflowTemplateSpec,
    violations: &mut Vec<Violation>,
) {
    let expression = match parsed {
        Ok(expression) => expression,
        Err(error) => {
            violations.push(violation(field, truncate(text, 80), error));
            return;
        }
    };
    let known = before(nodes, node);
    for stage in expression.stages.difference(&known) {
        let remedy = choices(known.iter(), "this stage needs none");
        violations.push(violation(
            field,
            format!("stages.{stage}"),
            format!("an expression reads stages that are needed, directly or not; {remedy}"),
        ));
    }
    let parameters: BTreeSet<String> = template
        .parameters
        .iter()
        .map(|known| known.name.clone())
        .collect();
    for parameter in expression.parameters.difference(&parameters) {
        violations.push(violation(
            field,
            format!("parameters.{parameter}"),
            format!(
                "the template has no such parameter; {}",
                choices(parameters.iter(), "it has none")
            ),
        ));
    }
}
