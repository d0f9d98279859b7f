//! Everything in a schema is described and bounded.

use serde_json::{Value, json};
use stagecraft_api::limit;

use crate::{schema_of, schemas};

#[test]
fn every_field_is_described_and_bounded() {
    let mut gaps = Vec::new();
    for (kind, schema) in schemas() {
        walk(&kind, &schema, &mut gaps);
    }
    assert!(gaps.is_empty(), "{}", gaps.join("\n"));
}

#[test]
fn a_schema_without_bounds_is_noticed() {
    let lax = json!({"type": "object", "properties": {
        "text": {"type": "string"},
        "list": {"type": "array", "description": "d", "items": {"type": "string"}},
        "map": {"type": "object", "description": "d", "additionalProperties": {"type": "string"}},
        "bag": {"type": "object", "description": "d"},
        "fine": {"type": "string", "description": "d", "maxLength": 3},
    }});
    let mut gaps = Vec::new();
    walk("", &lax, &mut gaps);
    assert_eq!(gaps.len(), 7, "{}", gaps.join("\n"));
}

#[test]
fn schemas_repeat_the_limits() {
    let workflow = schema_of("Workflow");
    let status = "/properties/status/properties";
    let stage = format!("{status}/stages/items/properties");
    let error = format!("{stage}/error/properties");
    let artifact = format!("{stage}/artifacts/items/properties");
    let bounds = [
        (format!("{status}/message/maxLength"), limit::MESSAGE_BYTES),
        (format!("{stage}/message/maxLength"), limit::MESSAGE_BYTES),
        (format!("{stage}/summary/maxLength"), limit::MESSAGE_BYTES),
        (format!("{error}/message/maxLength"), limit::MESSAGE_BYTES),
        (format!("{error}/suggestedAction/maxLength"), limit::MESSAGE_BYTES),
        (
            format!("{status}/conditions/items/properties/message/maxLength"),
            limit::CONDITION_BYTES,
        ),
        (format!("{stage}/artifacts/maxItems"), limit::ARTIFACTS),
        (format!("{artifact}/name/maxLength"), limit::ARTIFACT_NAME_BYTES),
        (format!("{artifact}/mediaType/maxLength"), limit::MEDIA_TYPE_BYTES),
        (format!("{stage}/history/maxItems"), limit::HISTORY),
        (
            format!("{stage}/history/items/properties/message/maxLength"),
            limit::HISTORY_MESSAGE_BYTES,
        ),
        (
            "/properties/spec/properties/template/properties/parameters/maxItems".to_owned(),
            limit::PARAMETERS,
        ),
        (
            "/properties/spec/properties/template/properties/stages/items/properties/when/maxLength"
                .to_owned(),
            limit::EXPRESSION_BYTES,
        ),
        // `initialize` comes on top.
        (format!("{status}/stages/maxItems"), limit::STAGES + 1),
        (
            "/properties/spec/properties/stages/maxItems".to_owned(),
            limit::STAGES,
        ),
    ];
    for (path, limit) in bounds {
        assert_eq!(workflow.pointer(&path), Some(&json!(limit)), "{path}");
    }
    let template = schema_of("WorkflowTemplate");
    let stages = "/properties/spec/properties/stages";
    for path in [
        format!("{stages}/maxItems"),
        format!("{stages}/items/properties/needs/maxItems"),
    ] {
        assert_eq!(template.pointer(&path), Some(&json!(limit::STAGES)), "{path}");
    }
}

/// Names every gap at or below `path`.
fn walk(path: &str, schema: &Value, gaps: &mut Vec<String>) {
    let has = |name: &str| schema.get(name).is_some();
    let mut gap = |what: &str| gaps.push(format!("{path}: {what}"));
    match schema.get("type").and_then(Value::as_str) {
        // Any value: the whole spec is bounded.
        None if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true)) => {}
        Some("string") => {
            let dated = schema.get("format") == Some(&json!("date-time"));
            if !(has("maxLength") || has("enum") || dated) {
                gap("a string without maxLength, enum or format date-time");
            }
        }
        Some("array") if !has("maxItems") => gap("an array without maxItems"),
        Some("object") => {
            let free = has("x-kubernetes-preserve-unknown-fields");
            if has("additionalProperties") && !has("maxProperties") && !free {
                gap("a map without maxProperties");
            }
            if !(has("properties") || has("additionalProperties") || free) {
                gap("an object without properties, whose fields would all be dropped");
            }
        }
        Some("integer" | "boolean" | "number" | "array") => {}
        other => gap(&format!("type {other:?} is none that this test knows")),
    }
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let path = format!("{path}.{name}");
        let described = property.get("description").and_then(Value::as_str);
        if described.is_none_or(|text| text.trim().is_empty()) {
            gaps.push(format!("{path}: no description"));
        }
        walk(&path, property, gaps);
    }
    if let Some(items) = schema.get("items") {
        walk(&format!("{path}[]"), items, gaps);
    }
    if let Some(values) = schema.get("additionalProperties") {
        walk(&format!("{path}{{}}"), values, gaps);
    }
}
