//! Reports and results of programs that ran generated code.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use stagecraft_agent_runner::loopback::{AgentMessage, Check, CheckReport, ExitReport, ImageRequest};
use stagecraft_agent_runner::runner::evidence::measure::{measure, not_run};
use stagecraft_agent_runner::runner::evidence::session::{Checked, Evidence};
use stagecraft_agent_runner::runner::evidence::sources::{Lines, Sources};
use stagecraft_agent_runner::runner::evidence::{compose, measured::FINDINGS};
use stagecraft_agent_runner::runner::judge::{judge, parse_result};
use stagecraft_api::limit;
use stagecraft_inputs::property::{holds, within_a_moment};
use stagecraft_inputs::values::{bytes, harm, spoil, text};

const CHECKS: [Check; 6] = [
    Check::Install,
    Check::Typescript,
    Check::Eslint,
    Check::Tests,
    Check::Build,
    Check::E2e,
];

fn sources() -> Sources {
    let source = Lines { all: 3, non_blank: 2 };
    Sources {
        files: BTreeMap::from([("src/a.ts".to_owned(), source)]),
    }
}

/// A report that has the fields of all checks.
fn report(check: Check) -> Value {
    json!({
        "check": check.as_str(), "tool": {"name": "tool", "version": "1"}, "packages": 3,
        "files": match check { Check::Build => json!([{"path": "index.html", "bytes": 5}]), _ => json!(["src/a.ts"]) },
        "diagnostics": [{"file": "src/a.ts", "line": 1, "code": "TS1", "message": "no"}], "total": 1,
        "messages": [{"file": "src/a.ts", "line": 1, "rule": "r", "severity": "error", "message": "no"}],
        "warnings": 0, "weakened": [{"rule": "r", "file": "f"}],
        "errors": match check { Check::Eslint => json!(1), _ => json!(["broken"]) },
        "tests": [{"file": "t.ts", "name": "n", "state": "failed", "message": "m"}, {"file": "t.ts", "name": "o", "state": "passed"}],
        "coverage": {"files": {"src/a.ts": {"lines": 2, "covered": 1}}},
    })
}

fn checked(check: Check, report: &str, seconds: f64) -> Option<Checked> {
    let measured = measure(check, report, &sources()).ok()?;
    assert!(measured.findings.len() <= FINDINGS);
    assert!(
        measured.metrics.values().all(|number| number.is_finite()),
        "{measured:?}"
    );
    Some(Checked {
        check,
        seconds,
        ran: true,
        measured,
    })
}

#[test]
fn a_report_of_a_check_is_measured_or_refused_and_its_outputs_keep_their_bounds() {
    let read = std::cell::Cell::new(0);
    let values = (prop::collection::vec(harm(), 0..4), any::<f64>(), text());
    holds(300, &values, |(harms, seconds, text)| {
        let mut evidence = Evidence::default();
        for check in CHECKS {
            let mut report = report(check);
            for harm in &harms {
                spoil(&mut report, harm);
            }
            let checked = checked(check, &report.to_string(), seconds);
            read.set(read.get() + usize::from(checked.is_some()));
            evidence.checks.extend(checked);
            assert!(measure(check, &text, &sources()).is_err());
            evidence.checks.push(Checked {
                check,
                seconds,
                ran: false,
                measured: not_run(check, &text),
            });
        }
        if let Ok(outputs) = compose::outputs(Map::new(), &evidence) {
            let json = Value::Object(outputs).to_string();
            assert!(limit::stored_bytes(&json) <= limit::OUTPUTS_BYTES);
        }
        assert!(compose::metrics(&evidence).len() <= limit::METRICS);
        compose::words(&evidence);
    });
    assert!(read.get() > 500, "{}", read.get());
}

#[test]
fn findings_of_many_checks_are_summed_without_going_round() {
    let mut evidence = Evidence::default();
    for check in [Check::Typescript, Check::Eslint] {
        let mut report = report(check);
        report["total"] = json!(u64::MAX);
        if check == Check::Eslint {
            report["errors"] = json!(u64::MAX);
            report["warnings"] = json!(u64::MAX);
        }
        evidence.checks.extend(checked(check, &report.to_string(), 1.0));
    }
    assert_eq!(evidence.checks.len(), 2);
    let outputs = compose::outputs(Map::new(), &evidence).unwrap();
    assert_eq!(outputs["findingsTotal"], u64::MAX);
}

#[test]
fn whatever_an_agent_writes_is_its_result_or_an_error_within_bounds() {
    let good = json!({"summary": "s", "outputs": {"a": [1]}, "artifacts": [{"name": "n", "path": "p", "directory": "artifacts"}],
        "error": {"code": "C", "message": "m", "category": "execution", "severity": "error", "retryable": true}});
    let read = std::cell::Cell::new(0);
    let values = (bytes(), prop::collection::vec(harm(), 0..4), any::<i32>());
    holds(500, &values, |(bytes, harms, exit_code)| {
        let mut spoilt = good.clone();
        for harm in &harms {
            spoil(&mut spoilt, harm);
        }
        for text in [bytes, spoilt.to_string().into_bytes()] {
            let result = parse_result(&text);
            if let Ok(result) = &result {
                read.set(read.get() + 1);
                assert!(result.summary.len() <= limit::MESSAGE_BYTES);
                let outputs = Value::Object(result.outputs.clone());
                assert!(limit::depth(&outputs) <= limit::DEPTH);
            }
            let exit = ExitReport {
                exit_code,
                output_tail: String::from_utf8_lossy(&text).into_owned(),
                ..ExitReport::default()
            };
            if let Err(error) = judge(&exit, result) {
                assert_eq!(error, error.clone().bounded());
            }
        }
    });
    assert!(read.get() > 100, "{}", read.get());
}

#[test]
fn requests_on_loopback_are_read_or_refused() {
    holds(500, &bytes(), |bytes| {
        let _ = serde_json::from_slice::<ExitReport>(&bytes);
        let _ = serde_json::from_slice::<AgentMessage>(&bytes);
        let _ = serde_json::from_slice::<ImageRequest>(&bytes);
        let _ = serde_json::from_slice::<CheckReport>(&bytes);
    });
    let deep = format!(
        "{{\"outputs\": {{\"a\": {}{}}}}}",
        "[".repeat(100),
        "]".repeat(100)
    );
    assert_eq!(parse_result(deep.as_bytes()).unwrap_err().code, "OutputsTooDeep");
    let huge = format!("{{\"summary\": \"{}\"}}", "\\u0000".repeat(1 << 18));
    within_a_moment(|| {
        parse_result(huge.as_bytes()).unwrap();
    })
    .unwrap();
}
