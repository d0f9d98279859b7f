//! The Agents and templates that the leader installs in the release's namespace.

mod templates;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;
use stagecraft_api::agent::{AgentResources, AgentSpec, Permission, Requirement, WorkspaceAccess};
use stagecraft_api::payload::{
    DeploymentPayload, E2ePayload, EchoPayload, IntegrationPayload, ScaffoldPayload, ValidationPayload,
};

pub use templates::templates;

/// Where the runner puts the program of the built-in agents, whatever the image.
const PROGRAM: &str = "/stagecraft/bin/stagecraft-agent";

/// Built-in Agents by name. `toolchain` is the image with the tools that check what was generated.
pub fn agents(toolchain: &str) -> Vec<(&'static str, AgentSpec)> {
    let tools = |agent: AgentSpec, memory: &str| AgentSpec {
        image: Some(toolchain.to_owned()),
        resources: AgentResources {
            requests: quantities(&[("cpu", "250m"), ("memory", "256Mi")]),
            limits: quantities(&[("memory", memory)]),
        },
        ..agent
    };
    let reads = |agent: AgentSpec| AgentSpec {
        workspace: WorkspaceAccess::Read,
        ..agent
    };
    let echo = agent::<EchoPayload>(
        "echo",
        "Writes what it was given into files and outputs, and misbehaves on request: for trials and tests. It uses no model.",
    );
    let scaffold = agent::<ScaffoldPayload>(
        "scaffold",
        "Makes a new project from its requirements with the built-in provider: no model, calculators only.",
    );
    let validation = agent::<ValidationPayload>(
        "validation",
        "Checks types, lint rules, unit tests with coverage and the production build of a TypeScript project.",
    );
    let e2e = agent::<E2ePayload>(
        "e2e",
        "Builds and serves the application and runs the project's Playwright specs in Chromium.",
    );
    let integration = agent::<IntegrationPayload>(
        "integration",
        "Brings the work into a branch of the project, once the merged result has passed its checks.",
    );
    let deployment = agent::<DeploymentPayload>(
        "deployment",
        "Makes an image of the built application, rolls it out in the Workflow's namespace and checks that it is well.",
    );
    vec![
        ("echo", echo),
        ("scaffold", scaffold),
        ("validation", reads(tools(validation, "2Gi"))),
        ("e2e", reads(tools(e2e, "3Gi"))),
        // What it merged is committed by the runner.
        ("integration", reads(tools(integration, "2Gi"))),
        (
            "deployment",
            AgentSpec {
                permissions: vec![Permission::Deploy],
                requires: vec![Requirement::Registry],
                ..reads(deployment)
            },
        ),
    ]
}

fn agent<P: JsonSchema>(name: &str, description: &str) -> AgentSpec {
    let payload_schema = match serde_json::to_value(schemars::schema_for!(P)) {
        Ok(Value::Object(schema)) => Some(schema),
        _ => None,
    };
    AgentSpec {
        description: description.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        image: None,
        command: vec![PROGRAM.to_owned(), name.to_owned()],
        env: Vec::new(),
        resources: AgentResources::default(),
        payload_schema,
        outputs_schema: None,
        workspace: WorkspaceAccess::Write,
        permissions: Vec::new(),
        max_running: None,
        requires: Vec::new(),
        uses: Vec::new(),
    }
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}
