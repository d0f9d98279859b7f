//! What a CRD's structural schema does to an object that comes in.

use serde_json::{Map, Value};

/// Drops the fields that the schema does not know, and fills in its defaults.
pub fn fit(value: &mut Value, schema: &Value) {
    if keeps_unknown(schema) && schema.get("properties").is_none() {
        return;
    }
    match value {
        Value::Object(object) => fit_object(object, schema),
        Value::Array(items) => {
            if let Some(of_items) = schema.get("items") {
                for item in items {
                    fit(item, of_items);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn fit_object(object: &mut Map<String, Value>, schema: &Value) {
    let known = schema.get("properties").and_then(Value::as_object);
    let others = schema.get("additionalProperties");
    if !keeps_unknown(schema) {
        object.retain(|name, _| others.is_some() || known.is_some_and(|known| known.contains_key(name)));
    }
    // A null where there is a default, and null is not allowed, counts as absent.
    for (name, of_field) in known.into_iter().flatten() {
        let nullable = of_field.get("nullable").and_then(Value::as_bool).unwrap_or(false);
        if object.get(name).is_some_and(Value::is_null) && !nullable && of_field.get("default").is_some() {
            object.remove(name);
        }
        if let Some(default) = of_field.get("default") {
            object.entry(name.clone()).or_insert_with(|| default.clone());
        }
    }
    for (name, field) in object {
        let of_field = known.and_then(|known| known.get(name)).or(others);
        if let Some(of_field) = of_field.filter(|schema| schema.is_object()) {
            fit(field, of_field);
        }
    }
}

fn keeps_unknown(schema: &Value) -> bool {
    let mark = schema.get("x-kubernetes-preserve-unknown-fields");
    mark.and_then(Value::as_bool).unwrap_or(false)
}
