//! Schemas that derive macros cannot express.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A JSON object whose fields nobody here knows.
pub(crate) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
