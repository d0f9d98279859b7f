//! Values against the JSON Schemas of Agents and templates. Whoever may create one of those writes its schemas, so their cost is
//! bounded: references lead nowhere back to themselves and do not multiply, and patterns are matched in linear time.

use std::collections::BTreeMap;

use jsonschema::{PatternOptions, Validator};
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

/// Most parts of a schema that a value is held to, each as often as references lead to it.
const PARTS: u64 = 2_000;
/// Deepest nesting of a schema, references followed.
const DEPTH: usize = 128;
/// Largest pattern, in bytes of its compiled form.
const PATTERN_BYTES: usize = 1 << 18;

/// What holds values to a schema, or why the schema is none.
pub(crate) fn validator(schema: &Map<String, Value>) -> Result<Validator, String> {
    let schema = Value::Object(schema.clone());
    let mut counter = Counter {
        root: &schema,
        known: BTreeMap::new(),
        depth: 0,
    };
    let parts = counter.count(&schema)?;
    if parts > PARTS {
        return Err(format!(
            "it has more than {PARTS} parts, each counted as often as references lead to it; make it simpler"
        ));
    }
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES))
        .build(&schema)
        .map_err(|error| truncate(&error.to_string(), 300))
}

/// Counts the parts that a value is held to.
struct Counter<'a> {
    root: &'a Value,
    /// What references lead to; none stands for one that is being counted.
    known: BTreeMap<&'a str, Option<u64>>,
    depth: usize,
}

impl<'a> Counter<'a> {
    fn count(&mut self, part: &'a Value) -> Result<u64, String> {
        if self.depth > DEPTH {
            return Err(format!(
                "it is nested more than {DEPTH} deep, references followed; make it simpler"
            ));
        }
        self.depth += 1;
        let mut sum: u64 = 1;
        match part {
            Value::Array(values) => {
                for value in values {
                    sum = sum.saturating_add(self.count(value)?);
                }
            }
            Value::Object(fields) => {
                for (name, value) in fields {
                    let more = match (name.as_str(), value) {
                        ("$ref", Value::String(reference)) => self.follow(reference)?,
                        ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                            return Err(format!("it uses {name}; write a $ref such as #/$defs/name"));
                        }
                        _ => self.count(value)?,
                    };
                    sum = sum.saturating_add(more);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        self.depth -= 1;
        Ok(sum)
    }

    fn follow(&mut self, reference: &'a str) -> Result<u64, String> {
        let shown = || truncate(reference, 80);
        match self.known.get(reference) {
            Some(Some(parts)) => return Ok(*parts),
            Some(None) => {
                return Err(format!(
                    "the reference {} leads back to itself; write out as many levels as are needed",
                    shown()
                ));
            }
            None => {}
        }
        let target = reference
            .strip_prefix('#')
            .and_then(|pointer| self.root.pointer(pointer))
            .ok_or_else(|| {
                format!(
                    "the reference {} leads nowhere; write one such as #/$defs/name",
                    shown()
                )
            })?;
        self.known.insert(reference, None);
        let parts = self.count(target)?;
        self.known.insert(reference, Some(parts));
        Ok(parts)
    }
}

/// Holds a value to a schema.
pub(crate) fn check(schema: &Map<String, Value>, value: &Value) -> Result<(), Mismatch> {
    let validator = validator(schema).map_err(Mismatch::Schema)?;
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        validator(schema.as_object().unwrap()).unwrap_err()
    }

    #[test]
    fn a_schema_that_never_ends_or_multiplies_is_none() {
        for (schema, part) in [
            (json!({"$ref": "#"}), "leads back to itself"),
            (
                json!({"properties": {"a": {"$ref": "#/properties/b"}, "b": {"items": {"$ref": "#/properties/a"}}}}),
                "leads back to itself",
            ),
            (json!({"$dynamicRef": "#node"}), "it uses $dynamicRef"),
            (json!({"$ref": "#/$defs/absent"}), "leads nowhere"),
            (json!({"$ref": "https://example.com/schema"}), "leads nowhere"),
            (
                json!({"allOf": vec![json!({"not": {}}); 1_000]}),
                "more than 2000 parts",
            ),
            (json!({"pattern": "(?=a)b"}), "is not a \"regex\""),
            (json!({"pattern": "([a-z]{99}){999}"}), "is not a \"regex\""),
        ] {
            let error = refused(&schema);
            assert!(error.contains(part), "{schema}: {error}");
        }
        let chain = (0..500).map(|level| {
            let next = json!({"$ref": format!("#/$defs/level{}", level + 1)});
            (format!("level{level}"), next)
        });
        let chain = json!({"$defs": chain.collect::<Map<_, _>>(), "$ref": "#/$defs/level0"});
        assert!(refused(&chain).contains("nested more than 128 deep"));
        let doubling = (0..40).map(|level| {
            let next = json!({"$ref": format!("#/$defs/level{}", level + 1)});
            (format!("level{level}"), json!({"allOf": [next, next]}))
        });
        let mut levels: Map<String, Value> = doubling.collect();
        levels.insert("level40".to_owned(), json!({"type": "object"}));
        let bomb = json!({"$defs": levels, "$ref": "#/$defs/level0"});
        assert!(refused(&bomb).contains("more than 2000 parts"));
    }

    #[test]
    fn references_to_parts_of_the_schema_are_followed() {
        let schema = json!({
            "$defs": {"name": {"type": "string", "pattern": r"^\w+$"}},
            "properties": {"a": {"$ref": "#/$defs/name"}, "b": {"$ref": "#/$defs/name"}},
        });
        let schema = schema.as_object().unwrap();
        assert!(check(schema, &json!({"a": "x", "b": "y1"})).is_ok());
        assert!(check(schema, &json!({"a": "x", "b": 3})).is_err());
    }
}
