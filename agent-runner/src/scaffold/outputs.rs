//! What the stage hands on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use stagecraft_api::error::truncate;
use stagecraft_api::limit;

use super::plan::{Feature, Operation, Plan};
use super::render::{LOCK_FILE, MAIN_FILES};

/// Bytes that a requirement's entry may take, tried in this order until all fit.
const HOW_BYTES: [usize; 4] = [240, 120, 60, 30];

/// The outputs, within the limit for any project that the API takes.
pub fn outputs(plan: &Plan, files: &BTreeMap<String, String>) -> Map<String, Value> {
    let all = |bytes| with_requirements_of(plan, files, bytes);
    HOW_BYTES.into_iter().map(all).find(fits).unwrap_or_else(|| {
        let mut outputs = all(0);
        outputs.remove("requirements");
        outputs
    })
}

fn fits(outputs: &Map<String, Value>) -> bool {
    serde_json::to_string(outputs).is_ok_and(|text| limit::stored_bytes(&text) <= limit::OUTPUTS_BYTES)
}

fn with_requirements_of(plan: &Plan, files: &BTreeMap<String, String>, bytes: usize) -> Map<String, Value> {
    let operations: Vec<&str> = plan.operations.iter().copied().map(Operation::name).collect();
    let features: Vec<&str> = plan.features.iter().copied().map(Feature::name).collect();
    let requirements: Vec<Value> = plan
        .requirements
        .iter()
        .map(|requirement| json!({"number": requirement.number, "met": truncate(&requirement.how, bytes)}))
        .collect();
    let outputs = json!({
        "provider": super::PROVIDER,
        "files": files.len(),
        "directories": directories(files).len(),
        "lines": lines(files),
        "mainFiles": MAIN_FILES,
        "operations": operations,
        "features": features,
        "decisions": plan.decisions,
        "requirements": requirements,
    });
    match outputs {
        Value::Object(outputs) => outputs,
        _ => Map::new(),
    }
}

/// The lock file is left out: nobody reads it, and it is longer than all the rest.
fn lines(files: &BTreeMap<String, String>) -> usize {
    let read = files.iter().filter(|(path, _)| *path != LOCK_FILE);
    read.map(|(_, text)| text.lines().count()).sum()
}

fn directories(files: &BTreeMap<String, String>) -> BTreeSet<&str> {
    files
        .keys()
        .filter_map(|path| path.rsplit_once('/'))
        .map(|(directory, _)| directory)
        .collect()
}
