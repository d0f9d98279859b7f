//! The scaffold agent: what it understands, what it makes, and how it ends as a process of its own.
#![cfg(test)]

mod making;
mod program;
mod refusing;
mod understanding;

use stagecraft_agent_runner::scaffold::error::ProviderError;
use stagecraft_agent_runner::scaffold::plan::Plan;
use stagecraft_agent_runner::scaffold::understand::understand;
use stagecraft_api::run::RunProject;

fn project(requirements: &[&str]) -> RunProject {
    RunProject {
        name: "calculator".into(),
        description: String::new(),
        requirements: requirements.iter().map(|text| (*text).to_owned()).collect(),
    }
}

fn plan_of(requirements: &[&str]) -> Plan {
    understand(&project(requirements)).unwrap_or_else(|error| panic!("{requirements:?}: {error}"))
}

fn refusal_of(project: &RunProject) -> ProviderError {
    match understand(project) {
        Ok(plan) => panic!("{project:?} became {plan:?}"),
        Err(error) => error,
    }
}

/// Names of operations and features, in their order.
fn chosen(plan: &Plan) -> String {
    let operations = plan.operations.iter().map(|operation| operation.name());
    let features = plan.features.iter().map(|feature| feature.name());
    operations.chain(features).collect::<Vec<_>>().join(" ")
}
