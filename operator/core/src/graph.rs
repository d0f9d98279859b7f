//! The stages of a template as a graph.

use std::collections::{BTreeMap, BTreeSet};

use stagecraft_api::run::INITIALIZE;
use stagecraft_api::template::WorkflowTemplateSpec;

use crate::resolve::{Violation, choices, violation};

/// What a stage needs: what it says, or else the stage before it.
pub(crate) fn needs(template: &WorkflowTemplateSpec, index: usize) -> Vec<String> {
    match template.stages.get(index).and_then(|stage| stage.needs.clone()) {
        Some(needs) => needs,
        None => index
            .checked_sub(1)
            .and_then(|before| template.stages.get(before))
            .map(|stage| vec![stage.name.clone()])
            .unwrap_or_default(),
    }
}

/// Everything that keeps the stages from following each other to an end.
pub(crate) fn check_graph(template: &WorkflowTemplateSpec, violations: &mut Vec<Violation>) {
    if template.stages.is_empty() {
        violations.push(violation(
            "template.spec.stages",
            "",
            "the template has no stages; add at least one",
        ));
    }
    let mut names = BTreeSet::new();
    for (index, stage) in template.stages.iter().enumerate() {
        let field = format!("template.spec.stages[{index}].name");
        if stage.name == INITIALIZE {
            violations.push(violation(
                &field,
                INITIALIZE,
                "this name is taken by Stagecraft; choose another",
            ));
        }
        if !names.insert(stage.name.as_str()) {
            violations.push(violation(
                &field,
                &stage.name,
                "named twice; give each stage a name of its own",
            ));
        }
    }
    let mut dangling = false;
    for (index, stage) in template.stages.iter().enumerate() {
        for need in needs(template, index) {
            if !names.contains(need.as_str()) {
                dangling = true;
                violations.push(violation(
                    format!("template.spec.stages[name={}].needs", stage.name),
                    need,
                    format!(
                        "the template has no such stage; {}",
                        choices(template.stages.iter().map(|known| &known.name), "")
                    ),
                ));
            }
        }
    }
    if !dangling {
        check_cycle(template, violations);
    }
}

/// Takes away stages whose needs are gone until none is left, or only a cycle and what hangs on it.
fn check_cycle(template: &WorkflowTemplateSpec, violations: &mut Vec<Violation>) {
    let mut left: BTreeMap<&str, Vec<String>> = template
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| (stage.name.as_str(), needs(template, index)))
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

/// Inputs have to come from stages that are done by then.
pub(crate) fn check_inputs(template: &WorkflowTemplateSpec, violations: &mut Vec<Violation>) {
    for (index, stage) in template.stages.iter().enumerate() {
        let before = needed(template, index);
        for input in stage.inputs.iter().filter(|input| !before.contains(&input.stage)) {
            violations.push(violation(
                format!("template.spec.stages[name={}].inputs", stage.name),
                &input.stage,
                format!(
                    "an input comes from a stage that is needed, directly or not; {}",
                    choices(before.iter(), "this stage needs none")
                ),
            ));
        }
    }
}

/// Names of all that a stage needs, directly or not. In a cycle it needs itself too.
fn needed(template: &WorkflowTemplateSpec, index: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = needs(template, index);
    while let Some(name) = open.pop() {
        if let Some(at) = template.stages.iter().position(|stage| stage.name == name)
            && found.insert(name)
        {
            open.extend(needs(template, at));
        }
    }
    found
}
