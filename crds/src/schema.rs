//! Schemas that derive macros cannot express.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A JSON object whose fields nobody here knows.
pub(crate) fn free_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// Any JSON value.
pub(crate) fn free_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

/// Kubernetes quantities by resource name.
pub(crate) fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "type": "string",
            "maxLength": 32,
            "pattern": "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
        }
    })
}

/// The standard condition type, with bounds that the published schema of it lacks.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 8,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 63,
                    "description": "What the condition speaks of."
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "True, False or Unknown."
                },
                "reason": {
                    "type": "string", "maxLength": 63,
                    "description": "Why, in a word that programs may rely on."
                },
                "message": {
                    "type": "string", "maxLength": 4096,
                    "description": "Why, in a sentence: what is waited for, since when and until when."
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64",
                    "description": "Generation of the spec that the condition speaks of."
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When the status of the condition last changed."
                }
            }
        }
    })
}
