//! A Workflow stays under 512 KiB, whatever an agent writes.

use serde_json::{Value, json};
use stagecraft_api::WorkflowPhase;
use stagecraft_api::budget::{Amount, ModelUsage, Tokens};
use stagecraft_api::digest::Digest;
use stagecraft_api::error::{Category, Severity, StructuredError, truncate};
use stagecraft_api::limit::{self, stored_bytes};
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{Artifact, Changes, StageStatus, WorkflowStatus, WorkspaceRef};
use stagecraft_core::Observation;
use stagecraft_core::resolve::Refusal;

use crate::fixture::{Scene, object};

/// Names of the longest kind.
fn stages() -> Vec<String> {
    (0..limit::STAGES)
        .map(|number| format!("{number:02}-{}", "s".repeat(60)))
        .collect()
}

fn template(edges: &str) -> String {
    let stages: Vec<String> = stages().iter().map(|name| format!("{name}{edges}")).collect();
    stages.join(", ")
}

fn stored<T: serde::Serialize>(value: &T) -> usize {
    stored_bytes(&serde_json::to_string(value).unwrap())
}

/// Texts of which stored JSON makes more bytes than they have.
const TEXTS: [&str; 6] = ["x", "\"", "\\", "\n", "\u{1}", "<"];

fn worst_success(text: &str) -> Outcome {
    let frame = r#"{"text":""}"#.len();
    let width = stored(&json!(text)) - 2;
    let outputs = object(json!({"text": text.repeat((limit::OUTPUTS_BYTES - frame) / width)}));
    let mut artifacts = Vec::new();
    for number in 0..limit::ARTIFACTS {
        artifacts.push(Artifact {
            name: format!("{number:02}{}", text.repeat(8)),
            digest: Digest::of(b""),
            bytes: limit::BLOB_BYTES,
            media_type: "application/x-ndjson".into(),
        });
        if stored(&artifacts) > limit::ARTIFACTS_BYTES {
            artifacts.pop();
            break;
        }
    }
    Outcome::Succeeded {
        summary: text.repeat(100_000),
        outputs,
        workspace: Some(WorkspaceRef {
            commit: "0123456789abcdef0123456789abcdef01234567".into(),
            bundle: Digest::of(b""),
            bytes: limit::BLOB_BYTES,
            changes: Some(Changes {
                base: Some("0123456789abcdef0123456789abcdef01234567".into()),
                files: limit::COUNT,
                insertions: limit::COUNT,
                deletions: limit::COUNT,
                stat: truncate(&text.repeat(100_000), limit::STAT_BYTES),
            }),
        }),
        artifacts,
        metrics: std::collections::BTreeMap::new(),
    }
}

/// As many gates as fit, with names and numbers of the longest kind. None of them was measured.
fn gates() -> Vec<Value> {
    let gate = |number: u32| json!({"metric": format!("m{number:02}{}", "x".repeat(37)), "operator": ">=", "threshold": -1.234_567_890_123_456_7e-300});
    (0..12).map(gate).collect()
}

/// The same, of which none stops anything.
fn warnings() -> Vec<Value> {
    let mut gates = gates();
    for gate in &mut gates {
        gate["severity"] = json!("warning");
    }
    gates
}

/// As much as can be told of models.
fn worst_usage() -> Vec<ModelUsage> {
    let usage = |number: usize| ModelUsage {
        run: u32::MAX,
        stage: stages()[number % limit::STAGES].clone(),
        provider: "p".repeat(63),
        model: format!("{number:02}{}", "m".repeat(198)),
        amount: Amount {
            calls: limit::COUNT / 100,
            tokens: Tokens {
                input: limit::COUNT / 1_000,
                output: limit::COUNT / 1_000,
                cache_write: limit::COUNT / 1_000,
                cache_read: limit::COUNT / 1_000,
            },
            cost: limit::COUNT / 100,
        },
    };
    (0..limit::MODEL_USAGES).map(usage).collect()
}

fn worst_failure(text: &str) -> Outcome {
    Outcome::Failed {
        error: StructuredError {
            code: text.repeat(100),
            message: text.repeat(100_000),
            category: Category::Configuration,
            severity: Severity::Warning,
            retryable: true,
            retry_after: Some(u32::MAX),
            suggested_action: Some(text.repeat(100_000)),
        },
    }
}

/// Every stage fails until its history is full, and then ends as `last` says. All stages run side by side, so that one
/// failure ends none of the others.
fn play(text: &str, last: fn(&str) -> Outcome, gates: &[Value]) -> WorkflowStatus {
    let mut scene = Scene::new(&template(":"));
    play_in(&mut scene, text, last, gates);
    scene.observation.status
}

/// The same in a Workflow of the caller's.
fn play_in(scene: &mut Scene, text: &str, last: fn(&str) -> Outcome, gates: &[Value]) {
    scene.observation.spec.stages = stages()
        .iter()
        .map(|name| serde_json::from_value(json!({"name": name, "retries": 5, "gates": gates})).unwrap())
        .collect();
    scene.act();
    scene.observation.used = Some(worst_usage());
    for round in 0..6 {
        scene.at(round * 1_000_000);
        scene.act();
        for stage in stages() {
            let outcome = if round < 5 {
                worst_failure(text)
            } else {
                last(text)
            };
            scene.result(&stage, outcome);
        }
        scene.act();
    }
}

#[test]
fn the_largest_status_and_spec_stay_under_the_bound() {
    for text in TEXTS {
        for last in [worst_success, worst_failure] {
            let status = play(text, last, &gates());
            assert!(status.phase.is_terminal(), "{:?}", status.phase);
            assert!((1..=limit::HISTORY).contains(&status.stages[1].history.len()));
            let bytes = stored(&status);
            assert!(
                bytes + limit::SPEC_BYTES < limit::WORKFLOW_BYTES,
                "{bytes} bytes of status with {text:?}"
            );
            assert!(
                bytes > 100_000,
                "{bytes} bytes are not the worst case of {text:?}"
            );
            for stage in &status.stages {
                check_texts(stage);
            }
            assert!(status.message.len() <= limit::MESSAGE_BYTES);
            for condition in &status.conditions {
                assert!(condition.message.len() <= limit::CONDITION_BYTES);
            }
        }
    }
}

#[test]
fn the_largest_workflow_that_succeeds_is_no_failure() {
    for text in TEXTS {
        let status = play(text, worst_success, &warnings());
        assert_eq!(status.phase, WorkflowPhase::Completed, "{}", status.message);
        let bytes = stored(&status);
        assert!(
            bytes + limit::SPEC_BYTES < limit::WORKFLOW_BYTES,
            "{bytes} bytes of status with {text:?}"
        );
        for stage in status.stages.iter().skip(1) {
            assert!(stage.workspace.is_some() && !stage.outputs.is_empty());
            check_texts(stage);
        }
        assert_eq!(status.models.unwrap().by.len(), limit::MODEL_USAGES);
    }
}

/// As much as `kubectl apply` leaves of the largest spec, which stands in an annotation once more, with as much again for who wrote what.
const METADATA: usize = 128 * 1024;

#[test]
fn a_workflow_with_large_metadata_keeps_what_its_stages_made_and_less_of_how() {
    for text in TEXTS {
        let mut scene = Scene::new(&template(":"));
        scene.observation.identity.metadata_bytes = METADATA;
        play_in(&mut scene, text, worst_success, &warnings());
        let Observation { spec, status, .. } = &scene.observation;
        let bytes = stored(status) + stored(spec) + METADATA;
        assert!(bytes <= limit::WORKFLOW_BYTES, "{bytes} bytes with {text:?}");
        assert_eq!(status.phase, WorkflowPhase::Completed, "{}", status.message);
        for stage in status.stages.iter().skip(1) {
            assert!(stage.workspace.is_some() && !stage.outputs.is_empty() && !stage.artifacts.is_empty());
            assert_eq!(stage.failures, 5, "what was shed stays counted");
        }
        assert!(status.models.as_ref().unwrap().total.calls > 0);
    }
}

#[test]
fn metadata_without_bounds_end_no_workflow_and_what_has_no_room_is_not_written_again() {
    let mut scene = Scene::running("a, b");
    scene.observation.identity.metadata_bytes = limit::WORKFLOW_BYTES;
    scene.observation.used = Some(worst_usage());
    scene.at(1).act();
    assert!(crate::fixture::quiet(&scene.at(2).plan()));
    let models = scene.observation.status.models.as_ref().unwrap();
    assert!(models.by.is_empty() && models.total.calls > 0);
    for stage in ["a", "b"] {
        scene.result(stage, worst_success("x"));
        scene.act();
    }
    let status = &scene.observation.status;
    assert_eq!(status.phase, WorkflowPhase::Completed);
    assert!(scene.stage("a").workspace.is_some() && !scene.stage("a").outputs.is_empty());
}

/// The bounds of the schema: a text beyond them would make the API server refuse every patch.
fn check_texts(stage: &StageStatus) {
    let StageStatus {
        name,
        phase: _,
        run: _,
        failed_by: _,
        round: _,
        repair: _,
        agent,
        attempt: _,
        failures: _,
        losses: _,
        job,
        message,
        started_at: _,
        attempt_started_at: _,
        next_attempt_at: _,
        finished_at: _,
        summary,
        outputs,
        workspace: _,
        artifacts,
        gates,
        usage: _,
        error,
        history,
    } = stage;
    for text in [name, agent, job] {
        assert!(text.len() <= 63, "{text}");
    }
    for text in [message, summary] {
        assert!(text.len() <= limit::MESSAGE_BYTES, "{text}");
    }
    assert!(stored(outputs) <= limit::OUTPUTS_BYTES && stored(artifacts) <= limit::ARTIFACTS_BYTES);
    assert!(gates.len() <= limit::GATES && gates.iter().all(|gate| gate.metric.len() <= 40));
    for past in history {
        assert!(past.message.len() <= limit::HISTORY_MESSAGE_BYTES && past.code.len() <= 63);
    }
    if let Some(error) = error {
        assert!(error.code.len() <= 63 && error.message.len() <= limit::MESSAGE_BYTES);
    }
}

#[test]
fn the_longest_lists_of_needs_and_violations_fit_their_fields() {
    let text = format!("{}, last: {}", template(":"), stages().join(" "));
    let mut scene = Scene::new(&text);
    scene.act();
    for stage in &scene.observation.status.stages {
        check_texts(stage);
    }

    let mut scene = Scene::new(&text);
    scene.observation.spec.stages = stages()
        .iter()
        .map(|name| serde_json::from_value(json!({"name": name, "agent": "ghost"})).unwrap())
        .collect();
    scene.observation.spec.stages.truncate(20);
    scene.act();
    let status = &scene.observation.status;
    assert!(status.message.len() <= limit::MESSAGE_BYTES && !status.message.is_empty());
    for condition in &status.conditions {
        assert!(condition.message.len() <= limit::CONDITION_BYTES);
    }
}

#[test]
fn the_largest_task_fits_an_annotation() {
    let mut scene = Scene::new(&template(""));
    let RoomFor { requirement } = largest_requirement();
    scene.observation.spec.project.requirements = vec![requirement];
    scene.act();
    let mut largest = 0;
    for round in 0..limit::STAGES {
        scene.at(u64::try_from(round).unwrap());
        for task in crate::fixture::started(&scene.act()) {
            largest = largest.max(serde_json::to_string(&task).unwrap().len());
        }
        let stages = stages();
        scene.result(&stages[round], worst_success("x"));
    }
    assert!((200 * 1024..256 * 1024).contains(&largest), "{largest} bytes");
}

struct RoomFor {
    requirement: String,
}

/// The longest text that a Workflow of twenty stages takes.
fn largest_requirement() -> RoomFor {
    let fits = |bytes: usize| {
        let mut spec = crate::fixture::spec();
        spec.project.requirements = vec!["r".repeat(bytes)];
        match stagecraft_core::resolve::resolve("flow", &spec, &crate::fixture::catalog(&template(""))) {
            Ok(_) => true,
            Err(Refusal::Violations(_)) => false,
            Err(Refusal::NoRequirements) => panic!("there is one"),
        }
    };
    let (mut low, mut high) = (1, limit::SPEC_BYTES);
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if fits(middle) { low = middle } else { high = middle }
    }
    RoomFor {
        requirement: "r".repeat(low),
    }
}
