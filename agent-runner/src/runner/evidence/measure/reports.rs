//! The reports as `toolchain/checks` writes them. Fields that are not needed here are left out.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What every report has.
#[derive(Deserialize)]
pub struct Head {
    pub check: String,
    pub tool: Tool,
}

#[derive(Deserialize)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

#[derive(Deserialize)]
pub struct InstallReport {
    pub packages: u32,
}

#[derive(Deserialize)]
pub struct TypescriptReport {
    pub files: Vec<String>,
    pub diagnostics: Vec<Diagnostic>,
    pub total: u64,
}

#[derive(Deserialize)]
pub struct Diagnostic {
    pub file: Option<String>,
    pub line: Option<u32>,
    pub code: Option<String>,
    pub message: String,
}

#[derive(Deserialize)]
pub struct EslintReport {
    pub files: Vec<String>,
    pub messages: Vec<Lint>,
    pub errors: u64,
    pub warnings: u64,
    pub weakened: Vec<Weakened>,
}

#[derive(Deserialize)]
pub struct Lint {
    pub file: Option<String>,
    pub line: Option<u32>,
    pub rule: Option<String>,
    pub severity: String,
    pub message: String,
}

#[derive(Deserialize)]
pub struct Weakened {
    pub rule: String,
    pub file: String,
}

/// Of unit tests, and, without coverage, of tests in a browser.
#[derive(Deserialize)]
pub struct TestsReport {
    pub tests: Vec<Test>,
    pub errors: Vec<String>,
    #[serde(default)]
    pub coverage: Coverage,
}

#[derive(Deserialize)]
pub struct Test {
    pub file: String,
    pub name: String,
    pub state: State,
    #[serde(default)]
    pub message: String,
}

#[derive(Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum State {
    Passed,
    Failed,
    Flaky,
    Skipped,
}

#[derive(Deserialize, Default)]
pub struct Coverage {
    pub files: BTreeMap<String, Covered>,
}

#[derive(Deserialize, Clone, Copy)]
pub struct Covered {
    pub lines: u64,
    pub covered: u64,
}

#[derive(Deserialize)]
pub struct BuildReport {
    pub files: Vec<Built>,
    #[serde(default)]
    pub errors: Vec<String>,
}

#[derive(Deserialize)]
pub struct Built {
    pub path: String,
    pub bytes: u64,
}
