//! References in the payload of a stage: `${{ stages.validate.outputs.url }}`. A text that is one reference becomes its value,
//! whatever the type; in a longer text each becomes a part of it. `$${{` stands for itself.

use serde_json::{Map, Value};
use stagecraft_api::error::truncate;
use stagecraft_api::limit;

use crate::expression::{self, Expression};

const OPEN: &str = "${{";
const CLOSE: &str = "}}";
const ESCAPED: &str = "$${{";

/// A part of a text.
#[derive(Debug)]
enum Part<'a> {
    Text(&'a str),
    Open,
    Reference(&'a str),
}

/// Every reference of a payload with the path where it stands, or what is wrong with it.
pub(crate) fn references(payload: &Map<String, Value>) -> Vec<(String, Result<Expression, String>)> {
    let mut found = Vec::new();
    for (name, value) in payload {
        collect(&format!(".{name}"), value, &mut found);
    }
    if found.len() > limit::REFERENCES {
        found.truncate(limit::REFERENCES);
        let error = format!(
            "a payload holds at most {} references: hand several values on as one object",
            limit::REFERENCES
        );
        found.push((String::new(), Err(error)));
    }
    found
}

fn collect(path: &str, value: &Value, found: &mut Vec<(String, Result<Expression, String>)>) {
    if found.len() > limit::REFERENCES {
        return;
    }
    match value {
        Value::String(text) => match parts(text) {
            Ok(parts) => {
                let references = parts.into_iter().filter_map(|part| match part {
                    Part::Reference(text) => Some(text),
                    Part::Text(_) | Part::Open => None,
                });
                // One more than there may be is enough to know.
                let read = references.take(limit::REFERENCES + 1);
                found.extend(read.map(|text| (path.to_owned(), expression::parse(text))));
            }
            Err(error) => found.push((path.to_owned(), Err(error))),
        },
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                collect(&format!("{path}[{index}]"), value, found);
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                collect(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The payload with a value in the place of each reference. The error names the field.
pub(crate) fn resolve(payload: &Map<String, Value>, scope: &Value) -> Result<Map<String, Value>, String> {
    payload
        .iter()
        .map(|(name, value)| Ok((name.clone(), resolve_value(name, value, scope)?)))
        .collect()
}

fn resolve_value(path: &str, value: &Value, scope: &Value) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => {
            resolve_text(text, scope).map_err(|error| format!("payload.{path}: {error}"))?
        }
        Value::Array(values) => values
            .iter()
            .enumerate()
            .map(|(index, value)| resolve_value(&format!("{path}[{index}]"), value, scope))
            .collect::<Result<_, _>>()?,
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                Ok((
                    name.clone(),
                    resolve_value(&format!("{path}.{name}"), value, scope)?,
                ))
            })
            .collect::<Result<Map<_, _>, String>>()?
            .into(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn resolve_text(text: &str, scope: &Value) -> Result<Value, String> {
    let parts = parts(text)?;
    if let [Part::Reference(text)] = parts.as_slice() {
        return evaluate(text, scope);
    }
    let mut whole = String::new();
    for part in parts {
        match part {
            Part::Text(text) => whole.push_str(text),
            Part::Open => whole.push_str(OPEN),
            Part::Reference(text) => match evaluate(text, scope)? {
                Value::String(text) => whole.push_str(&text),
                other => whole.push_str(&other.to_string()),
            },
        }
    }
    Ok(Value::String(whole))
}

fn evaluate(text: &str, scope: &Value) -> Result<Value, String> {
    expression::parse(text)
        .and_then(|expression| expression.evaluate(scope))
        .map_err(|error| format!("{}: {error}", truncate(text.trim(), 120)))
}

fn parts(text: &str) -> Result<Vec<Part<'_>>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            parts.push(Part::Text(before));
            parts.push(Part::Open);
            rest = from.strip_prefix(OPEN).unwrap_or_default();
            continue;
        }
        let inner = from.strip_prefix(OPEN).unwrap_or_default();
        let Some((reference, after)) = inner.split_once(CLOSE) else {
            return Err(format!(
                "a reference has no end: close it with {CLOSE}, or write {ESCAPED} where no reference is meant"
            ));
        };
        parts.push(Part::Text(before));
        parts.push(Part::Reference(reference));
        rest = after;
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| !matches!(part, Part::Text("")));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolved(payload: &Value) -> Result<Value, String> {
        let scope = json!({
            "parameters": {"count": 3, "name": "x"},
            "stages": {"a": {"outputs": {"list": [1, 2]}}},
            "workflow": {},
        });
        resolve(payload.as_object().unwrap(), &scope).map(Value::Object)
    }

    #[test]
    fn a_whole_text_becomes_the_value_and_a_part_of_one_its_text() {
        let payload = json!({
            "whole": "${{ stages.a.outputs.list }}",
            "part": "${{parameters.name}}-${{ parameters.count }}!",
            "deep": {"list": ["${{ parameters.count + 1 }}", 7, null]},
            "escaped": "echo $${{ parameters.name }} ${{ parameters.name }}",
            "plain": "costs $5 {{ }}",
        });
        assert_eq!(
            resolved(&payload),
            Ok(json!({
                "whole": [1, 2],
                "part": "x-3!",
                "deep": {"list": [4, 7, null]},
                "escaped": "echo ${{ parameters.name }} x",
                "plain": "costs $5 {{ }}",
            }))
        );
    }

    #[test]
    fn what_cannot_be_resolved_names_the_field() {
        for (payload, part) in [
            (
                json!({"a": {"b": ["${{ stages.z.outputs.x }}"]}}),
                "payload.a.b[0]: stages.z.outputs.x",
            ),
            (
                json!({"a": "${{ parameters.name"}),
                "payload.a: a reference has no end",
            ),
            (json!({"a": "${{ }}"}), "payload.a"),
        ] {
            let error = resolved(&payload).expect_err("must fail");
            assert!(error.contains(part), "{error}");
        }
    }
}
