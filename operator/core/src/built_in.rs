//! The Agents and templates that the leader installs in the release's namespace.

use serde_json::{Map, Value};
use stagecraft_api::agent::{AgentResources, AgentSpec};
use stagecraft_api::envelope::EchoPayload;
use stagecraft_api::status::WorkflowPhase;
use stagecraft_api::template::{StageSpec, WorkflowTemplateSpec};

/// Built-in Agents by name.
pub fn agents() -> Vec<(&'static str, AgentSpec)> {
    vec![("echo", echo())]
}

/// Built-in templates by name.
pub fn templates() -> Vec<(&'static str, WorkflowTemplateSpec)> {
    vec![(
        "echo",
        five_stages(
            "Five stages of the echo agent: tries an installation out without a model or a key.",
            "echo",
        ),
    )]
}

fn echo() -> AgentSpec {
    let payload_schema = match serde_json::to_value(schemars::schema_for!(EchoPayload)) {
        Ok(Value::Object(schema)) => Some(schema),
        _ => None,
    };
    AgentSpec {
        description: "Writes what it was given into files and outputs, and misbehaves on request: for trials and tests. \
                      It uses no model."
            .to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        image: None,
        command: vec!["stagecraft-agent".to_owned(), "echo".to_owned()],
        env: Vec::new(),
        resources: AgentResources::default(),
        payload_schema,
        outputs_schema: None,
        requires: Vec::new(),
    }
}

/// The stages of every type, all worked by one agent.
fn five_stages(description: &str, agent: &str) -> WorkflowTemplateSpec {
    let stage = |name: &str, phase| StageSpec {
        name: name.to_owned(),
        agent: agent.to_owned(),
        needs: None,
        phase,
        timeout_seconds: 600,
        retries: 3,
        payload: Map::new(),
    };
    WorkflowTemplateSpec {
        description: description.to_owned(),
        stages: vec![
            stage("scaffold", WorkflowPhase::Scaffolding),
            stage("validate", WorkflowPhase::Validating),
            stage("e2e", WorkflowPhase::Testing),
            stage("integrate", WorkflowPhase::Integrating),
            stage("deploy", WorkflowPhase::Deploying),
        ],
    }
}
