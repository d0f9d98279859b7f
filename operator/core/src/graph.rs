//! The stages of a template as a graph.

use std::collections::{BTreeMap, BTreeSet};

use stagecraft_api::approval::{ApprovalKind, SelfApproval};
use stagecraft_api::limit;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::template::{StageSpec, WorkflowTemplateSpec};
use stagecraft_api::workflow::WorkflowSpec;

use crate::resolve::{Violation, choices, violation};

/// A stage with its place among the others.
pub(crate) struct Node<'a> {
    pub(crate) stage: &'a StageSpec,
    /// What it says, or else the stage before it; in `finally` none.
    pub(crate) needs: Vec<String>,
    pub(crate) finally: bool,
    /// Place in its list.
    index: usize,
}

impl Node<'_> {
    /// Path of its name, which may not be its own alone.
    fn name_field(&self) -> String {
        let list = if self.finally { "finally" } else { "stages" };
        format!("template.spec.{list}[{}].name", self.index)
    }

    /// Path of a field of the stage.
    pub(crate) fn field(&self, name: &str) -> String {
        let list = if self.finally { "finally" } else { "stages" };
        format!("template.spec.{list}[name={}].{name}", self.stage.name)
    }
}

/// The stages in their order, those of `finally` last.
pub(crate) fn nodes(template: &WorkflowTemplateSpec) -> Vec<Node<'_>> {
    let mut nodes: Vec<Node<'_>> = Vec::new();
    for (index, stage) in template.stages.iter().enumerate() {
        let before = nodes.last().map(|node| node.stage.name.clone());
        nodes.push(Node {
            stage,
            needs: stage
                .needs
                .clone()
                .unwrap_or_else(|| before.into_iter().collect()),
            finally: false,
            index,
        });
    }
    nodes.extend(template.finally.iter().enumerate().map(|(index, stage)| Node {
        stage,
        needs: stage.needs.clone().unwrap_or_default(),
        finally: true,
        index,
    }));
    nodes
}

/// Everything that keeps the stages from following each other to an end.
pub(crate) fn check_graph(nodes: &[Node<'_>], violations: &mut Vec<Violation>) {
    if nodes.iter().all(|node| node.finally) {
        violations.push(violation(
            "template.spec.stages",
            "",
            "the template has no stages; add at least one",
        ));
    }
    if nodes.len() > limit::STAGES {
        violations.push(violation(
            "template.spec.finally",
            format!("{} stages with those of the list stages", nodes.len()),
            format!(
                "a template has at most {} stages in all: leave some out",
                limit::STAGES
            ),
        ));
    }
    let mut names = BTreeSet::new();
    for node in nodes {
        let name = node.stage.name.as_str();
        if name == INITIALIZE {
            violations.push(violation(
                node.name_field(),
                INITIALIZE,
                "this name is taken by Stagecraft; choose another",
            ));
        }
        if !names.insert(name) {
            violations.push(violation(
                node.name_field(),
                name,
                "named twice; give each stage a name of its own",
            ));
        }
    }
    let mut dangling = false;
    for node in nodes {
        let alike = || nodes.iter().filter(|other| other.finally == node.finally);
        for need in &node.needs {
            if !alike().any(|other| other.stage.name == *need) {
                dangling = true;
                let names = choices(alike().map(|other| &other.stage.name), "");
                let remedy = if nodes.iter().any(|other| other.stage.name == *need) {
                    format!("stages of finally run after the others and need only each other; {names}")
                } else {
                    format!("the template has no such stage; {names}")
                };
                violations.push(violation(node.field("needs"), need, remedy));
            }
        }
    }
    if !dangling {
        check_cycle(nodes, violations);
    }
}

/// Takes away stages whose needs are gone until none is left, or only a cycle and what hangs on it.
fn check_cycle(nodes: &[Node<'_>], violations: &mut Vec<Violation>) {
    let mut left: BTreeMap<&str, &[String]> = nodes
        .iter()
        .map(|node| (node.stage.name.as_str(), node.needs.as_slice()))
        .collect();
    loop {
        let free: Vec<&str> = left
            .iter()
            .filter(|(_, needs)| !needs.iter().any(|need| left.contains_key(need.as_str())))
            .map(|(name, _)| *name)
            .collect();
        if free.is_empty() {
            break;
        }
        left.retain(|name, _| !free.contains(name));
    }
    if !left.is_empty() {
        let names: Vec<&str> = left.keys().copied().collect();
        violations.push(violation(
            "template.spec.stages[*].needs",
            names.join(", "),
            "these stages wait for each other in a cycle; remove one of the needs",
        ));
    }
}

/// Inputs have to come from stages that are over by then.
pub(crate) fn check_inputs(nodes: &[Node<'_>], violations: &mut Vec<Violation>) {
    for node in nodes {
        let before = before(nodes, node);
        for input in node
            .stage
            .inputs
            .iter()
            .filter(|input| !before.contains(&input.stage))
        {
            violations.push(violation(
                node.field("inputs"),
                &input.stage,
                format!(
                    "an input comes from a stage that is needed, directly or not; {}",
                    choices(before.iter(), "this stage needs none")
                ),
            ));
        }
    }
}

/// Work goes back to a stage that it came from.
pub(crate) fn check_repairs(nodes: &[Node<'_>], violations: &mut Vec<Violation>) {
    for node in nodes {
        let Some(repair) = &node.stage.repair else {
            continue;
        };
        let before = before(nodes, node);
        if node.finally {
            let remedy = "nothing goes back once the others are over: remove it";
            violations.push(violation(node.field("repair"), &repair.stage, remedy));
        } else if !before.contains(&repair.stage) {
            let remedy = format!(
                "work goes back to a stage that is needed, directly or not; {}",
                choices(before.iter(), "this stage needs none")
            );
            violations.push(violation(node.field("repair.stage"), &repair.stage, remedy));
        }
    }
}

/// A question can be answered, and by somebody.
pub(crate) fn check_approvals(spec: &WorkflowSpec, nodes: &[Node<'_>], violations: &mut Vec<Violation>) {
    for node in nodes {
        let Some(approval) = &node.stage.approval else {
            continue;
        };
        if approval.self_approval == SelfApproval::Forbidden && spec.requested_by.is_none() {
            violations.push(violation(
                "spec.requestedBy",
                "",
                format!(
                    "stage {} must not be approved by whoever asked for the Workflow; create it with your user name there, as \
                     `kubectl auth whoami` says it",
                    node.stage.name
                ),
            ));
        }
        if approval.kind == ApprovalKind::Choice && approval.choices.len() < 2 {
            violations.push(violation(
                node.field("approval.choices"),
                format!("{} choices", approval.choices.len()),
                "a choice needs at least two; add them, or choose the kind text",
            ));
        }
        let before = before(nodes, node);
        if let Some(stage) = approval
            .back_to
            .as_ref()
            .filter(|stage| node.finally || !before.contains(*stage))
        {
            let remedy = format!(
                "work goes back to a stage that is needed, directly or not; {}",
                choices(before.iter(), "this stage needs none")
            );
            violations.push(violation(node.field("approval.backTo"), stage, remedy));
        }
    }
}

/// Names of all stages that are over when this one starts: what it needs, directly or not, and in `finally` all the others. In a
/// cycle it needs itself too.
pub(crate) fn before(nodes: &[Node<'_>], node: &Node<'_>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = node.needs.clone();
    while let Some(name) = open.pop() {
        if let Some(other) = nodes.iter().find(|other| other.stage.name == name)
            && found.insert(name)
        {
            open.extend(other.needs.iter().cloned());
        }
    }
    if node.finally {
        let others = nodes.iter().filter(|other| !other.finally);
        found.extend(others.map(|other| other.stage.name.clone()));
    }
    found
}
