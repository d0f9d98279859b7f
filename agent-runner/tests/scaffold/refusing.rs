//! What is refused, and how the refusal names it.

use stagecraft_agent_runner::scaffold::error::KindError;
use stagecraft_api::Category;
use stagecraft_api::payload::WorkKind;
use stagecraft_api::run::RunProject;

use crate::{project, refusal_of};

/// `part` is in the message for a calculator with this second requirement.
fn check(text: &str, part: &str) {
    let message = refusal_of(&project(&["Add and subtract", text])).to_string();
    assert!(message.contains("requirement 2 `"), "{message}");
    assert!(message.contains(part), "{text}: {message}");
    assert!(!message.contains("requirement 1"), "{message}");
}

#[test]
fn what_is_not_understood_is_named_with_its_words() {
    for (text, words) in [
        ("Store results in PostgreSQL", "not understood: store, postgresql"),
        ("Save the history", "not understood: save"),
        (
            "The history survives a restart",
            "not understood: survives, restart",
        ),
        ("A chess engine", "not understood: chess, engine"),
        ("Add users", "not understood: users"),
        ("Matrix multiplication", "not understood: matrix"),
        ("Multiply complex numbers", "not understood: complex"),
        (
            "A scientific calculator with sine",
            "not understood: scientific, sine",
        ),
        ("Show the result with two decimals", "not understood: two"),
        ("A history of 100 entries", "not understood: 100, entries"),
        ("Calculate the tax as a percentage", "not understood: tax"),
        ("Test coverage of 100 %", "not understood: 100 %"),
        ("Give a 20 % discount", "not understood: 20 %, discount"),
        ("2 + 2 = 5", "not understood: 2, 5"),
        ("Dividing by zero returns infinity", "never part of one"),
        (
            "Dividing by zero shows \"Math error\"",
            "not understood: math error",
        ),
        ("Add, subtract, etc.", "not understood: etc"),
        ("Subtract rather than add", "not understood: than"),
        ("Power users", "not understood: users"),
        ("Low memory", "not understood: low"),
        ("Addiere zwei Zahlen", "not understood: addiere, zwei, zahlen"),
        ("加法", "not understood: 加法"),
        ("Multiply €", "not understood: €"),
    ] {
        check(text, words);
    }
}

#[test]
fn what_could_mean_two_things_is_refused() {
    for (text, word) in [
        ("No division, multiplication", "what `no` refers to"),
        ("No division, multiplication and power", "what `no` refers to"),
        ("It cannot be used without memory", "what `without` refers to"),
        ("It has no memory and a history", "what `and` refers to"),
        ("No division and multiply", "what `and` refers to"),
        (
            "It supports addition, subtraction and division is not needed",
            "refers to",
        ),
        ("Not needed: history", "refers to"),
        ("Add but do not add", "what `not` refers to"),
        ("Of course", "asks for nothing"),
        ("It works", "asks for nothing"),
    ] {
        check(text, word);
    }
}

#[test]
fn what_the_result_would_have_all_the_same_is_refused() {
    for (text, part) in [
        (
            "No TypeScript",
            "every calculator of the provider is so: strict TypeScript",
        ),
        ("Without tests", "has unit tests"),
        ("Not responsive", "fits small and large screens"),
        ("A login and user accounts", "never part of one"),
        ("It crashes", "never part of one"),
        ("Dividing by zero shows no message", "shows a message"),
    ] {
        check(text, part);
    }
}

#[test]
fn requirements_that_contradict_each_other_are_named() {
    for (texts, part) in [
        (
            ["Divide numbers", "No division"],
            "requirement 2 `No division` (requirement 1 says the opposite about divide)",
        ),
        (
            ["Only addition", "Multiply"],
            "requirement 1 `Only addition` (requirement 2 says the opposite about multiply)",
        ),
        (
            ["M- key", "No memory"],
            "requirement 1 says the opposite about memory",
        ),
        (
            ["Basic arithmetic", "Only a history, no four operations"],
            "leaves no operation over",
        ),
    ] {
        let message = refusal_of(&project(&texts)).to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_project_that_is_no_calculator_is_refused() {
    let shop = RunProject {
        name: "shop".into(),
        description: "A web shop".into(),
        requirements: vec!["Sell things".into(), "Responsive design".into()],
    };
    let message = refusal_of(&shop).to_string();
    assert!(
        message.contains("the description `A web shop` (not understood: shop)"),
        "{message}"
    );
    assert!(message.contains("requirement 1 `Sell things`"), "{message}");
    let page = RunProject {
        name: "page".into(),
        ..project(&["Responsive design", "Dark mode"])
    };
    let message = refusal_of(&page).to_string();
    assert!(
        message.contains("requirement 2 `Dark mode` (nothing says that the project is a calculator)"),
        "{message}"
    );
}

#[test]
fn each_kind_of_work_but_an_application_is_refused_with_its_reason() {
    let others = WorkKind::ALL.into_iter().filter(|kind| *kind != WorkKind::App);
    for kind in others {
        let error = KindError(kind).structured();
        assert_eq!(
            (error.code.as_str(), error.category, error.retryable),
            ("ProviderCannotMake", Category::Configuration, false)
        );
        let named = format!("no work of type {}", kind.as_str());
        assert!(
            error.message.contains(&named) && error.message.contains("calculators"),
            "{}",
            error.message
        );
        let action = error.suggested_action.unwrap();
        for part in [
            "ModelProvider of type anthropic or openai",
            "spec.stages[name=scaffold].agent",
        ] {
            assert!(action.contains(part), "{action}");
        }
    }
}

#[test]
fn the_error_is_final_and_says_what_to_do() {
    let error = refusal_of(&project(&["Add", "Store results in PostgreSQL", "User login"])).structured();
    assert_eq!(
        (error.code.as_str(), error.category, error.retryable),
        ("ProviderCannotMake", Category::Configuration, false)
    );
    assert_eq!(
        error.message,
        "the built-in provider makes calculators only and cannot meet requirement 2 `Store results in PostgreSQL` (not \
         understood: store, postgresql); requirement 3 `User login` (every calculator of the provider is so: what this \
         names is never part of one)"
    );
    let action = error.suggested_action.unwrap();
    assert!(
        action.contains("ModelProvider of type anthropic or openai"),
        "{action}"
    );
    assert!(action.contains("kubectl explain modelprovider.spec"), "{action}");
}
