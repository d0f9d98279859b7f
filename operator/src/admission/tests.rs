//! The memory of what runs and waits.

use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use serde_json::{Value, json};

use super::*;

const START: &str = "2026-11-01T10:00:00Z";

fn now(seconds: u64) -> Moment {
    let start: Moment = serde_json::from_value(json!(START)).unwrap();
    start.plus_seconds(seconds)
}

fn run() -> Run {
    serde_json::from_value(json!({
        "template": "t", "project": {"name": "p", "description": "", "requirements": ["x"]}, "priority": "medium",
        "stages": [{
            "name": "work", "needs": [], "phase": "Running", "timeoutSeconds": 1, "retries": 0, "payload": {},
            "agent": {"name": "worker", "version": "", "command": ["x"], "env": [], "resources": {}},
        }],
    }))
    .unwrap()
}

fn workflow(uid: &str, phase: &str, concurrency: &Value) -> Workflow {
    serde_json::from_value(json!({
        "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": uid, "namespace": "here", "uid": uid, "creationTimestamp": START},
        "spec": {"type": "echo", "concurrency": concurrency},
        "status": {
            "phase": if phase == "Succeeded" { "Completed" } else { "Running" }, "run": 1,
            "runRef": {"name": "run", "digest": stagecraft_api::Digest::of(b"run")},
            "stages": [{"name": "work", "phase": phase, "run": 1, "attempt": u8::from(phase != "Pending"),
                        "startedAt": (phase != "Pending").then_some(START)}],
        },
    }))
    .unwrap()
}

fn want(uid: &str, since: u64) -> Candidate {
    Candidate {
        place: Place {
            workflow_uid: uid.to_owned(),
            stage: "work".to_owned(),
        },
        seat: seat("here", &run().stages[0]),
        priority: stagecraft_api::workflow::Priority::Medium,
        since: now(since),
        agent_limit: None,
        key: None,
    }
}

fn admission(limit: usize) -> (Admission, UnboundedReceiver<ObjectRef<Guarded>>) {
    let (wake, woken) = unbounded();
    let settings = Settings {
        max_running_stages: Some(limit),
        ..Settings::default()
    };
    (Admission::new(settings, Clock::system(), wake), woken)
}

fn woken(receiver: &mut UnboundedReceiver<ObjectRef<Guarded>>) -> Vec<String> {
    std::iter::from_fn(|| receiver.try_recv().ok())
        .map(|reference| reference.name)
        .collect()
}

fn is_granted(decided: &admit::Admission) -> bool {
    matches!(decided, admit::Admission::Decided { granted, .. } if granted.contains("work"))
}

fn told(decided: &admit::Admission) -> String {
    match decided {
        admit::Admission::Decided { held, .. } => held["work"].clone(),
        admit::Admission::Unasked => String::new(),
    }
}

#[test]
fn a_seat_that_gets_free_wakes_whoever_is_next_and_nobody_else() {
    let (admission, mut receiver) = admission(1);
    let none = json!(null);
    admission.note(&workflow("a", "Running", &none), Some(&run()));
    for (uid, since) in [("c", 2), ("b", 1)] {
        let decided = admission.decide(&workflow(uid, "Pending", &none), &[want(uid, since)], &[], now(5));
        assert!(!is_granted(&decided), "{decided:?}");
    }
    assert!(woken(&mut receiver).is_empty());
    admission.note(&workflow("a", "Succeeded", &none), Some(&run()));
    assert_eq!(woken(&mut receiver), ["b"]);
    let out_of_turn = admission.decide(&workflow("c", "Pending", &none), &[want("c", 2)], &[], now(6));
    assert!(!is_granted(&out_of_turn), "the seat is b's");
    let decided = admission.decide(&workflow("b", "Pending", &none), &[want("b", 1)], &[], now(6));
    assert!(is_granted(&decided));
    admission.withdraw("b");
    assert_eq!(woken(&mut receiver), ["c"], "b went away instead");
    admission.forget("c");
    assert!(woken(&mut receiver).is_empty());
}

#[test]
fn a_stage_that_follows_upon_another_of_its_workflow_takes_its_seat() {
    let (admission, _receiver) = admission(1);
    let flow = workflow("a", "Running", &json!(null));
    admission.note(&flow, Some(&run()));
    let next = [want("a", 1)];
    assert!(!is_granted(&admission.decide(&flow, &next, &[], now(1))));
    assert!(is_granted(&admission.decide(
        &flow,
        &next,
        &["work".to_owned()],
        now(1)
    )));
}

#[test]
fn a_place_in_the_queue_is_told_again_after_half_a_minute_and_only_when_it_changed() {
    let (admission, mut receiver) = admission(0);
    let none = json!(null);
    let decide = |uid: &str, since: u64, at: u64| {
        told(&admission.decide(
            &workflow(uid, "Pending", &none),
            &[want(uid, since)],
            &[],
            now(at),
        ))
    };
    decide("a", 0, 0);
    assert!(decide("b", 1, 0).ends_with("among the first 10"));
    admission.withdraw("a");
    assert!(
        decide("b", 1, 29).ends_with("among the first 10"),
        "it was told just now"
    );
    admission.tell_once(now(29));
    assert!(woken(&mut receiver).is_empty());
    admission.tell_once(now(31));
    assert_eq!(woken(&mut receiver), ["b"]);
    assert!(decide("b", 1, 31).ends_with("next"));
    admission.tell_once(now(90));
    assert!(woken(&mut receiver).is_empty(), "nothing changed");
}

#[test]
fn a_newer_workflow_of_a_key_takes_the_place_of_older_ones_when_it_says_so() {
    let (admission, mut receiver) = admission(9);
    let (queue, cancel) = (
        json!({"key": "k"}),
        json!({"key": "k", "whenTaken": "cancelOlder"}),
    );
    let mut old = workflow("old", "Running", &cancel);
    admission.note(&old, Some(&run()));
    let mut new = workflow("new", "Pending", &queue);
    new.metadata.creation_timestamp = serde_json::from_value(json!("2026-11-01T10:00:05Z")).unwrap();
    admission.note(&new, Some(&run()));
    assert_eq!(admission.superseded_by(&old), None, "the newer one waits");
    let mut newest = workflow("newest", "Pending", &cancel);
    newest.metadata.creation_timestamp = serde_json::from_value(json!("2026-11-01T10:00:09Z")).unwrap();
    admission.note(&newest, Some(&run()));
    assert_eq!(woken(&mut receiver), ["new", "old"]);
    for older in [&old, &new] {
        assert_eq!(admission.superseded_by(older), Some("newest".to_owned()));
    }
    assert_eq!(admission.superseded_by(&newest), None);
    let mut keyed = want("newest", 9);
    keyed.key = Some("k".to_owned());
    let wants = [keyed];
    assert!(
        !is_granted(&admission.decide(&newest, &wants, &[], now(10))),
        "old has not ended"
    );
    old.status = workflow("old", "Succeeded", &cancel).status;
    admission.note(&old, Some(&run()));
    assert_eq!(woken(&mut receiver), ["newest"]);
    assert!(is_granted(&admission.decide(&newest, &wants, &[], now(10))));
}

#[test]
fn one_that_cannot_run_or_is_to_end_cancels_nobody() {
    let (admission, mut receiver) = admission(9);
    let cancel = json!({"key": "k", "whenTaken": "cancelOlder"});
    let old = workflow("old", "Running", &cancel);
    admission.note(&old, Some(&run()));
    let newer = || {
        let mut newer = workflow("newer", "Pending", &cancel);
        newer.metadata.creation_timestamp = serde_json::from_value(json!("2026-11-01T10:00:09Z")).unwrap();
        newer
    };
    let mut refused = newer();
    refused.status.as_mut().unwrap().run_ref = None;
    let mut cancelled = newer();
    cancelled.spec.cancel = true;
    let mut suspended = newer();
    suspended.spec.suspend = true;
    for harmless in [refused, cancelled, suspended] {
        admission.note(&harmless, None);
        assert_eq!(admission.superseded_by(&old), None);
    }
    assert!(woken(&mut receiver).is_empty());
    admission.note(&newer(), None);
    assert_eq!(admission.superseded_by(&old), Some("newer".to_owned()));
}

#[test]
fn what_a_slower_one_saw_takes_no_seat_that_is_free_again() {
    let (admission, mut receiver) = admission(1);
    let versioned = |phase, version: &str| {
        let mut workflow = workflow("first", phase, &Value::Null);
        workflow.metadata.resource_version = Some(version.to_owned());
        workflow
    };
    admission.note(&versioned("Running", "7"), Some(&run()));
    admission.note(&versioned("Succeeded", "9"), None);
    admission.note(&versioned("Running", "8"), Some(&run()));
    let second = workflow("second", "Pending", &Value::Null);
    assert!(is_granted(&admission.decide(
        &second,
        &[want("second", 0)],
        &[],
        now(1)
    )));
    assert!(woken(&mut receiver).is_empty());
}
