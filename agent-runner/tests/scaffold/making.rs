//! What is rendered.

use std::collections::BTreeMap;

use stagecraft_agent_runner::scaffold::outputs::outputs;
use stagecraft_agent_runner::scaffold::plan::{Feature, Operation, Plan};
use stagecraft_agent_runner::scaffold::render::{MAIN_FILES, render};
use stagecraft_agent_runner::scaffold::understand::understand;
use stagecraft_api::limit;
use stagecraft_api::run::RunProject;

use crate::{plan_of, project};

const EVERYTHING: [&str; 3] = [
    "Add, subtract, multiply, divide, powers, modulo, square roots, percent and negate",
    "M+, M-, MR, MC",
    "A history, a keyboard, a dark mode and a backspace key",
];

fn files_of(requirements: &[&str]) -> BTreeMap<String, String> {
    render(&plan_of(requirements)).unwrap()
}

/// Plans with one operation or feature each, and with all but one.
fn one_by_one() -> Vec<Plan> {
    let all = plan_of(&EVERYTHING);
    let mut plans = vec![all.clone()];
    for operation in Operation::ALL {
        let mut one = plan_of(&["Add"]);
        one.operations = [operation].into();
        let mut others = all.clone();
        others.operations.remove(&operation);
        plans.extend([one, others]);
    }
    for feature in Feature::ALL {
        let mut one = plan_of(&["Add"]);
        one.features = match feature {
            Feature::MemoryMinus => [Feature::Memory, feature].into(),
            _ => [feature].into(),
        };
        let mut others = all.clone();
        others.features.remove(&feature);
        if feature == Feature::Memory {
            others.features.remove(&Feature::MemoryMinus);
        }
        plans.extend([one, others]);
    }
    plans
}

/// Words and code that only a project with it has, the first of them in every such project.
fn signs_of_operation(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::Add => &["add", "adds", "addition", "'+'", ">+<", "left + right"],
        Operation::Subtract => &["subtract", "subtraction", "difference", "left - right", ">−<"],
        Operation::Multiply => &["multiply", "multiplication", "product", "times", "×"],
        Operation::Divide => &["divide", "division", "quotient", "÷", "left / right"],
        Operation::Power => &["power", "powers", "'^'", ">^<", "left ** right"],
        Operation::Modulo => &["modulo", "mod", "remainder", "whole % by"],
        Operation::SquareRoot => &["squareroot", "square", "sqrt", "√"],
        Operation::Percent => &["percent", "hundredths", "'%'", ">%<"],
        Operation::Negate => &["negate", "sign", "±", "negative"],
    }
}

fn signs_of_feature(feature: Feature) -> &'static [&'static str] {
    match feature {
        Feature::Backspace => &["backspace", "⌫"],
        Feature::Memory => &["memory", "memoryplus", "memoryrecall", "accumulate", "stored"],
        Feature::MemoryMinus => &["memoryminus", "m−"],
        Feature::History => &["history", "clearhistory", "past"],
        Feature::Keyboard => &["keyboard", "keydown", "escape"],
        Feature::DarkMode => &["dark", "theme", "darken"],
    }
}

/// Words are compared whole: `padding` is no `add`.
fn mentions(text: &str, sign: &str) -> bool {
    if !sign.chars().all(char::is_alphabetic) {
        return text.contains(sign);
    }
    text.split(|character: char| !character.is_alphabetic())
        .any(|word| word.to_lowercase() == sign)
}

/// Words that belong to something else: a negative number has no root and no power, and a remainder
/// has a sign.
fn is_elsewhere(plan: &Plan, sign: &str) -> bool {
    let has = |operation| plan.operations.contains(&operation);
    match sign {
        "negative" => has(Operation::Power) || has(Operation::SquareRoot),
        "sign" => has(Operation::Modulo),
        _ => false,
    }
}

#[test]
fn what_was_not_asked_for_is_mentioned_nowhere_and_what_was_is() {
    for plan in one_by_one() {
        let files = render(&plan).unwrap();
        let written = || files.iter().filter(|(path, _)| *path != "package-lock.json");
        let check = |asked: bool, name: &str, signs: &[&str]| {
            let signs = signs.iter().filter(|sign| !is_elsewhere(&plan, sign));
            for sign in signs.take(if asked { 1 } else { usize::MAX }) {
                let found: Vec<&String> = written()
                    .filter(|(path, text)| mentions(text, sign) || mentions(path, sign))
                    .map(|(path, _)| path)
                    .collect();
                assert_eq!(
                    !found.is_empty(),
                    asked,
                    "{name}: {sign} of {plan:?} in {found:?}"
                );
            }
        };
        for operation in Operation::ALL {
            let asked = plan.operations.contains(&operation);
            check(asked, operation.name(), signs_of_operation(operation));
        }
        for feature in Feature::ALL {
            check(
                plan.features.contains(&feature),
                feature.name(),
                signs_of_feature(feature),
            );
        }
    }
}

#[test]
fn each_operation_is_in_code_page_unit_tests_and_a_spec_of_its_own() {
    let files = files_of(&EVERYTHING);
    for operation in Operation::ALL {
        let name = operation.name();
        for (file, part) in [
            ("src/arithmetic.ts", format!("export function {name}(")),
            (
                "index.html",
                format!("data-key=\"{name}\" aria-label=\"{}\"", operation.label()),
            ),
            ("tests/arithmetic.test.ts", format!("describe('{name}'")),
            ("tests/calculator.test.ts", format!("'{name}'")),
            ("tests/main.test.ts", format!("'{}'", operation.label())),
            ("e2e/keyboard.spec.ts", format!("test('keyboard: {name}'")),
        ] {
            assert!(files[file].contains(&part), "{file}: {part}");
        }
        let spec = format!("test('{name}: ");
        assert_eq!(
            files
                .iter()
                .filter(|(path, text)| path.ends_with(".spec.ts") && text.contains(&spec))
                .count(),
            1,
            "{name}"
        );
    }
    assert!(files["e2e/divide.spec.ts"].contains("Cannot divide by zero"));
    for spec in [
        "backspace",
        "dark-mode",
        "history",
        "keyboard",
        "memory",
        "square-root",
    ] {
        assert!(files.contains_key(&format!("e2e/{spec}.spec.ts")), "{spec}");
    }
}

#[test]
fn examples_tell_operations_apart() {
    let mut results: Vec<&str> = Operation::ALL
        .map(|operation| operation.example().result)
        .to_vec();
    results.sort_unstable();
    results.dedup();
    assert_eq!(results.len(), Operation::ALL.len());
}

#[test]
fn the_same_requirements_make_the_same_bytes() {
    for requirements in [&EVERYTHING[..], &["Add"], &["A calculator"]] {
        assert_eq!(files_of(requirements), files_of(requirements));
        assert_eq!(plan_of(requirements), plan_of(requirements));
    }
    assert_eq!(files_of(&["Add and subtract"]), files_of(&["+ -"]));
}

#[test]
fn every_file_is_plain_text_that_ends_with_a_line_break() {
    for plan in one_by_one() {
        for (path, text) in render(&plan).unwrap() {
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{path}");
            assert!(!text.contains("\n\n\n"), "{path}:\n{text}");
            assert!(!text.contains("{%") && !text.contains("{{"), "{path}");
            assert!(
                text.lines().all(|line| line == line.trim_end()),
                "{path}:\n{text}"
            );
        }
    }
}

#[test]
fn tools_are_pinned_and_the_same_as_the_toolchains() {
    let files = files_of(&["Add"]);
    let manifest: serde_json::Value = serde_json::from_str(&files["package.json"]).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&files["package-lock.json"]).unwrap();
    assert_eq!(
        lock["packages"][""]["devDependencies"],
        manifest["devDependencies"]
    );
    let toolchain = concat!(env!("CARGO_MANIFEST_DIR"), "/../toolchain/versions.json");
    let versions: BTreeMap<String, String> =
        serde_json::from_str(&std::fs::read_to_string(toolchain).unwrap()).unwrap();
    for (package, version) in versions {
        assert_eq!(manifest["devDependencies"][&package], version, "{package}");
    }
    for (path, package) in lock["packages"].as_object().unwrap() {
        if !path.is_empty() {
            let resolved = package["resolved"].as_str().unwrap();
            assert!(resolved.starts_with("https://registry.npmjs.org/"), "{resolved}");
            assert!(
                package["integrity"].as_str().unwrap().starts_with("sha512-"),
                "{path}"
            );
        }
    }
    for script in [
        "dev",
        "build",
        "preview",
        "test",
        "coverage",
        "lint",
        "typecheck",
        "e2e",
    ] {
        assert!(manifest["scripts"][script].is_string(), "{script}");
    }
}

#[test]
fn the_projects_name_is_in_manifest_lock_file_and_page() {
    let named = RunProject {
        name: "my-shop".into(),
        ..project(&["Add"])
    };
    let files = render(&understand(&named).unwrap()).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&files["package.json"]).unwrap();
    let lock: serde_json::Value = serde_json::from_str(&files["package-lock.json"]).unwrap();
    assert_eq!(manifest["name"], "my-shop");
    assert_eq!(lock["name"], "my-shop");
    assert_eq!(lock["packages"][""]["name"], "my-shop");
    assert!(files["index.html"].contains("<h1>My shop</h1>"));
    assert!(files["README.md"].starts_with("# My shop\n"));
}

#[test]
fn no_name_breaks_out_of_the_files() {
    let mut plan = plan_of(&["Add"]);
    plan.name = "<script>'\"`${alert(1)}{{ 7 * 7 }}\n".into();
    let files = render(&plan).unwrap();
    assert!(
        files["index.html"].contains("<h1>Script alert 1 7 7</h1>"),
        "{}",
        files["index.html"]
    );
    let manifest: serde_json::Value = serde_json::from_str(&files["package.json"]).unwrap();
    assert_eq!(manifest["name"], plan.name.as_str());
}

#[test]
fn the_outputs_are_these() {
    let plan = plan_of(&[
        "Add and divide",
        "Dividing by zero shows a message",
        "A history",
        "No memory",
    ]);
    let files = render(&plan).unwrap();
    let mut outputs = outputs(&plan, &files);
    let lines = outputs.remove("lines").unwrap().as_u64().unwrap();
    let lock = files["package-lock.json"].lines().count();
    let all: usize = files.values().map(|text| text.lines().count()).sum();
    assert_eq!(usize::try_from(lines).unwrap(), all - lock);
    assert_eq!(
        serde_json::Value::Object(outputs),
        serde_json::json!({
            "provider": "builtin",
            "files": files.len(),
            "directories": 4,
            "mainFiles": ["index.html", "src/main.ts", "src/calculator.ts", "src/arithmetic.ts", "README.md"],
            "operations": ["add", "divide"],
            "features": ["history"],
            "decisions": [
                "operations are done from left to right, without precedence",
                "the history has the last 20 calculations and lasts as long as the page is open",
                "met by every calculator: what has no result shows a message",
                "met by every calculator: division by zero shows a message",
            ],
            "requirements": [
                {"number": 1, "met": "operations add, divide"},
                {"number": 2, "met": "division by zero shows a message; what has no result shows a message"},
                {"number": 3, "met": "feature history"},
                {"number": 4, "met": "no memory"},
            ],
        })
    );
    for file in MAIN_FILES {
        assert!(files.contains_key(file), "{file}");
    }
}

#[test]
fn the_outputs_of_the_largest_project_fit() {
    let long = "a responsive, accessible, tested, clean, typescript, simple, fast, documented, robust web calculator with clear \
                error messages, decimals, mouse, chaining, add, subtract, multiply, divide, power, modulo, square root, \
                percent, negation, memory, history, keyboard, dark mode, backspace, no login, no database";
    let mut texts = EVERYTHING.to_vec();
    texts.resize(64, long);
    let plan = plan_of(&texts);
    let outputs = outputs(&plan, &render(&plan).unwrap());
    let bytes = limit::stored_bytes(&serde_json::to_string(&outputs).unwrap());
    assert!(bytes <= limit::OUTPUTS_BYTES, "{bytes}");
    assert_eq!(outputs["requirements"].as_array().unwrap().len(), 64);
}
