//! The planner over anything that can be read as what it looks at: it never panics, and what it stores keeps its bounds.

use std::cell::Cell;

use proptest::prelude::*;
use serde_json::{Value, json};
use stagecraft_api::result::Outcome;
use stagecraft_inputs::clean;
use stagecraft_inputs::property::holds;
use stagecraft_inputs::scene::Scene;
use stagecraft_inputs::values::{Harm, float, harm, number, schema, spoil, value};

/// The clean scene as it stands after so many turns, with everything that it came to.
fn under_way(turns: usize) -> Value {
    let scene: Scene = serde_json::from_value(clean::scene()).unwrap();
    serde_json::to_value(scene.after(turns)).unwrap()
}

/// How many documents were made, and how many of them could be read: a planner that is shown nothing keeps every promise.
#[derive(Default)]
struct Shown {
    made: Cell<u32>,
    read: Cell<u32>,
}

impl Shown {
    fn play(&self, document: &Value) {
        self.made.set(self.made.get() + 1);
        // From text, as the operator has it: what is too deep is refused there.
        if let Ok(scene) = serde_json::from_str::<Scene>(&document.to_string()) {
            self.read.set(self.read.get() + 1);
            scene.play();
        }
    }

    fn enough(&self) {
        let (made, read) = (self.made.get(), self.read.get());
        assert!(read * 5 >= made, "only {read} of {made} could be read");
    }
}

fn spoilt(document: &Value, harms: &[Harm]) -> Value {
    let mut document = document.clone();
    for harm in harms {
        spoil(&mut document, harm);
    }
    document
}

#[test]
fn a_scene_that_was_spoilt_anywhere_is_planned_for() {
    let shown = Shown::default();
    let documents: Vec<Value> = (0..8).map(under_way).collect();
    let values = (
        prop::sample::select(documents),
        prop::collection::vec(harm(), 1..5),
    );
    holds(1_000, &values, |(document, harms)| {
        shown.play(&spoilt(&document, &harms));
    });
    shown.enough();
}

/// Spoilt documents would say nothing of a part of the planner that the clean ones do not reach.
#[test]
fn each_detour_comes_to_what_it_is_for() {
    let mut missed = Vec::new();
    for (said, document) in clean::detours() {
        let scene: Scene = serde_json::from_value(document).unwrap();
        let status = serde_json::to_string(&scene.play()).unwrap();
        if !status.contains(said) {
            missed.push(format!("{said}: {status}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn a_detour_that_was_spoilt_anywhere_is_planned_for() {
    let shown = Shown::default();
    let documents: Vec<Value> = clean::detours()
        .into_iter()
        .flat_map(|(_, document)| {
            let scene: Scene = serde_json::from_value(document).unwrap();
            [0, 2, 4].map(|turns| serde_json::to_value(scene.after(turns)).unwrap())
        })
        .collect();
    let values = (
        prop::sample::select(documents),
        prop::collection::vec(harm(), 1..5),
    );
    holds(500, &values, |(document, harms)| {
        shown.play(&spoilt(&document, &harms));
    });
    shown.enough();
}

#[test]
fn whatever_the_gateway_says_of_models_and_people_of_approvals_is_heeded() {
    let shown = Shown::default();
    let parts = [
        "/report",
        "/used",
        "/providers",
        "/decision",
        "/decidedAt",
        "/ends",
        "/supersededBy",
    ];
    let mut full = clean::scene();
    for (_, document) in clean::detours() {
        for part in ["report", "ends", "decidedAt", "supersededBy"] {
            if let Some(value) = document.get(part) {
                full[part] = value.clone();
            }
        }
    }
    let values = (
        prop::sample::select(parts.to_vec()),
        prop::collection::vec(harm(), 1..4),
        any::<bool>(),
    );
    holds(500, &values, |(part, harms, alone)| {
        let mut document = if alone { clean::scene() } else { full.clone() };
        let place = part.trim_start_matches('/');
        document[place] = spoilt(&full[place], &harms);
        shown.play(&document);
    });
    shown.enough();
}

#[test]
fn a_status_that_somebody_else_wrote_is_planned_for() {
    let shown = Shown::default();
    let documents: Vec<Value> = (2..8).map(under_way).collect();
    let values = (
        prop::sample::select(documents),
        prop::collection::vec(harm(), 1..5),
    );
    holds(1_000, &values, |(mut document, harms)| {
        document["status"] = spoilt(&document["status"], &harms);
        shown.play(&document);
    });
    shown.enough();
}

#[test]
fn whatever_an_agent_hands_in_is_judged() {
    let shown = Shown::default();
    let values = (any::<bool>(), prop::collection::vec(harm(), 1..4), value());
    holds(500, &values, |(failed, harms, outputs)| {
        let result = if failed { clean::failure() } else { clean::result() };
        let mut document = clean::scene();
        document["results"] = json!({"make": spoilt(&result, &harms), "judge": clean::result()});
        shown.play(&document);
        let mut other = clean::result();
        other["outputs"] = json!({"n": outputs});
        document["results"] = json!({"make": other});
        shown.play(&document);
    });
    shown.enough();
}

#[test]
fn whatever_is_set_for_a_parameter_or_a_schema_is_held_to_it() {
    let shown = Shown::default();
    let values = (schema(), prop_oneof![number(), value()]);
    holds(1_000, &values, |(schema, given)| {
        let mut document = clean::scene();
        document["spec"]["parameters"]["names"] = given.clone();
        document["spec"]["template"]["parameters"][0]["schema"] = schema.clone();
        document["agents"]["worker"]["payloadSchema"] = schema.clone();
        document["agents"]["worker"]["outputsSchema"] = schema;
        document["spec"]["template"]["parameters"][0]["default"] = given;
        shown.play(&document);
    });
    shown.enough();
}

/// No reader of JSON brings these; a gate that held of them would let anything pass.
#[test]
fn a_metric_or_a_threshold_that_is_no_number_lets_nothing_pass() {
    let clean: Scene = serde_json::from_value(clean::scene()).unwrap();
    let pinned = clean.after(1);
    let passed = Cell::new(0);
    holds(
        500,
        &(float(), float(), any::<bool>()),
        |(metric, threshold, is_pinned)| {
            let mut scene = if is_pinned { pinned.clone() } else { clean.clone() };
            for stage in scene
                .spec
                .template
                .iter_mut()
                .flat_map(|template| &mut template.stages)
            {
                stage.gates.iter_mut().for_each(|gate| gate.threshold = threshold);
            }
            for stage in scene.run.iter_mut().flat_map(|run| &mut run.stages) {
                stage.gates.iter_mut().for_each(|gate| gate.threshold = threshold);
            }
            for result in scene.results.values_mut() {
                if let Outcome::Succeeded { metrics, .. } = &mut result.outcome {
                    metrics.insert("covered".to_owned(), metric);
                }
            }
            let status = scene.play();
            let judged = status.stages.iter().find(|stage| stage.name == "judge");
            let has_passed = judged.is_some_and(|stage| stage.phase.as_str() == "Succeeded");
            if has_passed {
                passed.set(passed.get() + 1);
                assert!(metric.is_finite() && metric >= threshold, "{metric} {threshold}");
            }
        },
    );
    assert!(passed.get() > 50, "{}", passed.get());
}
