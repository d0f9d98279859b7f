//! The scaffold agent with the provider `builtin`: makes a calculator as a web application from templates, by what the
//! requirements ask for. It asks no model and needs no network, and says so; what it does not understand it refuses.
//!
//! Reading order: [`plan`] is what can be made; [`understand`] comes from the project to a plan, by [`sense`] for each text,
//! with [`lexicon`] as the words that are known and [`lexer`] as what a text is made of; [`render`] comes from the plan to
//! files, [`workspace`] writes them, [`outputs`] is what is handed on; [`error`] is why nothing is made.

pub mod error;
pub mod lexer;
pub mod lexicon;
pub mod outputs;
pub mod plan;
pub mod render;
pub mod sense;
pub mod understand;
pub mod workspace;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use stagecraft_api::StructuredError;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::payload::{BuiltInPayload, Payload, ScaffoldPayload, WorkKind};
use stagecraft_api::result::AgentResult;

use self::error::KindError;
use self::plan::{Feature, Operation, Plan};
use crate::task::{self, Places};

/// Name of the provider that asks no model.
pub const PROVIDER: &str = "builtin";

/// Does the task that the environment names.
pub fn main() -> ExitCode {
    task::finish(run)
}

fn run() -> anyhow::Result<ExitCode> {
    let places = Places::from_environment()?;
    let task = places.read_task()?;
    let payload = check_payload(&task)?;
    let made = match payload.kind {
        WorkKind::App => make(&places, &task)?,
        other => Err(KindError(other).structured()),
    };
    let result = match made {
        Ok(result) => result,
        Err(error) => {
            println!("scaffold: {}: {}", error.code, error.message);
            AgentResult {
                error: Some(error),
                ..AgentResult::default()
            }
        }
    };
    places.write_result(&result)?;
    Ok(ExitCode::SUCCESS)
}

/// An Agent of another name may run this program too; its payload then has the general form.
fn check_payload(task: &TaskEnvelope) -> anyhow::Result<ScaffoldPayload> {
    match &task.payload {
        Payload::BuiltIn(BuiltInPayload::Scaffold(payload)) => Ok(payload.clone()),
        Payload::BuiltIn(other) => bail!("the task is for the agent {}", other.agent()),
        Payload::Other { payload, .. } => serde_json::from_value(Value::Object(payload.clone()))
            .context("the payload is not that of the scaffold agent"),
    }
}

/// The outer error is one of the agent's surroundings, the inner one that of the work.
fn make(places: &Places, task: &TaskEnvelope) -> anyhow::Result<Result<AgentResult, StructuredError>> {
    println!(
        "scaffold: provider {PROVIDER}: {} requirements are read by rules, no model is asked",
        task.project.requirements.len()
    );
    let plan = match understand::understand(&task.project) {
        Ok(plan) => plan,
        Err(error) => return Ok(Err(error.structured())),
    };
    for requirement in &plan.requirements {
        println!(
            "scaffold: requirement {}: {}",
            requirement.number, requirement.how
        );
    }
    for decision in &plan.decisions {
        println!("scaffold: decided: {decision}");
    }
    let files = render::render(&plan).context("a template is broken")?;
    if let Err(error) = workspace::write(&places.workspace, &files)? {
        return Ok(Err(error.structured()));
    }
    let fields = Map::from_iter([("files".to_owned(), json!(files.len()))]);
    places.tell("scaffold", &format!("wrote {} files", files.len()), fields);
    Ok(Ok(AgentResult {
        summary: summary(&plan, &files),
        outputs: outputs::outputs(&plan, &files),
        ..AgentResult::default()
    }))
}

fn summary(plan: &Plan, files: &BTreeMap<String, String>) -> String {
    let operations: Vec<&str> = plan.operations.iter().copied().map(Operation::name).collect();
    let features: Vec<&str> = plan.features.iter().copied().map(Feature::name).collect();
    let mut text = format!(
        "provider {PROVIDER} wrote a calculator in {} files: {}",
        files.len(),
        operations.join(", ")
    );
    if !features.is_empty() {
        text.push_str("; ");
        text.push_str(&features.join(", "));
    }
    text
}
