//! What Redis may answer, and where a name that stood in it may lead.

use proptest::prelude::*;
use redis::Value;
use stagecraft_inputs::property::holds;
use stagecraft_inputs::values::text;
use stagecraft_operator::gateway::operator_url;
use stagecraft_operator::result_stream::{claimed, read};
use stagecraft_operator::results::Results;

/// Any answer, mostly of lists in lists.
fn answer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..9).prop_map(Value::BulkString),
        4 => text().prop_map(|text| Value::BulkString(text.into_bytes())),
        2 => prop::sample::select(&["0-0", "1-1", "namespace", "workflow", "result"][..])
            .prop_map(|text| Value::BulkString(text.as_bytes().to_vec())),
        1 => Just(Value::Nil),
        1 => any::<i64>().prop_map(Value::Int),
        1 => prop::num::f64::ANY.prop_map(Value::Double),
        1 => text().prop_map(Value::SimpleString),
    ];
    leaf.prop_recursive(4, 64, 6, |inner| {
        prop_oneof![
            4 => prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            1 => prop::collection::vec((inner.clone(), inner), 0..3).prop_map(Value::Map),
        ]
    })
}

#[test]
fn any_answer_of_redis_is_read_as_entries_or_as_none() {
    holds(2_000, &answer(), |answer| {
        let results = Results::default();
        let (_, entries) = claimed(answer.clone());
        for entry in entries.iter().chain(&read(answer)) {
            results.add(entry);
        }
    });
}

#[test]
fn a_name_leads_to_nothing_else_of_the_gateway() {
    let parts = prop::sample::select(
        &[
            ".", "..", "/", "\\", "%2e", "%2F", "?", "#", "@", ":", "\t", "\n", "uid", "results", " ",
        ][..],
    );
    let name = prop_oneof![
        prop::collection::vec(parts, 0..6).prop_map(|parts| parts.concat()),
        text(),
    ];
    holds(2_000, &name, |name| {
        let Some(url) = operator_url("https://gateway:8443", &["workflows", &name]) else {
            return;
        };
        let place = url
            .as_str()
            .strip_prefix("https://gateway:8443/v1/operator/workflows/");
        let place = place.unwrap_or_else(|| panic!("{name:?} leads to {url}"));
        assert!(!matches!(place, "" | "." | ".."), "{name:?} leads to {url}");
        assert!(!place.contains(['/', '?', '#', '\\']), "{name:?} leads to {url}");
    });
    for name in ["", ".", "..", "a\n", ".\t."] {
        assert_eq!(
            operator_url("https://gateway", &["workflows", name]),
            None,
            "{name:?}"
        );
    }
    let plain = operator_url("https://gateway/", &["results", "uid", "make", "1"]).unwrap();
    assert_eq!(plain.as_str(), "https://gateway/v1/operator/results/uid/make/1");
}
