//! The built-in templates: `echo`, and one for each kind of work.

use serde_json::{Map, Value, json};
use stagecraft_api::agent::AgentResources;
use stagecraft_api::budget::Budget;
use stagecraft_api::failure::RetryPolicy;
use stagecraft_api::gate::{Gate, GateSeverity, Operator};
use stagecraft_api::payload::WorkKind;
use stagecraft_api::status::WorkflowPhase;
use stagecraft_api::template::{Parameter, Repair, StageInput, StageSpec, WorkflowTemplateSpec};

/// The artifact of the integration agent that the deployment agent takes.
const DISTRIBUTION: &str = "dist.tar";
/// Names of branches, as the agents demand them.
const BRANCH: &str = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";

/// Built-in templates by name.
pub fn templates() -> Vec<(&'static str, WorkflowTemplateSpec)> {
    let kinds = WorkKind::ALL.into_iter().map(|kind| (kind.as_str(), of(kind)));
    std::iter::once(("echo", echo())).chain(kinds).collect()
}

fn echo() -> WorkflowTemplateSpec {
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

fn of(kind: WorkKind) -> WorkflowTemplateSpec {
    let description = match kind {
        WorkKind::App => {
            "A new web application: scaffolded, validated, tested in a browser, merged and deployed."
        }
        WorkKind::Service => {
            "A new HTTP service from its requirements: scaffolded, validated, tested from outside, merged and deployed."
        }
        WorkKind::Feature => {
            "A change to a project: made upon its branch, sent back until it passes, tested, merged and deployed."
        }
        WorkKind::Bugfix => {
            "The correction of a fault, with tests that show it is gone: sent back until it passes, merged and deployed."
        }
        WorkKind::Capability => {
            "A library or module that is added to a project: made upon its branch, validated and merged."
        }
    };
    let mut stages = vec![scaffold(kind), validate(kind)];
    if kind != WorkKind::Capability {
        stages.push(StageSpec {
            gates: vec![none("e2eFailed"), some("e2ePassed")],
            ..stage("e2e", "e2e", WorkflowPhase::Testing)
        });
    }
    stages.push(integrate(kind));
    if kind != WorkKind::Capability {
        stages.push(StageSpec {
            inputs: vec![StageInput {
                stage: "integrate".to_owned(),
                artifact: DISTRIBUTION.to_owned(),
            }],
            ..stage("deploy", "deployment", WorkflowPhase::Deploying)
        });
    }
    WorkflowTemplateSpec {
        description: description.to_owned(),
        parameters: if changes_a_project(kind) {
            vec![branch()]
        } else {
            Vec::new()
        },
        stages,
        finally: Vec::new(),
    }
}

/// Whether there is a project already, on a branch that the Workflow may name.
fn changes_a_project(kind: WorkKind) -> bool {
    match kind {
        WorkKind::App | WorkKind::Service => false,
        WorkKind::Feature | WorkKind::Bugfix | WorkKind::Capability => true,
    }
}

fn branch() -> Parameter {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 100, "pattern": BRANCH});
    Parameter {
        name: "branch".to_owned(),
        description: "Branch of the project that the work begins with and goes to. Default: main. At most 100 characters."
            .to_owned(),
        schema: schema.as_object().cloned(),
        default: Some("main".into()),
    }
}

fn scaffold(kind: WorkKind) -> StageSpec {
    let mut payload = object(&json!({"kind": kind}));
    if changes_a_project(kind) {
        payload.insert("baseBranch".to_owned(), "${{ parameters.branch }}".into());
    }
    StageSpec {
        payload,
        ..stage("scaffold", "scaffold", WorkflowPhase::Scaffolding)
    }
}

fn validate(kind: WorkKind) -> StageSpec {
    let mut gates = vec![
        none("typescriptErrors"),
        none("lintErrors"),
        none("testsFailed"),
        some("testsPassed"),
        gate("linesCovered", Operator::AtLeast, 80.0),
    ];
    gates.extend(builds_a_page(kind).then(|| none("buildErrors")));
    // A test that is left out shows nothing.
    gates.extend((kind == WorkKind::Bugfix).then(|| none("testsSkipped")));
    let sends_back = matches!(kind, WorkKind::Feature | WorkKind::Bugfix);
    StageSpec {
        gates,
        repair: sends_back.then(|| Repair {
            stage: "scaffold".to_owned(),
            max_rounds: 3,
        }),
        ..stage("validate", "validation", WorkflowPhase::Validating)
    }
}

fn integrate(kind: WorkKind) -> StageSpec {
    let mut gates = vec![none("typescriptErrors"), none("testsFailed"), some("testsPassed")];
    gates.extend(builds_a_page(kind).then(|| none("buildErrors")));
    let payload = if changes_a_project(kind) {
        object(&json!({"targetBranch": "${{ parameters.branch }}"}))
    } else {
        Map::new()
    };
    StageSpec {
        gates,
        payload,
        ..stage("integrate", "integration", WorkflowPhase::Integrating)
    }
}

/// The check of the build wants a page, which services and modules have none of.
fn builds_a_page(kind: WorkKind) -> bool {
    match kind {
        WorkKind::App | WorkKind::Feature | WorkKind::Bugfix => true,
        WorkKind::Service | WorkKind::Capability => false,
    }
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
        resources: AgentResources::default(),
        budget: Budget::default(),
        payload: Map::new(),
        gates: Vec::new(),
        repair: None,
        inputs: Vec::new(),
    }
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn none(metric: &str) -> Gate {
    gate(metric, Operator::AtMost, 0.0)
}

fn some(metric: &str) -> Gate {
    gate(metric, Operator::AtLeast, 1.0)
}

fn gate(metric: &str, operator: Operator, threshold: f64) -> Gate {
    Gate {
        metric: metric.to_owned(),
        operator,
        threshold,
        severity: GateSeverity::Blocking,
    }
}
