//! The Agents and templates that the leader installs in the release's namespace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::{Map, Value};
use stagecraft_api::agent::{AgentResources, AgentSpec, Permission, Requirement, WorkspaceAccess};
use stagecraft_api::failure::RetryPolicy;
use stagecraft_api::gate::{Gate, GateSeverity, Operator};
use stagecraft_api::payload::{
    DeploymentPayload, E2ePayload, EchoPayload, IntegrationPayload, ScaffoldPayload, ValidationPayload,
};
use stagecraft_api::status::WorkflowPhase;
use stagecraft_api::template::{StageInput, StageSpec, WorkflowTemplateSpec};

/// Where the runner puts the program of the built-in agents, whatever the image.
const PROGRAM: &str = "/stagecraft/bin/stagecraft-agent";
/// The artifact of the integration agent that the deployment agent takes.
const DISTRIBUTION: &str = "dist.tar";

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

/// Built-in templates by name.
pub fn templates() -> Vec<(&'static str, WorkflowTemplateSpec)> {
    vec![("echo", echo_template()), ("app", app_template())]
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
    }
}

fn quantities(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    owned.collect()
}

fn stage(name: &str, agent: &str, phase: WorkflowPhase) -> StageSpec {
    StageSpec {
        name: name.to_owned(),
        agent: agent.to_owned(),
        needs: None,
        when: None,
        approval: None,
        phase,
        timeout_seconds: 600,
        retries: 3,
        retry_policy: RetryPolicy::default(),
        payload: Map::new(),
        gates: Vec::new(),
        repair: None,
        inputs: Vec::new(),
    }
}

fn echo_template() -> WorkflowTemplateSpec {
    WorkflowTemplateSpec {
        description: "Five stages of the echo agent: tries an installation out without a model or a key."
            .to_owned(),
        parameters: Vec::new(),
        finally: Vec::new(),
        stages: vec![
            stage("scaffold", "echo", WorkflowPhase::Scaffolding),
            stage("validate", "echo", WorkflowPhase::Validating),
            stage("e2e", "echo", WorkflowPhase::Testing),
            stage("integrate", "echo", WorkflowPhase::Integrating),
            stage("deploy", "echo", WorkflowPhase::Deploying),
        ],
    }
}

fn app_template() -> WorkflowTemplateSpec {
    let none = |metric: &str| gate(metric, Operator::AtMost, 0.0);
    let some = |metric: &str| gate(metric, Operator::AtLeast, 1.0);
    WorkflowTemplateSpec {
        description:
            "A new web application: scaffolded, validated, tested in a browser, merged and deployed."
                .to_owned(),
        parameters: Vec::new(),
        finally: Vec::new(),
        stages: vec![
            stage("scaffold", "scaffold", WorkflowPhase::Scaffolding),
            StageSpec {
                gates: vec![
                    none("typescriptErrors"),
                    none("lintErrors"),
                    none("testsFailed"),
                    some("testsPassed"),
                    gate("linesCovered", Operator::AtLeast, 80.0),
                    none("buildErrors"),
                ],
                ..stage("validate", "validation", WorkflowPhase::Validating)
            },
            StageSpec {
                gates: vec![none("e2eFailed"), some("e2ePassed")],
                ..stage("e2e", "e2e", WorkflowPhase::Testing)
            },
            StageSpec {
                gates: vec![
                    none("typescriptErrors"),
                    none("testsFailed"),
                    some("testsPassed"),
                    none("buildErrors"),
                ],
                ..stage("integrate", "integration", WorkflowPhase::Integrating)
            },
            StageSpec {
                inputs: vec![StageInput {
                    stage: "integrate".to_owned(),
                    artifact: DISTRIBUTION.to_owned(),
                }],
                ..stage("deploy", "deployment", WorkflowPhase::Deploying)
            },
        ],
    }
}

fn gate(metric: &str, operator: Operator, threshold: f64) -> Gate {
    Gate {
        metric: metric.to_owned(),
        operator,
        threshold,
        severity: GateSeverity::Blocking,
    }
}
