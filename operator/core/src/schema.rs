//! Values against the JSON Schemas of Agents and templates.

use serde_json::{Map, Value};
use stagecraft_api::error::truncate;

/// Most problems that are told of one value.
const PROBLEMS: usize = 8;

/// Where a value does not match its schema.
pub(crate) struct Problem {
    /// Path below the value, such as `.files`.
    pub(crate) path: String,
    /// What stands there.
    pub(crate) value: String,
    pub(crate) what: String,
}

/// What is wrong with a value, or with the schema itself.
pub(crate) enum Mismatch {
    Schema(String),
    Value(Vec<Problem>),
}

/// Holds a value to a schema.
pub(crate) fn check(schema: &Map<String, Value>, value: &Value) -> Result<(), Mismatch> {
    let validator = jsonschema::validator_for(&Value::Object(schema.clone()))
        .map_err(|error| Mismatch::Schema(truncate(&error.to_string(), 300)))?;
    let problems: Vec<Problem> = validator
        .iter_errors(value)
        .take(PROBLEMS)
        .map(|error| Problem {
            path: error.instance_path().to_string().replace('/', "."),
            value: truncate(&error.instance().to_string(), 80),
            what: truncate(&error.to_string(), 300),
        })
        .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(Mismatch::Value(problems))
    }
}

/// The first problem of a payload whose schema is known to be one.
pub(crate) fn check_payload(
    schema: &Map<String, Value>,
    payload: &Map<String, Value>,
) -> Result<(), Problem> {
    match check(schema, &Value::Object(payload.clone())) {
        Ok(()) | Err(Mismatch::Schema(_)) => Ok(()),
        Err(Mismatch::Value(problems)) => problems.into_iter().next().map_or(Ok(()), Err),
    }
}
