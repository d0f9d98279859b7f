//! What an integration stage ends with: whether the merged result is good enough for the branch, what the stage puts out, and
//! how that is kept with the move of the branch, so that a later attempt can end with it too.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use stagecraft_api::error::{one_line, truncate};
use stagecraft_api::limit;
use stagecraft_api::protocol::BranchEntry;
use stagecraft_api::result::{Finding, Outcome};
use stagecraft_api::status::{Artifact, WorkspaceRef};

/// Most findings that an error names.
const FINDINGS: usize = 3;
/// Longest message of a finding in an error, in bytes.
const FINDING_BYTES: usize = 160;

/// What has to be measured before a branch moves, and within which bounds.
const NEEDED: [(&str, Bound); 4] = [
    ("typescriptErrors", Bound::None),
    ("testsFailed", Bound::None),
    ("testsPassed", Bound::Some),
    ("buildErrors", Bound::None),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// There must be none.
    None,
    /// There must be at least one.
    Some,
}

/// Why the merged result must not become the branch; nothing when it is good. Only what was measured counts.
pub fn shortcomings(metrics: &BTreeMap<String, f64>) -> Vec<String> {
    let shortcoming = |(name, bound): (&str, Bound)| {
        let Some(number) = metrics.get(name) else {
            return Some(format!("{name} was not measured"));
        };
        match bound {
            // A comparison with what is no number is false, so that it is never good.
            Bound::None if *number <= 0.0 => None,
            Bound::None => Some(format!("{name} is {number}, not 0")),
            Bound::Some if *number >= 1.0 => None,
            Bound::Some => Some(format!("{name} is {number}, not at least 1")),
        }
    };
    let mut shortcomings: Vec<String> = NEEDED.into_iter().filter_map(shortcoming).collect();
    // The gateway would refuse the result, by then too late.
    let unusable = metrics.iter().filter(|(_, number)| !number.is_finite());
    shortcomings.extend(unusable.map(|(name, number)| format!("{name} is {number}, which is no number")));
    shortcomings
}

/// The first findings in the outputs, for a message.
pub fn findings(outputs: &Map<String, Value>) -> Vec<String> {
    let found: Vec<Finding> = outputs
        .get("findings")
        .and_then(|findings| serde_json::from_value(findings.clone()).ok())
        .unwrap_or_default();
    found.iter().take(FINDINGS).map(shown).collect()
}

fn shown(finding: &Finding) -> String {
    let Finding {
        check,
        file,
        line,
        rule,
        message,
    } = finding;
    let line = line.map(|line| format!(":{line}")).unwrap_or_default();
    let place = file
        .as_ref()
        .map(|file| format!(" {file}{line}"))
        .unwrap_or_default();
    let rule = rule.as_ref().map(|rule| format!(" {rule}")).unwrap_or_default();
    format!(
        "{check}{place}{rule}: {}",
        truncate(&one_line(message), FINDING_BYTES)
    )
}

/// What the merge adds to the outputs of the checks.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct MergeOutputs<'merge> {
    pub branch: &'merge str,
    pub strategy: &'static str,
    pub from: Option<&'merge str>,
    pub commit: &'merge str,
    pub commits: u64,
    pub conflicts: u64,
    pub already_merged: bool,
}

/// The outputs of the checks with those of the merge; their bytes when they are too much for a stage even without findings,
/// which give way first.
pub fn compose(
    mut outputs: Map<String, Value>,
    merge: &MergeOutputs<'_>,
) -> Result<Map<String, Value>, usize> {
    if let Ok(Value::Object(merge)) = serde_json::to_value(merge) {
        outputs.extend(merge);
    }
    loop {
        let bytes = stored_bytes(&outputs);
        if bytes <= limit::OUTPUTS_BYTES {
            return Ok(outputs);
        }
        let findings = outputs.get_mut("findings").and_then(Value::as_array_mut);
        if findings.and_then(Vec::pop).is_none() {
            return Err(bytes);
        }
    }
}

fn stored_bytes(outputs: &Map<String, Value>) -> usize {
    serde_json::to_string(outputs).map_or(usize::MAX, |json| limit::stored_bytes(&json))
}

/// All of a good outcome that a move of the branch does not say itself. It is kept with the move.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    pub summary: String,
    pub outputs: Map<String, Value>,
    pub artifacts: Vec<Artifact>,
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

impl Kept {
    /// As it travels with the move.
    pub fn fields(&self) -> Result<Map<String, Value>, serde_json::Error> {
        serde_json::from_value(serde_json::to_value(self)?)
    }

    /// What was kept with a move.
    pub fn of(entry: &BranchEntry) -> Result<Self, serde_json::Error> {
        serde_json::from_value(Value::Object(entry.outputs.clone()))
    }

    /// The outcome of a stage that leaves behind this commit.
    pub fn outcome(self, workspace: WorkspaceRef) -> Outcome {
        let Self {
            summary,
            outputs,
            artifacts,
            metrics,
        } = self;
        Outcome::Succeeded {
            summary,
            outputs,
            workspace: Some(workspace),
            artifacts,
            metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metrics(numbers: [Option<f64>; 4]) -> BTreeMap<String, f64> {
        let named = NEEDED.iter().zip(numbers);
        named
            .filter_map(|((name, _), number)| Some(((*name).to_owned(), number?)))
            .collect()
    }

    #[test]
    fn only_what_was_measured_and_is_good_may_move_a_branch() {
        let good = [Some(0.0), Some(0.0), Some(42.0), Some(0.0)];
        assert!(shortcomings(&metrics(good)).is_empty());
        for index in 0..4 {
            let mut numbers = good;
            numbers[index] = None;
            let missing = shortcomings(&metrics(numbers));
            assert_eq!(missing, [format!("{} was not measured", NEEDED[index].0)]);
            let bad = if index == 2 { 0.0 } else { 1.0 };
            for bad in [bad, f64::NAN] {
                numbers[index] = Some(bad);
                assert!(!shortcomings(&metrics(numbers)).is_empty(), "{index} {bad}");
            }
        }
        let mut more = metrics(good);
        more.insert("linesCovered".to_owned(), 12.5);
        assert!(shortcomings(&more).is_empty());
        more.insert("linesCovered".to_owned(), f64::INFINITY);
        assert_eq!(shortcomings(&more), ["linesCovered is inf, which is no number"]);
        assert_eq!(shortcomings(&BTreeMap::new()).len(), 4);
    }

    #[test]
    fn findings_are_shown_with_their_place() {
        let outputs = json!({"findings": [
            {"check": "typescript", "file": "src/a.ts", "line": 3, "rule": "TS2322", "message": "Type\nno"},
            {"check": "tests", "message": "x"}, {"check": "a", "message": "b"}, {"check": "c", "message": "d"}]});
        let shown = findings(outputs.as_object().unwrap());
        assert_eq!(
            shown,
            ["typescript src/a.ts:3 TS2322: Type no", "tests: x", "a: b"]
        );
        assert!(findings(json!({"findings": 7}).as_object().unwrap()).is_empty());
    }

    #[test]
    fn findings_give_way_to_what_the_merge_says() {
        let merge = MergeOutputs {
            branch: "main",
            strategy: "squash",
            from: None,
            commit: "c",
            commits: 3,
            conflicts: 0,
            already_merged: false,
        };
        let finding = json!({"check": "x", "message": "y".repeat(700)});
        let outputs = json!({"findings": vec![finding; 11], "checks": {}, "commit": "forged"});
        let composed = compose(outputs.as_object().unwrap().clone(), &merge).unwrap();
        assert!(stored_bytes(&composed) <= limit::OUTPUTS_BYTES);
        assert_eq!(composed["findings"].as_array().unwrap().len(), 11);
        assert_eq!(
            (&composed["commit"], &composed["commits"]),
            (&json!("c"), &json!(3))
        );
        assert_eq!(
            (&composed["from"], &composed["alreadyMerged"]),
            (&Value::Null, &json!(false))
        );

        let finding = json!({"check": "x", "message": "y".repeat(790)});
        let outputs = json!({"findings": vec![finding; 10], "checks": {"a": "b".repeat(100)}});
        let composed = compose(outputs.as_object().unwrap().clone(), &merge).unwrap();
        assert_eq!(composed["findings"].as_array().unwrap().len(), 9);

        let outputs = json!({"findings": [], "more": "x".repeat(limit::OUTPUTS_BYTES)});
        let bytes = compose(outputs.as_object().unwrap().clone(), &merge).unwrap_err();
        assert!(bytes > limit::OUTPUTS_BYTES);
    }
}
