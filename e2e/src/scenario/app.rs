//! Workflows of the type `app` for scenarios, also with a stage in between that spoils the work.

use serde_json::{Value, json};
use stagecraft_api::WorkflowTemplate;

use super::World;
use super::samples::set;

/// Name of the stage that spoils the work.
pub const SABOTAGE: &str = "sabotage";

/// A calculator.
pub fn calculator(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "type": "app",
            "project": {
                "name": name,
                "description": "A calculator for the browser.",
                "requirements": [
                    "Add, subtract, multiply and divide two numbers.",
                    "Dividing by zero shows a message instead of a number.",
                ],
            },
        },
    })
}

/// The same from another template.
pub fn calculator_by(name: &str, template: &str) -> Value {
    let mut workflow = calculator(name);
    if let Some(spec) = workflow.pointer_mut("/spec").and_then(Value::as_object_mut) {
        spec.remove("type");
    }
    set(&mut workflow, "/spec", "templateRef", json!({"name": template}));
    workflow
}

/// What happens to the work on its way.
#[derive(Clone, Debug)]
pub struct Sabotage<'a> {
    /// The stage after which it happens.
    pub after: &'a str,
    /// The last stage that is kept of the template.
    pub until: &'a str,
    /// Files that are written over the work.
    pub files: Value,
    /// Files that are removed from it.
    pub remove: Value,
}

/// A template like the built-in `app`, with a stage in between in which the work is spoilt, and without the stages `without`.
pub async fn sabotaged(
    world: &World,
    name: &str,
    sabotage: &Sabotage<'_>,
    without: &[&str],
) -> anyhow::Result<()> {
    let Sabotage {
        after,
        until,
        files,
        remove,
    } = sabotage;
    let own = json!({
        "name": SABOTAGE,
        "agent": "echo",
        "payload": {"files": files, "remove": remove},
    });
    let built_in = world.release.template(&world.client, "app").await?;
    let mut stages = Vec::new();
    for stage in &built_in.spec.stages {
        if !without.contains(&stage.name.as_str()) {
            stages.push(json!(stage));
        }
        if stage.name == *after {
            stages.push(own.clone());
        }
        if stage.name == *until {
            break;
        }
    }
    let template = json!({"metadata": {"name": name}, "spec": {"stages": stages}});
    world.create::<WorkflowTemplate>(template).await?;
    Ok(())
}
