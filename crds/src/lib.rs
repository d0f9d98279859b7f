//! All that two Stagecraft processes agree on: the custom resources, the task envelope and its result, the
//! gateway's HTTP protocol, and the one place that derives names and keys.
//!
//! Reading order: the resources ([`workflow`], [`status`], [`template`], [`agent`], [`approval`], [`provider`]), then what travels
//! ([`run`], [`envelope`], [`payload`], [`result`], [`protocol`]), then the vocabulary ([`attempt`], [`budget`], [`error`], [`name`], [`label`],
//! [`condition`], [`moment`], [`digest`], [`quantity`]).

pub mod agent;
#[expect(clippy::duplicated_attributes, reason = "printed columns have types alike")]
pub mod approval;
pub mod attempt;
pub mod budget;
pub mod condition;
pub mod digest;
pub mod envelope;
pub mod error;
pub mod failure;
pub mod gate;
pub mod label;
pub mod limit;
pub mod model;
pub mod moment;
pub mod name;
pub mod payload;
pub mod protocol;
pub mod provider;
pub mod quantity;
pub mod result;
pub mod run;
mod schema;
pub mod status;
pub mod template;
pub mod workflow;

pub use agent::{Agent, AgentSpec};
pub use approval::{Approval, ApprovalSpec};
pub use attempt::AttemptKey;
pub use digest::Digest;
pub use error::{Category, Severity, StructuredError};
pub use moment::Moment;
pub use provider::{ModelProvider, ModelProviderSpec};
pub use status::{StagePhase, StageStatus, WorkflowPhase, WorkflowStatus};
pub use template::{WorkflowTemplate, WorkflowTemplateSpec};
pub use workflow::{Workflow, WorkflowSpec};

/// The API group of every Stagecraft resource.
pub const GROUP: &str = "stagecraft.dev";
/// The version of the API that this crate describes.
pub const VERSION: &str = "v1alpha1";

/// The custom resource definitions in the order in which they are installed.
pub fn custom_resource_definitions()
-> Vec<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition> {
    use kube::CustomResourceExt as _;
    vec![
        Workflow::crd(),
        WorkflowTemplate::crd(),
        Agent::crd(),
        ModelProvider::crd(),
        Approval::crd(),
    ]
}
