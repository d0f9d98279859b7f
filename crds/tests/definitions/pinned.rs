//! Every field of a Workflow's spec is either pinned by the chart's admission policy or one that its owner may change.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize as _;
use serde_json::Value;

use crate::schema_of;

/// What can be changed at any time.
const LIVE: [&str; 6] = [
    "cancel",
    "cancelFinally",
    "priority",
    "retry",
    "suspend",
    "ttlSecondsAfterFinished",
];

#[test]
fn every_field_is_pinned_or_read_live() {
    let install = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/install.yaml");
    let text = std::fs::read_to_string(install).unwrap();
    let policy = serde_yaml::Deserializer::from_str(&text)
        .map(|document| Value::deserialize(document).unwrap())
        .find(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            object["kind"] == "ValidatingAdmissionPolicy" && name.ends_with("-pinned")
        })
        .unwrap();
    let pinned: BTreeSet<String> = policy["spec"]["validations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|validation| validation["message"].as_str().unwrap())
        .filter_map(|message| message.strip_prefix("spec.")?.split(' ').next())
        .map(str::to_owned)
        .collect();
    let workflow = schema_of("Workflow");
    let fields = workflow.pointer("/properties/spec/properties").unwrap();
    let fields: BTreeSet<String> = fields.as_object().unwrap().keys().cloned().collect();
    let live: BTreeSet<String> = LIVE.map(str::to_owned).into();
    // It has a policy of its own, which holds before the Workflow is accepted, too.
    let fixed = BTreeSet::from(["requestedBy".to_owned()]);
    let known: BTreeSet<String> = pinned.union(&live).chain(&fixed).cloned().collect();
    assert_eq!(known, fields);
    assert!(pinned.is_disjoint(&live));
}
