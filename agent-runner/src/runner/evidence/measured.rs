//! What the report of a check comes to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stagecraft_api::result::Finding;

/// More findings of a check than these are counted, not kept.
pub const FINDINGS: usize = 20;
/// Longest message of a finding, in bytes.
pub const MESSAGE_BYTES: usize = 300;

/// One check, measured: bounded, whatever the report held.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    /// The tool and its version, as "vitest 4.0.1".
    pub tool: String,
    /// Nothing speaks against the work. For people: what counts is judged by gates.
    pub passed: bool,
    /// What was found, the worst first, at most [`FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub found: u64,
    /// Numbers for gates, by name. ARCHITECTURE.md lists the names.
    pub metrics: BTreeMap<String, f64>,
    /// Key numbers for people, for the outputs of the stage.
    pub facts: Map<String, Value>,
    /// The same in a few words, as "42 tests passed".
    pub words: String,
}
