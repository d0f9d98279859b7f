//! What the leader puts into the cluster at start, and the mark on a Workflow that cannot be decoded.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, error_boundary::InvalidObject};
use kube::runtime::controller;
use kube::{Client, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use stagecraft_api::condition::{ACCEPTED, Reason};
use stagecraft_api::error::truncate;
use stagecraft_api::{Agent, Workflow, WorkflowTemplate, label, limit, name as names};
use stagecraft_core::built_in;

use crate::controller::Context;

/// Field manager of the built-ins.
const MANAGER: &str = "stagecraft-operator";

/// Applies the built-in Agents and templates. They belong to Stagecraft: edits of them are undone at the next start; a
/// changed copy under another name is the way to change one.
pub async fn built_ins(client: &Client, namespace: &str, toolchain: &str) -> Result<(), kube::Error> {
    for (name, spec) in built_in::agents(toolchain) {
        apply(client, namespace, &marked(Agent::new(name, spec))).await?;
    }
    for (name, spec) in built_in::templates() {
        apply(client, namespace, &marked(WorkflowTemplate::new(name, spec))).await?;
    }
    Ok(())
}

fn marked<K: kube::Resource>(mut object: K) -> K {
    let labels = object.labels_mut();
    labels.insert(label::MANAGED_BY.to_owned(), label::MANAGED_BY_VALUE.to_owned());
    labels.insert(label::BUILT_IN.to_owned(), "true".to_owned());
    object
}

async fn apply<K>(client: &Client, namespace: &str, object: &K) -> Result<(), kube::Error>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    K: Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let parameters = PatchParams::apply(MANAGER).force();
    api.patch(&object.name_any(), &parameters, &Patch::Apply(object))
        .await
        .map(|_| ())
}

/// Says on a Workflow that it cannot be decoded. Everything else on it is left alone.
pub async fn mark_undecodable(
    context: &Context,
    invalid: &InvalidObject,
) -> Result<controller::Action, kube::Error> {
    let resource = ApiResource::erase::<Workflow>(&());
    let namespace = invalid.metadata.namespace.clone().unwrap_or_default();
    let name = invalid.metadata.name.clone().unwrap_or_default();
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &namespace, &resource);
    let Some(current) = api.get_opt(&name).await? else {
        return Ok(controller::Action::await_change());
    };
    let message = truncate(
        &format!(
            "this operator cannot read the Workflow: {}; correct the field or upgrade the operator",
            invalid.error
        ),
        limit::MESSAGE_BYTES,
    );
    let known = current
        .data
        .pointer("/status/conditions")
        .and_then(|conditions| conditions.as_array());
    let marked = known.into_iter().flatten().any(|condition| {
        condition.get("reason").and_then(|reason| reason.as_str()) == Some(Reason::Undecodable.as_str())
            && condition.get("message").and_then(|text| text.as_str()) == Some(message.as_str())
    });
    if !marked {
        let condition = Condition {
            type_: ACCEPTED.to_owned(),
            status: "False".to_owned(),
            reason: Reason::Undecodable.as_str().to_owned(),
            message: message.clone(),
            observed_generation: current.metadata.generation,
            last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
                context.clock.now().timestamp(),
            ),
        };
        // A merge patch replaces the list: what others know of the Workflow stays in it.
        let others = known.into_iter().flatten();
        let mut conditions: Vec<_> = others
            .filter(|other| other.get("type").and_then(|kind| kind.as_str()) != Some(ACCEPTED))
            .cloned()
            .collect();
        conditions.insert(0, json!(condition));
        let patch = json!({
            "metadata": {"resourceVersion": current.resource_version()},
            "status": {"message": message, "conditions": conditions},
        });
        api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        tracing::warn!(
            workflow = name,
            namespace,
            trace_id = names::trace_id(&invalid.metadata.uid.clone().unwrap_or_default()),
            error = invalid.error,
            "a Workflow cannot be decoded"
        );
    }
    Ok(controller::Action::requeue(Duration::from_mins(5)))
}
