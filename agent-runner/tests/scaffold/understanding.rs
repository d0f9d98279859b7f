//! What texts are taken for.

use stagecraft_agent_runner::scaffold::understand::understand;
use stagecraft_api::run::RunProject;

use crate::{chosen, plan_of, project};

const FOUR: &str = "add subtract multiply divide";

fn check(text: &str, expected: &str) {
    assert_eq!(chosen(&plan_of(&[text])), expected, "{text}");
}

#[test]
fn operations_are_found_under_their_many_names() {
    for (text, expected) in [
        ("Add, subtract, multiply and divide two numbers.", FOUR),
        ("It adds, subtracts, multiplies and divides.", FOUR),
        ("Addition, subtraction, multiplication, division", FOUR),
        ("sum, difference, product and quotient of two numbers", FOUR),
        ("plus, minus, times and divided by", FOUR),
        ("plus/minus/times", "add subtract multiply"),
        ("Operations: + - × ÷", FOUR),
        ("The operators +, -, * and /", FOUR),
        ("+, -, x, /", FOUR),
        ("A button for \"+\" and a button for '-'.", "add subtract"),
        ("The basic operations (add, subtract)", "add subtract"),
        ("It must compute a + b", "add"),
        ("It must compute x^y", "power"),
        ("Raise a number to a power", "power"),
        ("Exponentiation with the ^ key", "power"),
        ("Square roots", "squareRoot"),
        ("A √ key, a % key and a ± key", "squareRoot percent negate"),
        ("It has sqrt and modulo.", "modulo squareRoot"),
        ("Show the remainder of a division", "modulo"),
        ("Calculate percentages", "percent"),
        ("Change the sign with +/-", "negate"),
        ("Negative numbers can be entered", "negate"),
        (
            "1. Users can add numbers\n2. Users can subtract numbers",
            "add subtract",
        ),
        ("As a user I want to multiply two numbers", "multiply"),
        ("Not only add but also subtract", "add subtract"),
        ("ADD and Subtract!", "add subtract"),
        ("Only addition and subtraction", "add subtract"),
        ("Multiplication only.", "multiply"),
    ] {
        check(text, expected);
    }
}

#[test]
fn the_four_operations_are_found_as_a_set() {
    for text in [
        "Basic arithmetic",
        "The four basic arithmetic operations",
        "All four operations",
        "A four-function calculator",
        "It supports the usual operations such as addition",
        "The 4 operations of arithmetic",
    ] {
        check(text, FOUR);
    }
    check(
        "The four operations and powers",
        "add subtract multiply divide power",
    );
}

#[test]
fn features_are_found_and_an_imperative_adds_no_addition() {
    for (text, features) in [
        ("Add a dark mode", "darkMode"),
        ("Add dark mode.", "darkMode"),
        ("It should add a history and a memory", "memory history"),
        ("Adding keyboard support", "keyboard"),
        ("Memory (M+, MR, MC)", "memory"),
        ("M+/M-/MR/MC keys", "memory memoryMinus"),
        ("Add to memory and recall memory", "memory"),
        ("Show previous calculations in a list", "history"),
        ("It can be used with the keyboard alone.", "keyboard"),
        ("Usable without a mouse", "keyboard"),
        ("A backspace key deletes the last digit", "backspace"),
        ("Light and dark theme", "darkMode"),
        ("Keyboard input plus a history", "history keyboard"),
    ] {
        check(text, &format!("{FOUR} {features}"));
    }
    check("Add subtraction", "subtract");
    check("Add buttons for multiplication and division", "multiply divide");
    check("An add button and a subtract button", "add subtract");
    check("Multiplication plus division", "multiply divide");
    check("Multiplication + division", "multiply divide");
    check("Multiplication plus a history", "multiply history");
}

#[test]
fn what_is_excluded_is_left_out() {
    for (text, expected) in [
        ("Basic arithmetic, but no division", "add subtract multiply"),
        (
            "The four operations without division and multiplication",
            "add subtract",
        ),
        ("All four operations except division.", "add subtract multiply"),
        ("A calculator that cannot divide", "add subtract multiply"),
        ("No division. Powers instead.", "power"),
        ("Add and subtract; don't multiply or divide", "add subtract"),
        (
            "Addition and subtraction. Division is not needed.",
            "add subtract",
        ),
        ("It must add and subtract, division is not needed", "add subtract"),
        ("Addition is needed and division is not needed", "add"),
        ("Multiplication and division are unnecessary", "add subtract"),
        ("It has no memory, history or dark mode", FOUR),
        ("Neither memory nor history", FOUR),
        ("No memory, no history", FOUR),
        ("No memory, but a history", "add subtract multiply divide history"),
        (
            "It has no memory and has a history",
            "add subtract multiply divide history",
        ),
        (
            "Without memory and with history",
            "add subtract multiply divide history",
        ),
        (
            "It doesn’t need a memory. It needs a history.",
            "add subtract multiply divide history",
        ),
        ("No division, only addition and subtraction", "add subtract"),
        ("It has no division\nor multiplication", "add subtract"),
    ] {
        check(text, expected);
    }
    let texts = [
        "A calculator with four basic operations.",
        "No division!",
        "A history",
        "Without memory",
    ];
    assert_eq!(chosen(&plan_of(&texts)), "add subtract multiply history");
}

#[test]
fn qualities_that_every_calculator_has_are_met() {
    for text in [
        "Dividing by zero shows a message instead of a number.",
        "Division by zero must not crash the app",
        "Never divide by zero",
        "Dividing by zero shows \"Cannot divide by zero\".",
        "The app works in the browser and is responsive on mobile phones",
        "Accessible for screen readers",
        "Unit tests and end-to-end tests with a test coverage of at least 80 %",
        "Test coverage over 90 percent",
        "Clean, readable code in TypeScript",
        "A simple, modern and intuitive user interface",
        "No login, no database and no cookies",
        "It never shows NaN or Infinity",
        "It has a clear button and a decimal point",
        "Chained calculations",
        "The product should be easy to use",
        "It has a display and large buttons",
        "No errors and no console errors",
    ] {
        check(text, FOUR);
    }
    let plan = plan_of(&["Responsive design", "Add and subtract"]);
    assert_eq!(plan.requirements[0].how, "the page fits small and large screens");
    assert!(
        plan.decisions
            .contains(&"met by every calculator: the page fits small and large screens".to_owned()),
        "{:?}",
        plan.decisions
    );
}

#[test]
fn a_coverage_or_a_message_is_no_wish_for_an_operation() {
    check("Multiply. Coverage of 90 %.", "multiply");
    check("Add only. Dividing by zero shows a message.", "add");
    check("Add. Dividing by zero shows a message.", "add divide");
    let plan = plan_of(&["Add and multiply only", "Division by zero shows a message"]);
    assert_eq!(chosen(&plan), "add multiply");
    assert_eq!(
        plan.requirements[1].how,
        "nothing is divided, so nothing by zero; what has no result shows a message"
    );
}

#[test]
fn without_a_named_operation_it_has_the_four_and_says_so() {
    let plan = plan_of(&["A calculator for the browser"]);
    assert_eq!(chosen(&plan), FOUR);
    assert!(
        plan.decisions
            .contains(&"no operation is named, so it has add, subtract, multiply, divide".to_owned())
    );
    assert_eq!(plan.requirements[0].how, "runs in the browser");
    let named = plan_of(&["Add"]);
    assert!(!named.decisions.iter().any(|decision| decision.contains("named")));
}

#[test]
fn the_description_counts_and_is_overruled_by_requirements() {
    let described = |description: &str, requirements: &[&str]| RunProject {
        description: description.into(),
        ..project(requirements)
    };
    let plan = understand(&described("It adds numbers. It has a history.", &["Keyboard"])).unwrap();
    assert_eq!(chosen(&plan), "add history keyboard");
    let plan = understand(&described(
        "It adds and divides, with memory.",
        &["No division", "No memory"],
    ))
    .unwrap();
    assert_eq!(chosen(&plan), "add");
    for decision in [
        "without divide: requirement 1 overrules the description",
        "without memory: requirement 2 overrules the description",
    ] {
        assert!(
            plan.decisions.contains(&decision.to_owned()),
            "{:?}",
            plan.decisions
        );
    }
    let plan = understand(&described("Basic arithmetic", &["Only addition"])).unwrap();
    assert_eq!(chosen(&plan), "add");
}

#[test]
fn every_requirement_says_what_it_was_taken_for() {
    let texts = [
        "Add, subtract and the four operations",
        "M−",
        "No history and no dark mode",
        "A calculator",
        "Powers only as well as add, subtract, multiply, divide",
    ];
    let plan = plan_of(&texts[..4]);
    let how: Vec<&str> = plan.requirements.iter().map(|met| met.how.as_str()).collect();
    assert_eq!(
        how,
        [
            "operations add, subtract, multiply, divide",
            "feature memoryMinus",
            "no history; no darkMode",
            "is a calculator"
        ]
    );
}
