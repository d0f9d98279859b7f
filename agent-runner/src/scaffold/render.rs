//! From a plan to the files of the project: the same plan, the same bytes.

use std::collections::{BTreeMap, BTreeSet};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, UndefinedBehavior, Value, context};

use super::plan::{Feature, Operation, Plan};

/// Rows of operations beside the four rows of numbers.
const ROWS: usize = 4;
/// The name in the template's package.json and package-lock.json, in whose place the project's goes.
const PACKAGE_NAME: &str = r#""name": "calculator""#;

/// When a file is part of the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    With(Feature),
    /// Once for each operation, under its name.
    EachOperation,
}

macro_rules! template {
    ($path:literal, $when:expr) => {
        template!($path, $path, $when)
    };
    ($path:literal, $source:literal, $when:expr) => {
        (
            $path,
            include_str!(concat!("../../templates/calculator/", $source)),
            $when,
        )
    };
}

/// Path in the project, template, and when it is rendered.
const TEMPLATES: &[(&str, &str, When)] = &[
    template!(".gitignore", "gitignore", When::Always),
    template!("README.md", When::Always),
    template!("e2e/backspace.spec.ts", When::With(Feature::Backspace)),
    template!("e2e/basics.spec.ts", When::Always),
    template!("e2e/dark-mode.spec.ts", When::With(Feature::DarkMode)),
    template!("e2e/history.spec.ts", When::With(Feature::History)),
    template!("e2e/keyboard.spec.ts", When::With(Feature::Keyboard)),
    template!("e2e/memory.spec.ts", When::With(Feature::Memory)),
    template!("e2e/page.ts", When::Always),
    template!("e2e/operation.spec.ts", When::EachOperation),
    template!("eslint.config.mjs", When::Always),
    template!("index.html", When::Always),
    template!("package-lock.json", When::Always),
    template!("package.json", When::Always),
    template!("playwright.config.ts", When::Always),
    template!("public/icon.svg", When::Always),
    template!("src/arithmetic.ts", When::Always),
    template!("src/calculator.ts", When::Always),
    template!("src/main.ts", When::Always),
    template!("src/style.css", When::Always),
    template!("tests/arithmetic.test.ts", When::Always),
    template!("tests/calculator.test.ts", When::Always),
    template!("tests/main.test.ts", When::Always),
    template!("tsconfig.json", When::Always),
    template!("vite.config.ts", When::Always),
    template!("vitest.config.ts", When::Always),
];

/// What the tools are installed from.
pub const LOCK_FILE: &str = "package-lock.json";
/// The files that a reader opens first.
pub const MAIN_FILES: [&str; 5] = [
    "index.html",
    "src/main.ts",
    "src/calculator.ts",
    "src/arithmetic.ts",
    "README.md",
];

/// The files of the project by path. An error would be one of the templates, which are part of the program.
pub fn render(plan: &Plan) -> Result<BTreeMap<String, String>, Error> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(true)
        .build()?;
    environment.set_syntax(syntax);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let context = project(plan);
    let mut files = BTreeMap::new();
    for (path, source, when) in TEMPLATES {
        match when {
            When::Always if path.starts_with("package") => {
                files.insert((*path).to_owned(), package(source, &plan.name));
            }
            When::Always => {
                let text = environment.render_named_str(path, source, context.clone())?;
                files.insert((*path).to_owned(), text);
            }
            When::With(feature) if plan.features.contains(feature) => {
                let text = environment.render_named_str(path, source, context.clone())?;
                files.insert((*path).to_owned(), text);
            }
            When::With(_) => {}
            When::EachOperation => {
                for operation in &plan.operations {
                    let context = context! { operation => described(*operation), ..context.clone() };
                    let text = environment.render_named_str(path, source, context)?;
                    files.insert(format!("e2e/{}.spec.ts", file_name(*operation)), text);
                }
            }
        }
    }
    Ok(files)
}

/// The manifest and the lock file are complete as they stand: what the tools install is the same for every project.
fn package(source: &str, name: &str) -> String {
    let name = serde_json::Value::from(name);
    source.replace(PACKAGE_NAME, &format!(r#""name": {name}"#))
}

fn project(plan: &Plan) -> Value {
    let described = |chosen: &dyn Fn(&Operation) -> bool| -> Value {
        let chosen = plan.operations.iter().filter(|operation| chosen(operation));
        chosen.map(|operation| described(*operation)).collect()
    };
    let two = |operation: &Operation| operation.example().right.is_some();
    let operations = Operation::ALL
        .iter()
        .map(|operation| (operation.name(), plan.operations.contains(operation)));
    let features = Feature::ALL
        .iter()
        .map(|feature| (feature.name(), plan.features.contains(feature)));
    let has: BTreeMap<&str, bool> = operations.chain(features).collect();
    let (columns, rows) = grid(&plan.operations);
    context! {
        title => title(&plan.name),
        has => has,
        operations => described(&|_| true),
        binary => described(&two),
        unary => described(&|operation| !two(operation)),
        features => plan.features.iter().map(|feature| feature.described()).collect::<Value>(),
        columns => columns,
        rows => rows,
    }
}

/// An operation as templates see it. `keys` are the keys of its first number, as literals.
fn described(operation: Operation) -> Value {
    let example = operation.example();
    let keys: Vec<String> = example.left.chars().map(|digit| format!("'{digit}'")).collect();
    let (before, after) = operation.around();
    context! {
        name => operation.name(),
        label => operation.label(),
        symbol => operation.symbol(),
        typed => operation.typed(),
        before => before,
        after => after,
        left => example.left,
        right => example.right.unwrap_or_default(),
        result => example.result,
        keys => keys.join(", "),
    }
}

/// As few columns as keep to [`ROWS`], filled evenly.
fn grid(operations: &BTreeSet<Operation>) -> (usize, usize) {
    let columns = operations.len().div_ceil(ROWS).max(1);
    (columns, operations.len().div_ceil(columns))
}

/// `my-calculator` is shown as `My calculator`. Whatever a name holds, only letters, digits and spaces come out, which need
/// no escapes in any of the languages.
fn title(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|character| {
            if character.is_ascii_alphanumeric() {
                character
            } else {
                ' '
            }
        })
        .collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let text = words.join(" ");
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + characters.as_str(),
        None => "Calculator".to_owned(),
    }
}

/// `squareRoot` lies in `square-root.spec.ts`.
fn file_name(operation: Operation) -> String {
    let mut name = String::new();
    for character in operation.name().chars() {
        if character.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(character.to_ascii_lowercase());
    }
    name
}
