#![expect(
    clippy::float_cmp,
    clippy::needless_pass_by_value,
    reason = "the numbers are exact, and json! is written where it is used"
)]

use serde_json::{Value, json};

use super::coverage::percent;
use super::*;
use crate::runner::evidence::sources::Lines;

fn sources(files: &[(&str, u64)]) -> Sources {
    let lines = |all| Lines { all, non_blank: all };
    Sources {
        files: files
            .iter()
            .map(|(file, all)| ((*file).to_owned(), lines(*all)))
            .collect(),
    }
}

fn two() -> Sources {
    sources(&[("src/a.ts", 10), ("src/b.ts", 10)])
}

fn report(check: Check, fields: Value) -> String {
    let mut report = json!({"check": check.as_str(), "tool": {"name": "tool", "version": "1.2"}});
    report
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    report.to_string()
}

fn measured(check: Check, fields: Value) -> Measured {
    measure(check, &report(check, fields), &two()).unwrap()
}

fn rules(measured: &Measured) -> Vec<&str> {
    measured
        .findings
        .iter()
        .map(|found| found.rule.as_deref().unwrap_or(""))
        .collect()
}

#[test]
fn a_report_of_something_else_is_none() {
    let build = report(Check::Build, json!({"files": []}));
    assert!(matches!(
        measure(Check::Tests, &build, &two()),
        Err(MeasureError::Other { .. })
    ));
    for (check, fields) in [
        (Check::Install, json!({"packages": -1})),
        (Check::Install, json!({"packages": 1e308})),
        (Check::Typescript, json!({"files": [], "diagnostics": []})),
        (
            Check::Tests,
            json!({"tests": [{"file": "a", "name": "b", "state": "great"}], "errors": []}),
        ),
        (
            Check::Tests,
            json!({"tests": [], "errors": [], "coverage": {"files": {"src/a.ts": {"lines": 1.5, "covered": 1}}}}),
        ),
        (Check::E2e, json!({"tests": {}})),
    ] {
        let text = report(check, fields);
        assert!(
            matches!(measure(check, &text, &two()), Err(MeasureError::Format { .. })),
            "{text}"
        );
    }
    assert!(measure(Check::Build, "{}", &two()).is_err());
}

#[test]
fn a_check_that_did_not_run_measures_nothing() {
    let none = not_run(Check::Tests, "it ended with status 7\nand more");
    assert!(none.metrics.is_empty() && !none.passed && none.found == 1);
    assert_eq!(
        (none.words.as_str(), rules(&none)),
        ("tests did not run", vec!["not-run"])
    );
    assert!(none.findings[0].message.contains("status 7"));
}

#[test]
fn a_source_that_was_not_checked_is_an_error() {
    let good = measured(
        Check::Typescript,
        json!({"files": ["src/a.ts", "src/b.ts"], "diagnostics": [], "total": 0}),
    );
    assert!(good.passed && good.metrics["typescriptErrors"] == 0.0 && good.tool == "tool 1.2");
    let excluded = measured(
        Check::Typescript,
        json!({"files": ["src/a.ts"], "diagnostics": [], "total": 0}),
    );
    assert!(!excluded.passed && excluded.metrics["typescriptErrors"] == 1.0);
    assert_eq!(
        (rules(&excluded), excluded.findings[0].file.as_deref()),
        (vec!["not-checked"], Some("src/b.ts"))
    );
    let diagnostic =
        json!({"file": "src/a.ts", "line": 3, "column": 1, "code": "TS2322", "message": "Type\n'x'"});
    let wrong = json!({"files": ["src/a.ts", "src/b.ts"], "diagnostics": [diagnostic], "total": 0});
    let wrong = measured(Check::Typescript, wrong);
    assert_eq!(
        wrong.metrics["typescriptErrors"], 1.0,
        "a total cannot be less than what is listed"
    );
    let found = &wrong.findings[0];
    assert_eq!((found.line, found.rule.as_deref()), (Some(3), Some("TS2322")));
    assert!(!found.message.contains('\n'));
    let many = measured(
        Check::Typescript,
        json!({"files": ["src/a.ts", "src/b.ts"], "diagnostics": [], "total": 5000}),
    );
    assert_eq!((many.metrics["typescriptErrors"], many.found), (5000.0, 5000));
}

#[test]
fn weakened_rules_and_files_that_were_not_linted_are_errors() {
    let message = |severity: &str| json!({"file": "src/a.ts", "line": 1, "column": 1, "rule": "r", "severity": severity, "message": "m"});
    let lint = |files: Value, messages: Value, weakened: Value| {
        let fields =
            json!({"files": files, "messages": messages, "errors": 0, "warnings": 0, "weakened": weakened});
        let measured = measured(Check::Eslint, fields);
        (
            measured.metrics["lintErrors"],
            measured.metrics["lintWarnings"],
            measured.passed,
        )
    };
    let both = json!(["src/a.ts", "src/b.ts"]);
    assert_eq!(lint(both.clone(), json!([]), json!([])), (0.0, 0.0, true));
    assert_eq!(
        lint(both.clone(), json!([message("warning")]), json!([])),
        (0.0, 1.0, true)
    );
    assert_eq!(
        lint(both.clone(), json!([message("error")]), json!([])),
        (1.0, 0.0, false)
    );
    assert_eq!(
        lint(both, json!([]), json!([{"rule": "eqeqeq", "file": "src/a.ts"}])),
        (1.0, 0.0, false)
    );
    assert_eq!(
        lint(json!(["src/a.ts", "src/a.ts"]), json!([]), json!([])),
        (1.0, 0.0, false)
    );
}

fn test(state: &str) -> Value {
    json!({"file": "tests/a.test.ts", "name": "adds", "state": state, "message": "expected 3", "seconds": 0.1})
}

fn tested(tests: Value, errors: Value, coverage: Value) -> Measured {
    measured(
        Check::Tests,
        json!({"tests": tests, "errors": errors, "coverage": {"files": coverage}}),
    )
}

fn whole() -> Value {
    json!({"src/a.ts": {"lines": 10, "covered": 10}, "src/b.ts": {"lines": 10, "covered": 10}})
}

#[test]
fn only_tests_that_passed_pass() {
    let good = tested(json!([test("passed"), test("skipped")]), json!([]), whole());
    assert!(good.passed && good.metrics["testsSkipped"] == 1.0 && good.metrics["linesCovered"] == 100.0);
    assert_eq!(good.words, "1 test passed, 100 % of lines covered");
    for (tests, errors, failed, rule) in [
        (json!([test("passed"), test("failed")]), json!([]), 1.0, "failed"),
        (json!([test("passed")]), json!(["unhandled"]), 1.0, "error"),
        (json!([test("passed"), test("flaky")]), json!([]), 1.0, "flaky"),
        (json!([]), json!([]), 0.0, "no-tests"),
        (json!([test("skipped")]), json!([]), 0.0, "no-tests"),
    ] {
        let bad = tested(tests, errors, whole());
        assert!(!bad.passed, "{bad:?}");
        assert_eq!((bad.metrics["testsFailed"], rules(&bad)), (failed, vec![rule]));
    }
}

#[test]
fn coverage_is_of_all_sources_and_rounded_down() {
    let pass = json!([test("passed")]);
    let missing = tested(
        pass.clone(),
        json!([]),
        json!({"src/a.ts": {"lines": 10, "covered": 10}}),
    );
    assert_eq!(
        (missing.metrics["linesCovered"], rules(&missing)),
        (50.0, vec!["not-covered"])
    );
    assert_eq!(missing.facts["leastCovered"], json!({"src/b.ts": 0.0}));
    let third = tested(
        pass,
        json!([]),
        json!({"src/a.ts": {"lines": 2, "covered": 1}, "src/b.ts": {"lines": 1, "covered": 1}}),
    );
    assert_eq!(third.metrics["linesCovered"], 66.66);
    assert_eq!(percent(79_999, 100_000), 79.99);
    assert_eq!(percent(u64::MAX, u64::MAX), 100.0);
}

#[test]
fn coverage_that_cannot_be_is_no_coverage() {
    for coverage in [
        json!({"src/a.ts": {"lines": 10, "covered": 11}, "src/b.ts": {"lines": 10, "covered": 10}}),
        json!({"src/a.ts": {"lines": 11, "covered": 11}, "src/b.ts": {"lines": 10, "covered": 10}}),
        json!({"src/a.ts": {"lines": 10, "covered": 10}, "src/b.ts": {"lines": 10, "covered": 10}, "src/c.ts": {"lines": 1000, "covered": 1000}}),
    ] {
        let forged = tested(json!([test("passed")]), json!([]), coverage);
        assert!(!forged.passed && !forged.metrics.contains_key("linesCovered"));
        assert_eq!(rules(&forged), ["coverage-implausible"]);
    }
    let nothing = json!({"tests": [test("passed")], "errors": []});
    let nothing = measure(Check::Tests, &report(Check::Tests, nothing), &Sources::default()).unwrap();
    assert!(!nothing.passed && !nothing.metrics.contains_key("linesCovered"));
    assert_eq!(rules(&nothing), ["no-sources"]);
}

#[test]
fn a_build_without_a_page_is_an_error() {
    let good = measured(
        Check::Build,
        json!({"files": [{"path": "index.html", "bytes": 5}, {"path": "assets/a.js", "bytes": 7}]}),
    );
    assert!(good.passed && good.facts["bytes"] == 12 && good.words == "built 2 files");
    let other = measured(Check::Build, json!({"files": [{"path": "a.js", "bytes": 5}]}));
    assert_eq!((other.passed, other.metrics["buildErrors"]), (false, 1.0));
    let failed = measured(
        Check::Build,
        json!({"files": [], "errors": ["vite build ended with status 1"]}),
    );
    assert_eq!(
        (failed.metrics["buildErrors"], rules(&failed)),
        (2.0, vec!["error", "no-index"])
    );
}

#[test]
fn browser_tests_count_flaky_ones_apart() {
    let run = |tests: Value, errors: Value| measured(Check::E2e, json!({"tests": tests, "errors": errors}));
    let flaky = run(json!([test("passed"), test("flaky"), test("skipped")]), json!([]));
    assert!(flaky.passed);
    assert_eq!(
        json!(flaky.facts),
        json!({"total": 3, "passed": 1, "failed": 0, "flaky": 1, "skipped": 1})
    );
    assert_eq!(flaky.words, "1 test in the browser passed, 1 flaky");
    let failed = run(json!([test("failed"), test("passed")]), json!(["crash"]));
    assert_eq!((failed.metrics["e2eFailed"], failed.passed), (2.0, false));
    let none = run(json!([]), json!([]));
    assert_eq!((none.passed, rules(&none)), (false, vec!["no-tests"]));
}

#[test]
fn whatever_a_report_holds_what_is_kept_is_bounded() {
    let long = "x\u{1b}[0m\n".repeat(1000);
    let diagnostic = json!({"file": long, "line": 0, "column": 1, "code": long, "message": long});
    let fields = json!({"files": ["src/a.ts", "src/b.ts"], "diagnostics": vec![diagnostic; 500], "total": 1});
    let kept = measured(Check::Typescript, fields);
    assert_eq!((kept.findings.len(), kept.found), (FINDINGS, 500));
    for found in &kept.findings {
        assert!(found.message.len() <= MESSAGE_BYTES && found.line.is_none());
        assert!(
            found.file.as_ref().unwrap().len() <= FILE_BYTES
                && found.rule.as_ref().unwrap().len() <= RULE_BYTES
        );
        assert!(!found.message.chars().any(char::is_control), "{}", found.message);
    }
}
