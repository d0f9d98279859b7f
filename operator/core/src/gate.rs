//! Whether what was measured is good enough.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use stagecraft_api::error::{Category, StructuredError, truncate};
use stagecraft_api::failure::GATE_FAILED;
use stagecraft_api::gate::{Gate, GateStatus};
use stagecraft_api::result::Finding;

/// How many findings an error's message names.
const NAMED_FINDINGS: usize = 3;
/// Bytes of one finding in it.
const FINDING_BYTES: usize = 200;

/// Compares each gate with its metric. A metric that was not measured, or is no number, fails.
pub(crate) fn judge_gates(gates: &[Gate], metrics: &BTreeMap<String, f64>) -> Vec<GateStatus> {
    let judged = gates.iter().map(|gate| {
        let actual = metrics
            .get(&gate.metric)
            .copied()
            .filter(|actual| actual.is_finite());
        GateStatus {
            metric: gate.metric.clone(),
            operator: gate.operator,
            threshold: gate.threshold,
            actual,
            severity: gate.severity,
            passed: actual.is_some_and(|actual| gate.operator.holds(actual, gate.threshold)),
        }
    });
    judged.collect()
}

/// The gates that do not hold and block nothing, as people read them.
pub(crate) fn gate_warnings(gates: &[GateStatus]) -> Option<String> {
    let failed: Vec<String> = gates
        .iter()
        .filter(|gate| !gate.passed && !gate.blocks())
        .map(describe)
        .collect();
    (!failed.is_empty()).then(|| failed.join("; "))
}

/// Why the stage failed, if a gate did. The same work would be judged the same, so that no attempt can help.
pub(crate) fn gate_failure(
    stage: &str,
    gates: &[GateStatus],
    outputs: &Map<String, Value>,
) -> Option<StructuredError> {
    let failed: Vec<String> = gates.iter().filter(|gate| gate.blocks()).map(describe).collect();
    if failed.is_empty() {
        return None;
    }
    let mut message = failed.join("; ");
    let findings: Vec<Finding> = outputs
        .get("findings")
        .and_then(|findings| serde_json::from_value(findings.clone()).ok())
        .unwrap_or_default();
    for (index, finding) in findings.iter().take(NAMED_FINDINGS).enumerate() {
        message.push_str(if index == 0 { ". Found: " } else { "; " });
        message.push_str(&truncate(&place(finding), FINDING_BYTES));
    }
    let action = format!(
        "correct what status.stages[name={stage}].outputs.findings names; the stage's artifacts hold the full reports. Then \
         create the Workflow anew"
    );
    Some(
        StructuredError::new(GATE_FAILED, Category::Validation, message)
            .suggest(action)
            .fatal(),
    )
}

fn describe(gate: &GateStatus) -> String {
    let GateStatus {
        metric,
        operator,
        threshold,
        actual,
        passed: _,
        severity: _,
    } = gate;
    let wanted = format!("must be {} {threshold}", operator.as_str());
    match actual {
        Some(actual) => format!("{metric} is {} and {wanted}", rounded(*actual)),
        None => format!("{metric} was not measured and {wanted}"),
    }
}

/// Two places are enough for people; what decides is not rounded.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// "src/a.ts:3 TS2322: message", as far as it is known.
fn place(finding: &Finding) -> String {
    let Finding {
        check: _,
        file,
        line,
        rule,
        message,
    } = finding;
    let file = file.as_deref().map(|file| match line {
        Some(line) => format!("{file}:{line} "),
        None => format!("{file} "),
    });
    let rule = rule.as_deref().map(|rule| format!("{rule}: "));
    format!(
        "{}{}{message}",
        file.unwrap_or_default(),
        rule.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stagecraft_api::gate::{GateSeverity, Operator};

    use super::*;

    fn gate(operator: Operator, threshold: f64) -> Gate {
        Gate {
            metric: "linesCovered".into(),
            operator,
            threshold,
            severity: GateSeverity::Blocking,
        }
    }

    fn passes(operator: Operator, threshold: f64, actual: Option<f64>) -> bool {
        let metrics = actual.map(|actual| ("linesCovered".to_owned(), actual));
        let judged = judge_gates(&[gate(operator, threshold)], &metrics.into_iter().collect());
        judged[0].passed
    }

    #[test]
    fn gates_compare_as_their_operators_say() {
        assert!(passes(Operator::AtLeast, 80.0, Some(80.0)));
        assert!(!passes(Operator::AtLeast, 80.0, Some(79.999)));
        assert!(passes(Operator::AtMost, 0.0, Some(0.0)));
        assert!(!passes(Operator::AtMost, 0.0, Some(1.0)));
        assert!(passes(Operator::Equal, 3.0, Some(3.0)));
        assert!(!passes(Operator::Equal, 3.0, Some(4.0)));
    }

    #[test]
    fn what_was_not_measured_fails() {
        for operator in [Operator::AtLeast, Operator::AtMost, Operator::Equal] {
            assert!(!passes(operator, 0.0, None));
            assert!(!passes(operator, 0.0, Some(f64::NAN)));
            assert!(!passes(operator, 0.0, Some(f64::NEG_INFINITY)));
        }
    }

    #[test]
    fn the_failure_names_gates_and_findings() {
        let gates = judge_gates(
            &[gate(Operator::AtLeast, 80.0)],
            &BTreeMap::from([("linesCovered".to_owned(), 61.456)]),
        );
        let outputs = json!({"findings": [
            {"check": "tests", "file": "src/a.ts", "line": 3, "rule": "uncovered", "message": "never runs"}
        ]});
        let Value::Object(outputs) = outputs else {
            panic!("an object")
        };
        let error = gate_failure("validate", &gates, &outputs).unwrap();
        assert_eq!(
            error.message,
            "linesCovered is 61.46 and must be >= 80. Found: src/a.ts:3 uncovered: never runs"
        );
        assert!(!error.retryable);
        assert_eq!(gate_failure("validate", &[], &outputs), None);
    }
}
