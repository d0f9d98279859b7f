//! The rules that the API server evaluates, evaluated here.

use kube::CustomResourceExt;
use kube::core::cel::validate_cel;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stagecraft_api::{Agent, ModelProvider, Workflow, WorkflowTemplate};

#[test]
fn a_workflow_names_exactly_one_template() {
    accepts::<Workflow>("flow", &json!({"type": "app"}));
    accepts::<Workflow>("flow", &json!({"templateRef": {"name": "echo"}}));
    let stages = json!({"stages": [{"name": "a", "agent": "echo"}]});
    accepts::<Workflow>("flow", &json!({"template": stages}));
    refuses::<Workflow>(
        "flow",
        &json!({"type": "app", "template": stages}),
        "set only one of type",
    );
    refuses::<Workflow>(
        "flow",
        &json!({"type": "app", "templateRef": {"name": "echo"}}),
        "set only one of type",
    );
    refuses::<Workflow>(
        "flow",
        &json!({}),
        "set type (for example: app), templateRef.name or template.stages",
    );
}

#[test]
fn every_name_is_a_dns_label() {
    let template = json!({"stages": [{"name": "a", "agent": "echo"}]});
    for name in ["a", "0-9", &"a".repeat(63)] {
        accepts::<Workflow>(name, &json!({"type": "app"}));
        accepts::<WorkflowTemplate>(name, &template);
    }
    for name in ["a.b", "-a", &"a".repeat(64)] {
        let message = "must be a DNS label";
        refuses::<Workflow>(name, &json!({"type": "app"}), message);
        refuses::<WorkflowTemplate>(name, &template, message);
        refuses::<Agent>(name, &json!({"command": ["a"]}), message);
        refuses::<ModelProvider>(name, &json!({"provider": "builtin"}), message);
    }
}

#[test]
fn a_provider_has_what_its_protocol_asks_for() {
    let secret = json!({"name": "key"});
    accepts::<ModelProvider>("model", &json!({"provider": "builtin"}));
    accepts::<ModelProvider>("model", &json!({"provider": "openai", "model": "m"}));
    accepts::<ModelProvider>(
        "model",
        &json!({"provider": "anthropic", "model": "m", "secretRef": secret}),
    );
    refuses::<ModelProvider>("model", &json!({"provider": "openai"}), "model is required");
    refuses::<ModelProvider>(
        "model",
        &json!({"provider": "anthropic", "model": "m"}),
        "secretRef is required",
    );
    for field in [
        json!({"model": "m"}),
        json!({"baseUrl": "https://a.example"}),
        json!({"secretRef": secret}),
    ] {
        let mut spec = field;
        spec["provider"] = json!("builtin");
        refuses::<ModelProvider>("model", &spec, "the builtin provider calls no model");
    }
}

fn accepts<K: CustomResourceExt + DeserializeOwned + Serialize>(name: &str, spec: &Value) {
    if let Err(errors) = verdict::<K>(name, spec) {
        panic!("{name} {spec} is refused: {errors}");
    }
}

fn refuses<K: CustomResourceExt + DeserializeOwned + Serialize>(name: &str, spec: &Value, message: &str) {
    match verdict::<K>(name, spec) {
        Ok(()) => panic!("{name} {spec} is not refused"),
        Err(errors) => assert!(errors.contains(message), "{errors}"),
    }
}

fn verdict<K: CustomResourceExt + DeserializeOwned + Serialize>(
    name: &str,
    spec: &Value,
) -> Result<(), String> {
    let names = K::crd().spec.names;
    let object: K = serde_json::from_value(json!({
        "apiVersion": format!("{}/{}", stagecraft_api::GROUP, stagecraft_api::VERSION),
        "kind": names.kind,
        "metadata": {"name": name},
        "spec": spec,
    }))
    .unwrap();
    validate_cel(&object).map_err(|errors| errors.to_string())
}
