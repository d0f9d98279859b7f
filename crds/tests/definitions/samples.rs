//! Samples are what people copy: each fits the schema, and says nothing that the types do not know.

use std::fs;

use kube::CustomResourceExt;
use kube::core::cel::validate_cel;
use serde::de::DeserializeOwned;
use serde::{Deserialize as _, Serialize};
use serde_json::Value;
use stagecraft_api::payload::EchoPayload;
use stagecraft_api::{Agent, ModelProvider, Workflow, WorkflowTemplate};

use crate::{root, schema_of};

#[test]
fn samples_fit_the_definitions() {
    let mut faults = Vec::new();
    for (file, object) in samples() {
        let kind = object["kind"].as_str().unwrap_or_default();
        let checked = match kind {
            "Workflow" => check::<Workflow>(&object),
            "WorkflowTemplate" => check::<WorkflowTemplate>(&object),
            "Agent" => check::<Agent>(&object),
            "ModelProvider" => check::<ModelProvider>(&object),
            other => Err(format!("kind {other:?} is none of Stagecraft's")),
        };
        if let Err(fault) = checked {
            faults.push(format!("{file}: {kind} {}: {fault}", object["metadata"]["name"]));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn samples_ask_the_echo_agent_for_what_it_knows() {
    for (file, object) in samples() {
        let stages = object.pointer("/spec/stages").and_then(Value::as_array);
        for stage in stages.into_iter().flatten() {
            let agent = stage.get("agent").and_then(Value::as_str).unwrap_or("echo");
            if let Some(payload) = stage.get("payload").filter(|_| agent.starts_with("echo")) {
                let decoded: Result<EchoPayload, _> = serde_json::from_value(payload.clone());
                assert!(decoded.is_ok(), "{file}: {payload}: {decoded:?}");
            }
        }
    }
}

#[test]
fn no_two_samples_share_a_name() {
    let mut names: Vec<String> = samples()
        .into_iter()
        .map(|(_, object)| format!("{} {}", object["kind"], object["metadata"]["name"]))
        .collect();
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

/// Every object of every sample, with the name of its file.
fn samples() -> Vec<(String, Value)> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(root().join("manifests/samples")).unwrap() {
        let entry = entry.unwrap();
        let file = entry.file_name().into_string().unwrap();
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = fs::read_to_string(entry.path()).unwrap();
            for document in serde_yaml::Deserializer::from_str(&text) {
                objects.push((file.clone(), Value::deserialize(document).unwrap()));
            }
        }
    }
    assert!(!objects.is_empty());
    objects
}

fn check<K: CustomResourceExt + DeserializeOwned + Serialize>(object: &Value) -> Result<(), String> {
    let schema = schema_of(&K::crd().spec.names.kind);
    let validator = jsonschema::validator_for(&schema).map_err(|error| error.to_string())?;
    let broken: Vec<String> = validator
        .iter_errors(object)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    if !broken.is_empty() {
        return Err(broken.join("; "));
    }
    let typed: K = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    validate_cel(&typed).map_err(|errors| errors.to_string())?;
    let known = serde_json::to_value(&typed).map_err(|error| error.to_string())?;
    unknown("", object, &known).map_or(Ok(()), |path| Err(format!("{path} is no field of it")))
}

/// The first field of `written` that decoding has dropped. Fields with an empty value may be left out.
fn unknown(path: &str, written: &Value, known: &Value) -> Option<String> {
    match (written, known) {
        (Value::Object(fields), Value::Object(kept)) => fields.iter().find_map(|(name, value)| {
            let path = format!("{path}.{name}");
            match kept.get(name) {
                Some(kept) => unknown(&path, value, kept),
                None if is_empty(value) => None,
                None => Some(path),
            }
        }),
        (Value::Array(items), Value::Array(kept)) => items
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (item, kept))| unknown(&format!("{path}[{index}]"), item, kept)),
        _ => None,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}
