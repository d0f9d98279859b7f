//! Megabytes, thousands of levels, thousands of entries.

use serde_json::{Map, Value, json};
use stagecraft_inputs::property::within_a_moment;
use stagecraft_inputs::scene::Scene;
use stagecraft_inputs::{clean, parse_everything, read_documents, read_text};

const MEGABYTE: usize = 1 << 20;

fn played(document: &Value) -> stagecraft_api::WorkflowStatus {
    let scene: Scene = serde_json::from_str(&document.to_string()).unwrap();
    scene.play()
}

fn message(document: &Value) -> String {
    let mut status = None;
    within_a_moment(|| status = Some(played(document))).unwrap();
    let status = status.unwrap();
    let accepted = status.conditions.iter().find(|known| known.type_ == "Accepted");
    accepted
        .map(|condition| condition.message.clone())
        .unwrap_or_default()
}

#[test]
fn megabytes_of_anything_are_refused_or_read_within_a_moment() {
    for part in [
        "[", "{\"a\":", "\"", "1", "-", "a", "\u{0}", "${{ 1 }}", "ä", "(", "!", "[[],",
    ] {
        let text = part.repeat(MEGABYTE / part.len());
        within_a_moment(|| read_documents(text.as_bytes())).unwrap();
    }
    for part in ["${{ 1 }}", "a", "\u{1}", "𝕏"] {
        let text = part.repeat(MEGABYTE / part.len() / 8);
        within_a_moment(|| read_text(&text)).unwrap();
        within_a_moment(|| read_documents(text.as_bytes())).unwrap();
        for scene in clean::scenes_with(&text)
            .into_iter()
            .chain([clean::expression(&text)])
        {
            within_a_moment(|| drop(scene.play())).unwrap();
        }
    }
}

#[test]
fn thousands_of_levels_are_refused_by_every_reader() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let text = format!("{}1{}", open.repeat(10_000), close.repeat(10_000));
        within_a_moment(|| parse_everything(text.as_bytes())).unwrap();
        assert!(serde_json::from_str::<Value>(&text).is_err());
    }
}

#[test]
fn a_spec_that_is_too_large_is_refused_before_it_is_looked_into() {
    let mut document = clean::scene();
    let fields = (0..100_000).map(|number| (format!("p{number}"), json!("${{ parameters.share }}")));
    document["spec"]["parameters"] = Value::Object(fields.collect::<Map<_, _>>());
    let said = message(&document);
    assert!(said.starts_with("spec: ") && said.contains("bytes"), "{said}");
}

#[test]
fn a_template_with_thousands_of_references_is_refused() {
    let mut document = clean::scene();
    let references = "${{ parameters.names }}".repeat(MEGABYTE / 32);
    let mut template = document["spec"]["template"].take();
    template["stages"][0]["payload"] = json!({"a": references, "b": [references.clone(), references]});
    document["spec"] = json!({"templateRef": {"name": "mine"}, "project": document["spec"]["project"]});
    document["templates"] = json!({"mine": template});
    let said = message(&document);
    assert!(said.contains("at most 64 references"), "{said}");
}

#[test]
fn a_schema_bomb_is_refused() {
    let mut document = clean::scene();
    let levels = (0..40).map(|level| {
        let next = json!({"$ref": format!("#/$defs/l{}", level + 1)});
        (format!("l{level}"), json!({"anyOf": [next, next]}))
    });
    let mut levels: Map<String, Value> = levels.collect();
    levels.insert("l40".to_owned(), json!({"type": "null"}));
    document["agents"]["worker"]["payloadSchema"] = json!({"$defs": levels, "$ref": "#/$defs/l0"});
    let said = message(&document);
    assert!(said.contains("more than 2000 parts"), "{said}");
    document["agents"]["worker"]["payloadSchema"] = json!({"$ref": "#"});
    let said = message(&document);
    assert!(said.contains("leads back to itself"), "{said}");
}

#[test]
fn a_pattern_that_would_go_back_for_ever_is_matched_in_a_moment() {
    let mut document = clean::scene();
    let many = vec!["a".repeat(40) + "!"; 1_000];
    document["spec"]["template"]["parameters"][1] = json!({"name": "names", "default": many,
        "schema": {"items": {"type": "string", "pattern": "^(a+)+$"}}});
    let said = message(&document);
    assert!(said.contains("does not match"), "{said}");
}

#[test]
fn a_long_list_is_not_gone_through_by_a_condition() {
    let mut document = clean::scene();
    let numbers: Vec<u32> = (0..9_000).collect();
    document["spec"]["parameters"]["names"] = json!(numbers);
    document["spec"]["template"]["stages"][1]["when"] =
        json!("!parameters.names.exists(x, -1 in parameters.names)");
    within_a_moment(|| {
        let status = played(&document);
        assert!(status.message.contains("9000 elements"), "{}", status.message);
    })
    .unwrap();
}
