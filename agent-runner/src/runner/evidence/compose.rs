//! What a stage puts out of its evidence.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use stagecraft_api::limit;
use stagecraft_api::result::Finding;

use super::session::{Checked, Evidence};
use crate::loopback::Check;

/// Most findings in the outputs of a stage.
const FINDINGS: usize = 10;

/// Numbers for gates, of all checks.
pub fn metrics(evidence: &Evidence) -> BTreeMap<String, f64> {
    let all = evidence
        .checks
        .iter()
        .flat_map(|checked| &checked.measured.metrics);
    all.map(|(name, number)| (name.clone(), *number)).collect()
}

/// The agent's own outputs with what was measured, which has the last word. Findings give way until it fits; the bytes when
/// it does not fit even without them.
pub fn outputs(own: Map<String, Value>, evidence: &Evidence) -> Result<Map<String, Value>, usize> {
    let mut outputs = own;
    let checks = evidence
        .checks
        .iter()
        .map(|checked| (checked.check.as_str().to_owned(), check(checked)));
    outputs.insert("checks".to_owned(), Value::Object(checks.collect()));
    let end_to_end = evidence
        .checks
        .iter()
        .find(|checked| checked.check == Check::E2e && checked.ran);
    if let Some(checked) = end_to_end {
        outputs.insert("totals".to_owned(), Value::Object(checked.measured.facts.clone()));
    }
    let found = evidence.checks.iter().map(|checked| checked.measured.found);
    let total = found.fold(0, u64::saturating_add);
    outputs.insert("findingsTotal".to_owned(), json!(total));
    let mut findings: Vec<&Finding> = evidence
        .checks
        .iter()
        .flat_map(|checked| &checked.measured.findings)
        .take(FINDINGS)
        .collect();
    loop {
        outputs.insert("findings".to_owned(), json!(findings));
        let bytes = serde_json::to_string(&outputs).map_or(usize::MAX, |json| limit::stored_bytes(&json));
        if bytes <= limit::OUTPUTS_BYTES {
            return Ok(outputs);
        }
        if findings.pop().is_none() {
            return Err(bytes);
        }
    }
}

fn check(checked: &Checked) -> Value {
    let state = match (checked.ran, checked.measured.passed) {
        (true, true) => "passed",
        (true, false) => "failed",
        (false, _) => "notRun",
    };
    let mut fields = checked.measured.facts.clone();
    fields.insert("state".to_owned(), json!(state));
    fields.insert(
        "seconds".to_owned(),
        json!((checked.seconds * 10.0).round() / 10.0),
    );
    if !checked.measured.tool.is_empty() {
        fields.insert("tool".to_owned(), json!(checked.measured.tool));
    }
    Value::Object(fields)
}

/// The checks in a sentence, for the summary of the stage.
pub fn words(evidence: &Evidence) -> String {
    let words: Vec<&str> = evidence
        .checks
        .iter()
        .map(|checked| checked.measured.words.as_str())
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::evidence::measured::Measured;

    fn checked(check: Check, measured: Measured) -> Checked {
        Checked {
            check,
            seconds: 1.234,
            ran: true,
            measured,
        }
    }

    fn found(message: &str) -> Measured {
        Measured {
            findings: vec![
                Finding {
                    check: "tests".to_owned(),
                    message: message.to_owned(),
                    ..Finding::default()
                };
                20
            ],
            found: 70,
            metrics: BTreeMap::from([("testsFailed".to_owned(), 70.0)]),
            facts: json!({"failed": 70}).as_object().unwrap().clone(),
            words: "70 tests failed".to_owned(),
            ..Measured::default()
        }
    }

    #[test]
    fn what_was_measured_stands_beside_what_the_agent_says_and_over_it() {
        let evidence = Evidence {
            checks: vec![
                checked(
                    Check::Build,
                    Measured {
                        passed: true,
                        words: "built".to_owned(),
                        ..Measured::default()
                    },
                ),
                checked(Check::Tests, found("x")),
            ],
            ..Evidence::default()
        };
        let own = json!({"findings": "none", "checks": {"tests": {"state": "passed"}}, "more": 1});
        let outputs = outputs(own.as_object().unwrap().clone(), &evidence).unwrap();
        assert_eq!(
            outputs["checks"]["tests"],
            json!({"state": "failed", "seconds": 1.2, "failed": 70})
        );
        assert_eq!(outputs["checks"]["build"]["state"], "passed");
        assert_eq!(outputs["findings"].as_array().unwrap().len(), FINDINGS);
        assert_eq!(
            (&outputs["findingsTotal"], &outputs["more"]),
            (&json!(70), &json!(1))
        );
        assert_eq!(
            metrics(&evidence),
            BTreeMap::from([("testsFailed".to_owned(), 70.0)])
        );
        assert_eq!(words(&evidence), "built, 70 tests failed");
    }

    #[test]
    fn findings_give_way_until_it_fits() {
        let evidence = Evidence {
            checks: vec![checked(Check::Tests, found(&"<".repeat(300)))],
            ..Evidence::default()
        };
        let outputs = outputs(Map::new(), &evidence).unwrap();
        let kept = outputs["findings"].as_array().unwrap().len();
        assert!(kept > 0 && kept < FINDINGS, "{kept}");
        let own = json!({"more": "x".repeat(limit::OUTPUTS_BYTES)});
        assert!(super::outputs(own.as_object().unwrap().clone(), &evidence).is_err());
    }
}
