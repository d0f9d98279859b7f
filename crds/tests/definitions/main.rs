//! The custom resource definitions as the cluster sees them: bounds, rules, and the files that carry them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy.toml lets tests fail this way, and takes only functions marked as tests for tests"
)]

mod bounds;
mod fresh;
mod pinned;
mod rules;
mod samples;

use serde_json::Value;

/// Kind and schema of each definition.
fn schemas() -> Vec<(String, Value)> {
    stagecraft_api::custom_resource_definitions()
        .into_iter()
        .map(|definition| {
            let schema = definition.spec.versions[0].schema.clone().unwrap();
            let schema = serde_json::to_value(schema.open_api_v3_schema.unwrap()).unwrap();
            (definition.spec.names.kind, schema)
        })
        .collect()
}

/// Schema of one kind.
fn schema_of(kind: &str) -> Value {
    let found = schemas().into_iter().find(|(name, _)| name == kind);
    found.unwrap_or_else(|| panic!("no definition of {kind}")).1
}

/// The repository's root.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
