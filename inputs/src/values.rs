//! What hostile values are made of.

use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use crate::expressions::{expression, pieces};

/// Texts that somebody has stumbled over before.
const TEXTS: [&str; 46] = [
    "",
    " ",
    "\0",
    "\u{1}\u{1f}\u{7f}",
    "\r\n\t",
    "\u{202e}txet",
    "\u{feff}a",
    "a\u{301}",
    "👩‍👩‍👧",
    "ß",
    "null",
    "NaN",
    "-Infinity",
    "1e999",
    "-1",
    "0x10",
    "+1",
    "4294967295",
    "4294967296",
    "18446744073709551616",
    "-9223372036854775809",
    "uid/stage/4294967295",
    "uid/stage/4294967296",
    "uid/stage/-1",
    "uid/stage/+1",
    "///",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
    "2026-11-01T10:00:00Z",
    "9999-12-30T22:00:00.999999999Z",
    "9999-12-31T23:59:59Z",
    "-009999-01-02T01:59:59Z",
    "-9999-01-01T00:00:00Z",
    "+292277026596-12-04T15:30:08Z",
    "1970-01-01T00:00:00.999999999999Z",
    "../../etc/passwd",
    "initialize",
    "${{",
    "${{ }}",
    "$${{ parameters.share }}",
    "${{ stages.make.outputs }}${{ parameters }}",
    "parameters.share / 0 > 1",
    "-9223372036854775808 / -1 == 1",
    "parameters.names[-1] == 'a' || parameters.names[9223372036854775807] == 'a'",
    "duration('1h') > duration('-99999999999999h') && timestamp('9999-12-31T23:59:59Z').getFullYear() > 1",
    "string(bytes('\\u0000')) + b'\\xff' == dyn(1u) || int(1e300) > uint(-1)",
];

/// A text: known to be bad, of any characters, like an expression, or long.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(TEXTS.as_slice()).prop_map(str::to_owned),
        4 => any::<String>(),
        2 => expression(),
        1 => pieces(),
        1 => (prop::sample::select(&["x", "\"", "\\", "<", "\u{1}", "ä", "𝕏", "[", "(", "${{a}}", "\n"][..]), 1..20_000_usize)
            .prop_map(|(part, count)| part.repeat(count)),
    ]
}

/// A number at the end of what some reader takes.
pub fn number() -> impl Strategy<Value = Value> {
    prop_oneof![
        prop::sample::select(
            &[
                0_i64,
                1,
                -1,
                i64::MAX,
                i64::MIN,
                4_294_967_295,
                4_294_967_296,
                1 << 53
            ][..]
        )
        .prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        any::<i64>().prop_map(Value::from),
        float().prop_map(|number| Number::from_f64(number).map_or(Value::Null, Value::Number)),
        prop::sample::select(&[f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -0.0, 1e300][..])
            .prop_map(Value::from),
    ]
}

/// Any number of 64 bits, also none and the infinite ones, which JSON does not have.
pub fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => prop::num::f64::ANY,
        1 => prop::sample::select(
            &[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 1e308, -0.0, 0.0, 80.0, 100.0][..]
        ),
    ]
}

/// Any value: wide, nested, or a chain as deep as a reader takes.
pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        3 => number(),
        3 => text().prop_map(Value::from),
        1 => (0..120_usize, any::<bool>()).prop_map(|(depth, object)| chain(depth, object)),
    ];
    leaf.prop_recursive(4, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Something like a JSON Schema.
pub fn schema() -> impl Strategy<Value = Value> {
    let reference =
        prop::sample::select(&["#", "#/allOf/0", "#/properties/n", "#/$defs/a", "other", "#/%00"][..]);
    let leaf = prop_oneof![
        2 => prop::sample::select(&["string", "number", "object", "array", "null"][..]).prop_map(|name| json!({"type": name})),
        1 => reference.prop_map(|reference| json!({"$ref": reference})),
        1 => text().prop_map(|pattern| json!({"pattern": pattern})),
        1 => (prop::sample::select(&["multipleOf", "minimum", "maximum", "minLength", "maxItems", "minProperties"][..]), number())
            .prop_map(|(name, bound)| json!({name: bound})),
        1 => value().prop_map(|value| json!({"enum": [value.clone()], "const": value})),
        1 => any::<bool>().prop_map(|unique| json!({"uniqueItems": unique, "additionalProperties": unique})),
        1 => text().prop_map(|format| json!({"format": format, "$schema": "https://json-schema.org/draft/2020-12/schema"})),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            (
                prop::sample::select(&["allOf", "anyOf", "oneOf", "prefixItems"][..]),
                prop::collection::vec(inner.clone(), 1..4)
            )
                .prop_map(|(name, parts)| json!({name: parts})),
            (
                prop::sample::select(
                    &[
                        "not",
                        "if",
                        "items",
                        "contains",
                        "propertyNames",
                        "unevaluatedProperties"
                    ][..]
                ),
                inner.clone()
            )
                .prop_map(|(name, part)| json!({name: part})),
            (
                prop::sample::select(&["properties", "$defs", "patternProperties", "dependentSchemas"][..]),
                text(),
                inner
            )
                .prop_map(
                    |(name, field, part)| json!({name: {"n": part.clone(), "a": part.clone(), field: part}})
                ),
        ]
    })
}

/// So many levels of lists or of objects.
pub fn chain(depth: usize, object: bool) -> Value {
    (0..depth).fold(Value::Null, |inner, _| {
        if object {
            Value::Object(Map::from_iter([("a".to_owned(), inner)]))
        } else {
            Value::Array(vec![inner])
        }
    })
}

/// One thing that is done to a document: which way to go, how, and with what.
pub type Harm = (Vec<u8>, u8, Value);

pub fn harm() -> impl Strategy<Value = Harm> {
    (prop::collection::vec(any::<u8>(), 1..9), any::<u8>(), value())
}

/// Goes down the document as the way says, and does the harm where it ends.
pub fn spoil(document: &mut Value, harm: &Harm) {
    let (way, how, with) = harm;
    let Some((step, rest)) = way.split_first() else {
        return put(document, *how, with);
    };
    let rest = (rest.to_vec(), *how, with.clone());
    match document {
        Value::Array(values) if !values.is_empty() => {
            let index = usize::from(*step) % values.len();
            if let Some(value) = values.get_mut(index) {
                spoil(value, &rest);
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let index = usize::from(*step) % fields.len();
            if let Some(field) = fields.values_mut().nth(index) {
                spoil(field, &rest);
            }
        }
        leaf => put(leaf, *how, with),
    }
}

/// What stands there mostly stays of its kind, or hardly anything that is spoilt could still be read.
fn put(place: &mut Value, how: u8, with: &Value) {
    let small = [
        Value::from(u32::MAX),
        Value::from(u32::MAX - 1),
        Value::from(0),
        Value::from(2),
    ];
    let large = [
        Value::from(u64::MAX),
        Value::from(i64::MIN),
        Value::from(f64::MAX),
        Value::from(-0.0),
    ];
    let pick = |numbers: &[Value]| numbers.iter().cycle().nth(usize::from(how / 16)).cloned();
    match (how % 16, &mut *place) {
        (0, _) | (_, Value::Null) => *place = with.clone(),
        (_, Value::String(text)) => {
            *text = with.as_str().map_or_else(|| with.to_string(), str::to_owned);
        }
        (1..=11, Value::Number(_)) => *place = pick(&small).unwrap_or_default(),
        (_, Value::Number(_)) => *place = pick(&large).unwrap_or_default(),
        (_, Value::Bool(truth)) => *truth = !*truth,
        (1..=3, Value::Array(values)) => values.clear(),
        (_, Value::Array(values)) => {
            let times = usize::from(how / 16) + 2;
            *values = values
                .iter()
                .cycle()
                .take(values.len() * times)
                .cloned()
                .collect();
        }
        (1..=3, Value::Object(fields)) => {
            let first = fields.keys().next().cloned().unwrap_or_default();
            fields.remove(&first);
        }
        (_, Value::Object(fields)) => {
            fields.insert("n".to_owned(), with.clone());
        }
    }
}

/// Bytes that may be JSON: a document, cut, doubled, changed at a place, or nothing of the kind.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..200),
        2 => text().prop_map(String::into_bytes),
        2 => value().prop_map(|value| value.to_string().into_bytes()),
        3 => (value(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(value, place, byte)| {
            let mut text = value.to_string().into_bytes();
            let place = place.index(text.len().max(1));
            if let Some(there) = text.get_mut(place) {
                *there = byte;
            }
            text
        }),
        1 => (value(), any::<prop::sample::Index>()).prop_map(|(value, place)| {
            let mut text = value.to_string().into_bytes();
            text.truncate(place.index(text.len() + 1));
            text
        }),
        1 => text().prop_map(|key| {
            let key = Value::from(key).to_string();
            format!("{{{key}: 1, {key}: {{{key}: 2, {key}: []}}}}").into_bytes()
        }),
    ]
}
