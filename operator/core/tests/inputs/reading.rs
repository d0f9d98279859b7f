//! What is read from outside comes to an error or to a value.

use proptest::prelude::*;
use serde_json::Value;
use stagecraft_inputs::expressions::{expression, pieces};
use stagecraft_inputs::property::holds;
use stagecraft_inputs::values::{bytes, harm, spoil, text};
use stagecraft_inputs::{clean, parse_everything, read_documents, read_text, scene::Scene};

#[test]
fn any_bytes_are_read_as_anything() {
    holds(200, &bytes(), |bytes| parse_everything(&bytes));
}

#[test]
fn any_text_is_read_as_a_key_a_digest_a_time_or_a_name() {
    holds(2_000, &text(), |text| read_text(&text));
}

#[test]
fn any_text_can_be_an_expression() {
    let expressions = prop_oneof![6 => expression(), 1 => pieces(), 1 => text()];
    holds(500, &expressions, |text| {
        clean::expression(&text).play();
    });
}

#[test]
fn a_document_that_was_spoilt_is_read_or_refused() {
    let documents = [clean::scene(), clean::result(), clean::failure()];
    let spoilt = (
        prop::sample::select(documents.to_vec()),
        prop::collection::vec(harm(), 1..4),
    );
    holds(600, &spoilt, |(mut document, harms)| {
        for harm in &harms {
            spoil(&mut document, harm);
        }
        for part in [&document, &document["spec"], &document["results"]["make"]] {
            read_documents(part.to_string().as_bytes());
        }
    });
}

/// The documents that are spoilt would say nothing if they did not go all the way.
#[test]
fn the_clean_scene_goes_to_its_end() {
    let scene: Scene = serde_json::from_value(clean::scene()).unwrap();
    let status = scene.play();
    assert_eq!(status.phase.as_str(), "Completed", "{status:#?}");
    assert!(clean::scenes_with("text").len() == 7 && clean::scenes_with("{}").len() == 7);
    let text: Value = serde_json::to_value(&scene).unwrap();
    serde_json::from_str::<Scene>(&text.to_string()).unwrap();
}
