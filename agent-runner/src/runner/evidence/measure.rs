//! From the report of a check to what it comes to. Pure: a report and the sources of the commit in, numbers and findings out.
//!
//! A report is what a tool wrote, and its tool ran generated code: every number in it is looked at twice, and whatever does not
//! fit the commit speaks against the work.

mod coverage;
mod reports;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use stagecraft_api::error::{one_line, truncate};
use stagecraft_api::result::Finding;

use self::reports::{
    BuildReport, EslintReport, Head, InstallReport, State, Test, TestsReport, TypescriptReport,
};
use super::measured::{FINDINGS, MESSAGE_BYTES, Measured};
use super::sources::Sources;
use crate::loopback::Check;

/// Longest path in a finding, in bytes.
const FILE_BYTES: usize = 200;
/// Longest rule in a finding, in bytes.
const RULE_BYTES: usize = 80;

/// Why a report is none.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    #[error("its report is not that of the check {check}: {source}")]
    Format {
        check: &'static str,
        source: serde_json::Error,
    },
    #[error("its report is of the check {found:?}, not of {check}")]
    Other { check: &'static str, found: String },
}

/// What a report comes to.
pub fn measure(check: Check, report: &str, sources: &Sources) -> Result<Measured, MeasureError> {
    let Head { check: found, tool } = read(check, report)?;
    if found != check.as_str() {
        return Err(MeasureError::Other {
            check: check.as_str(),
            found: truncate(&found, RULE_BYTES),
        });
    }
    let tally = match check {
        Check::Install => install(&read(check, report)?),
        Check::Typescript => typescript(&read(check, report)?, sources),
        Check::Eslint => eslint(read(check, report)?, sources),
        Check::Tests => tests(&read(check, report)?, sources),
        Check::Build => build(&read(check, report)?),
        Check::E2e => e2e(&read(check, report)?),
    };
    let tool = format!("{} {}", tool.name, tool.version);
    Ok(tally.finish(truncate(&plain(&tool), RULE_BYTES)))
}

/// A check that gave no report.
pub fn not_run(check: Check, reason: &str) -> Measured {
    let mut tally = Tally::new(check);
    tally.find(
        None,
        None,
        Some("not-run"),
        &format!("{} did not run: {reason}", check.as_str()),
    );
    tally.words = format!("{} did not run", check.as_str());
    tally.finish(String::new())
}

fn read<T: DeserializeOwned>(check: Check, report: &str) -> Result<T, MeasureError> {
    serde_json::from_str(report).map_err(|source| MeasureError::Format {
        check: check.as_str(),
        source,
    })
}

/// What comes together while a report is read.
struct Tally {
    check: Check,
    findings: Vec<Finding>,
    found: u64,
    metrics: BTreeMap<String, f64>,
    facts: Map<String, Value>,
    passed: bool,
    words: String,
}

impl Tally {
    fn new(check: Check) -> Self {
        Self {
            check,
            findings: Vec::new(),
            found: 0,
            metrics: BTreeMap::new(),
            facts: Map::new(),
            passed: false,
            words: String::new(),
        }
    }

    fn find(&mut self, file: Option<&str>, line: Option<u32>, rule: Option<&str>, message: &str) {
        self.found = self.found.saturating_add(1);
        if self.findings.len() < FINDINGS {
            self.findings.push(Finding {
                check: self.check.as_str().to_owned(),
                file: file.map(|file| truncate(&plain(file), FILE_BYTES)),
                line: line.filter(|line| *line > 0),
                rule: rule.map(|rule| truncate(&plain(rule), RULE_BYTES)),
                message: truncate(&plain(message), MESSAGE_BYTES),
            });
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a report of eight mebibytes lists far fewer than 2^52 things"
    )]
    fn count(&mut self, metric: &str, number: u64) {
        self.metrics.insert(metric.to_owned(), number as f64);
    }

    fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    fn finish(self, tool: String) -> Measured {
        Measured {
            tool,
            passed: self.passed,
            findings: self.findings,
            found: self.found,
            metrics: self.metrics,
            facts: self.facts,
            words: self.words,
        }
    }
}

/// On one line, without control characters.
fn plain(text: &str) -> String {
    let printable = |character: &char| !character.is_control() || character.is_whitespace();
    one_line(&text.chars().filter(printable).collect::<String>())
}

fn count<T>(of: &[T]) -> u64 {
    u64::try_from(of.len()).unwrap_or(u64::MAX)
}

fn plural(number: u64, one: &str) -> String {
    if number == 1 {
        format!("1 {one}")
    } else {
        format!("{number} {one}s")
    }
}

/// Sources of the commit that a tool does not say it has seen.
fn unseen<'sources>(sources: &'sources Sources, seen: &[String]) -> Vec<&'sources str> {
    let seen: BTreeSet<&str> = seen.iter().map(String::as_str).collect();
    sources
        .files
        .keys()
        .map(String::as_str)
        .filter(|file| !seen.contains(file))
        .collect()
}

fn install(report: &InstallReport) -> Tally {
    let mut tally = Tally::new(Check::Install);
    tally.count("packages", report.packages.into());
    tally.fact("packages", report.packages);
    tally.passed = true;
    tally.words = format!("{} installed", plural(report.packages.into(), "package"));
    tally
}

fn typescript(report: &TypescriptReport, sources: &Sources) -> Tally {
    let mut tally = Tally::new(Check::Typescript);
    let missing = unseen(sources, &report.files);
    for file in &missing {
        let message = format!("{file} was not type-checked: have tsconfig.json include it");
        tally.find(Some(file), None, Some("not-checked"), &message);
    }
    for found in &report.diagnostics {
        tally.find(
            found.file.as_deref(),
            found.line,
            found.code.as_deref(),
            &found.message,
        );
    }
    let total = report.total.max(count(&report.diagnostics));
    tally.found = total.saturating_add(count(&missing));
    let errors = tally.found;
    tally.count("typescriptErrors", errors);
    tally.fact("errors", errors);
    tally.fact("files", report.files.len());
    tally.passed = errors == 0;
    tally.words = plural(errors, "type error");
    tally
}

fn eslint(report: EslintReport, sources: &Sources) -> Tally {
    let mut tally = Tally::new(Check::Eslint);
    let missing = unseen(sources, &report.files);
    for file in &missing {
        let message = format!("{file} was not linted: see that nothing in the project keeps ESLint from it");
        tally.find(Some(file), None, Some("not-linted"), &message);
    }
    for weakened in &report.weakened {
        let message = format!(
            "the project's ESLint configuration switches the rule {} off: restore it as an error",
            weakened.rule
        );
        tally.find(Some(&weakened.file), None, Some("weakened"), &message);
    }
    let (errors, warnings): (Vec<_>, Vec<_>) = report
        .messages
        .into_iter()
        .partition(|found| found.severity != "warning");
    let own = count(&missing).saturating_add(count(&report.weakened));
    let all_errors = report.errors.max(count(&errors)).saturating_add(own);
    let all_warnings = report.warnings.max(count(&warnings));
    for found in errors.iter().chain(&warnings) {
        tally.find(
            found.file.as_deref(),
            found.line,
            found.rule.as_deref(),
            &found.message,
        );
    }
    tally.found = all_errors.saturating_add(all_warnings);
    tally.count("lintErrors", all_errors);
    tally.count("lintWarnings", all_warnings);
    tally.fact("errors", all_errors);
    tally.fact("warnings", all_warnings);
    tally.fact("files", report.files.len());
    tally.passed = all_errors == 0;
    tally.words = plural(all_errors, "lint error");
    tally
}

/// How tests ended.
#[derive(Default)]
struct Ends {
    passed: u64,
    failed: u64,
    flaky: u64,
    skipped: u64,
}

/// Counts tests and tells of those that failed, then of what failed outside of tests, then of flaky ones.
fn ends(tally: &mut Tally, tests: &[Test], errors: &[String], none: &str) -> Ends {
    let mut ends = Ends::default();
    for test in tests {
        match test.state {
            State::Passed => ends.passed += 1,
            State::Flaky => ends.flaky += 1,
            State::Skipped => ends.skipped += 1,
            State::Failed => {
                ends.failed += 1;
                let message = format!("{}: {}", truncate(&test.name, MESSAGE_BYTES / 2), test.message);
                tally.find(Some(&test.file), None, Some("failed"), &message);
            }
        }
    }
    for error in errors {
        tally.find(None, None, Some("error"), error);
    }
    ends.failed = ends.failed.saturating_add(count(errors));
    for test in tests.iter().filter(|test| test.state == State::Flaky) {
        let message = format!(
            "{}: passed only when it was tried again: {}",
            truncate(&test.name, MESSAGE_BYTES / 2),
            test.message
        );
        tally.find(Some(&test.file), None, Some("flaky"), &message);
    }
    if ends.passed.saturating_add(ends.flaky) == 0 && ends.failed == 0 {
        tally.find(None, None, Some("no-tests"), none);
    }
    ends
}

fn tests(report: &TestsReport, sources: &Sources) -> Tally {
    let mut tally = Tally::new(Check::Tests);
    let none = "no unit test was run: write tests below tests/ that call the sources";
    let found = ends(&mut tally, &report.tests, &report.errors, none);
    // Unit tests are not tried again; one that says it was has not passed.
    let failed = found.failed.saturating_add(found.flaky);
    tally.count("testsPassed", found.passed);
    tally.count("testsFailed", failed);
    tally.count("testsSkipped", found.skipped);
    tally.fact("passed", found.passed);
    tally.fact("failed", failed);
    tally.fact("skipped", found.skipped);
    let covered = coverage::measure(&mut tally, report, sources);
    tally.passed = failed == 0 && found.passed > 0 && covered.is_some();
    let coverage = covered.map_or_else(
        || "coverage not measured".to_owned(),
        |percent| format!("{percent} % of lines covered"),
    );
    tally.words = if failed > 0 {
        format!(
            "{} failed, {} passed, {coverage}",
            plural(failed, "test"),
            found.passed
        )
    } else {
        format!("{} passed, {coverage}", plural(found.passed, "test"))
    };
    tally
}

fn build(report: &BuildReport) -> Tally {
    let mut tally = Tally::new(Check::Build);
    for error in &report.errors {
        tally.find(None, None, Some("error"), error);
    }
    if !report.files.iter().any(|file| file.path == "index.html") {
        let message = "the build wrote no index.html into dist: see the project's vite.config and index.html";
        tally.find(None, None, Some("no-index"), message);
    }
    let errors = tally.found;
    let bytes = report
        .files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
    tally.count("buildErrors", errors);
    tally.fact("errors", errors);
    tally.fact("files", report.files.len());
    tally.fact("bytes", bytes);
    tally.passed = errors == 0;
    tally.words = if errors == 0 {
        format!("built {}", plural(count(&report.files), "file"))
    } else {
        plural(errors, "build error")
    };
    tally
}

fn e2e(report: &TestsReport) -> Tally {
    let mut tally = Tally::new(Check::E2e);
    let none = "no end-to-end test was run: write a Playwright spec below e2e/ that uses the application";
    let found = ends(&mut tally, &report.tests, &report.errors, none);
    tally.count("e2ePassed", found.passed);
    tally.count("e2eFailed", found.failed);
    tally.count("e2eFlaky", found.flaky);
    tally.count("e2eSkipped", found.skipped);
    let Ends {
        passed,
        failed,
        flaky,
        skipped,
    } = found;
    tally.fact(
        "total",
        passed
            .saturating_add(failed)
            .saturating_add(flaky)
            .saturating_add(skipped),
    );
    tally.fact("passed", passed);
    tally.fact("failed", failed);
    tally.fact("flaky", flaky);
    tally.fact("skipped", skipped);
    tally.passed = failed == 0 && passed > 0;
    tally.words = if failed > 0 {
        format!(
            "{} in the browser failed, {passed} passed",
            plural(failed, "test")
        )
    } else {
        format!("{} in the browser passed", plural(passed, "test"))
    };
    if flaky > 0 {
        tally.words = format!("{}, {flaky} flaky", tally.words);
    }
    tally
}
