//! What keeps an expression from costing more than a moment.

use cel::common::ast::{Expr, LiteralValue};
use regex::RegexBuilder;
use serde_json::Value;

/// Largest pattern, in bytes of its compiled form: it is compiled each time that it is used.
const PATTERN_BYTES: usize = 1 << 18;
/// The same in a loop.
const PATTERN_BYTES_IN_LOOP: usize = 1 << 14;
/// Longest list or object among the values that an expression with a loop can see.
const LENGTH: usize = 256;

/// A pattern has to be known before the expression is evaluated, and small.
pub(super) fn check_pattern(pattern: Option<&Expr>, in_loop: bool) -> Result<(), String> {
    let Some(Expr::Literal(LiteralValue::String(pattern))) = pattern else {
        return Err("matches a text with a pattern that is no literal: write the pattern out".to_owned());
    };
    let most = if in_loop {
        PATTERN_BYTES_IN_LOOP
    } else {
        PATTERN_BYTES
    };
    match RegexBuilder::new(pattern.inner()).size_limit(most).build() {
        Ok(_) => Ok(()),
        Err(regex::Error::CompiledTooBig(_)) => Err(format!(
            "matches a text with a pattern of more than {most} bytes in compiled form: use ASCII classes such as [a-z] and \
             fewer repetitions, or compute it in a stage"
        )),
        Err(_) => Err("matches a text with a pattern that is none".to_owned()),
    }
}

/// A loop is as long as the longest list at most.
pub(super) fn check_lengths(scope: &Value) -> Result<(), String> {
    let mut open = vec![scope];
    while let Some(value) = open.pop() {
        let length = match value {
            Value::Array(values) => {
                open.extend(values);
                values.len()
            }
            Value::Object(fields) => {
                open.extend(fields.values());
                fields.len()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        };
        if length > LENGTH {
            return Err(format!(
                "goes through a list while a value that it can see has {length} elements; the limit is {LENGTH}: compute it in a stage"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use crate::expression::{holds, parse};

    #[test]
    fn patterns_are_written_out_and_small() {
        let names = json!({"parameters": {"names": ["ab", "c"]}});
        for text in [
            "'ab'.matches('^[a-z]+$')",
            r"'ä1'.matches(r'^\w+$')",
            "parameters.names.all(name, name.matches('^[a-z]{1,63}$'))",
        ] {
            assert_eq!(holds(text, &names), Ok(true), "{text}");
        }
        for (text, part) in [
            ("'a'.matches(parameters.names[0])", "no literal"),
            (r"'a'.matches(r'(\w{99}){9}')", "compiled form"),
            (
                r"parameters.names.all(name, name.matches(r'^\w{63}$'))",
                "compiled form",
            ),
            ("'a'.matches('(')", "that is none"),
            ("matches('a', parameters.names[0])", "no literal"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_loop_is_short_whatever_it_goes_through() {
        let numbers = |count: u32| json!({"parameters": {"a": (0..count).collect::<Vec<_>>(), "n": -1}});
        let text = "!parameters.a.exists(x, x == parameters.n || parameters.n in parameters.a)";
        assert_eq!(holds(text, &numbers(256)), Ok(true));
        let begun = Instant::now();
        let error = holds(text, &numbers(20_000)).unwrap_err();
        assert!(error.contains("20000 elements"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(holds("parameters.a[0] == 0", &numbers(20_000)), Ok(true));
    }
}
