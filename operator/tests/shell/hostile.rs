//! What others may have written: labels and states of Jobs and Pods, entries of Redis, the ConfigMap of a run.

use std::collections::HashMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use proptest::prelude::*;
use redis::streams::StreamId;
use serde_json::{Value, json};
use stagecraft_api::protocol::result_entry;
use stagecraft_api::run::RUN_ENTRY;
use stagecraft_api::status::RunRef;
use stagecraft_api::{AttemptKey, Digest, label};
use stagecraft_inputs::clean;
use stagecraft_inputs::property::holds;
use stagecraft_inputs::scene::Scene;
use stagecraft_inputs::values::{Harm, harm, spoil, text, value};
use stagecraft_operator::evidence::{of_job, of_pod, open_job, open_pod};
use stagecraft_operator::observe::decode_run;
use stagecraft_operator::queue::added_at;
use stagecraft_operator::results::Results;

fn job() -> Value {
    json!({
        "metadata": {
            "name": "flow-make-1", "namespace": "here", "creationTimestamp": "2026-11-01T10:00:00Z",
            "deletionTimestamp": "2026-11-01T10:00:00Z", "deletionGracePeriodSeconds": 30,
            "labels": {label::WORKFLOW_UID: "uid", label::STAGE: "make", label::ATTEMPT: "1"},
            "ownerReferences": [{"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow", "name": "flow", "uid": "uid", "controller": true}],
        },
        "status": {"active": 1, "conditions": [{"type": "FailureTarget", "status": "True", "reason": "r", "message": "m"}]},
    })
}

fn pod() -> Value {
    let state = json!({"terminated": {"exitCode": 137, "reason": "Error", "message": "m"}});
    json!({
        "metadata": {
            "name": "pod", "namespace": "here", "deletionTimestamp": "2026-11-01T10:00:00Z", "deletionGracePeriodSeconds": 30,
            "labels": {"batch.kubernetes.io/job-name": "flow-make-1", label::STAGE: "make", label::ATTEMPT: "1"},
        },
        "status": {
            "phase": "Running", "reason": "Evicted", "message": "exceeded",
            "conditions": [{"type": "Ready", "status": "False", "reason": "NodeLost", "lastTransitionTime": "2026-11-01T10:00:00Z"}],
            "containerStatuses": [{"name": "agent", "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state}],
            "initContainerStatuses": [{"name": "runner", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ErrImagePull", "message": "m"}}}],
        },
    })
}

fn spoilt(mut document: Value, harms: &[Harm]) -> String {
    for harm in harms {
        spoil(&mut document, harm);
    }
    document.to_string()
}

#[test]
fn jobs_and_pods_of_anybody_are_evidence_or_none() {
    let key = AttemptKey {
        workflow_uid: "uid".into(),
        stage: "make".into(),
        attempt: 1,
    };
    let values = (text(), prop::collection::vec(harm(), 0..4));
    let read = std::cell::Cell::new(0);
    holds(500, &values, |(attempt, harms)| {
        let (mut job, mut pod) = (job(), pod());
        for document in [&mut job, &mut pod] {
            document["metadata"]["labels"][label::ATTEMPT] = json!(attempt);
        }
        for harms in [&[], harms.as_slice()] {
            if let Ok(job) = serde_json::from_str::<Job>(&spoilt(job.clone(), harms)) {
                read.set(read.get() + 1);
                of_job(&job, &key, None);
                if let Some(open) = open_job(&job) {
                    assert_eq!(
                        job.metadata.labels.unwrap()[label::ATTEMPT].parse(),
                        Ok(open.attempt)
                    );
                }
            }
            if let Ok(pod) = serde_json::from_str::<Pod>(&spoilt(pod.clone(), harms)) {
                of_pod(&pod);
                if let Some(open) = open_pod(&pod) {
                    assert_eq!(
                        pod.metadata.labels.unwrap()[label::ATTEMPT].parse(),
                        Ok(open.attempt)
                    );
                }
            }
        }
    });
    assert!(read.get() > 100, "{}", read.get());
}

fn entry(fields: &[(&str, &str)]) -> StreamId {
    let fields = fields.iter().map(|(name, value)| {
        (
            (*name).to_owned(),
            redis::Value::BulkString(value.as_bytes().to_vec()),
        )
    });
    StreamId {
        id: "1-0".to_owned(),
        map: fields.collect::<HashMap<_, _>>(),
        ..StreamId::default()
    }
}

#[test]
fn an_entry_of_the_result_stream_is_taken_in_or_passed_over() {
    let values = (text(), text(), text(), prop::collection::vec(harm(), 0..4));
    holds(500, &values, |(namespace, at, junk, harms)| {
        let results = Results::default();
        let result = spoilt(clean::result(), &harms);
        for result in [result.as_str(), junk.as_str()] {
            let known = serde_json::from_str::<stagecraft_api::result::AttemptResult>(result);
            let taken = results.add(&entry(&[
                (result_entry::NAMESPACE, &namespace),
                (result_entry::WORKFLOW, "flow"),
                (result_entry::RESULT, result),
                (result_entry::ACCEPTED_AT, &at),
            ]));
            assert_eq!(taken.is_some(), known.is_ok(), "{result}");
            if let Ok(known) = known {
                assert_eq!(
                    results
                        .get(&known.attempt)
                        .map(|announced| announced.entries.len()),
                    Some(1)
                );
            }
        }
        assert!(results.add(&entry(&[(result_entry::RESULT, &result)])).is_none());
        let _ = added_at(&at);
        let _ = added_at(&junk);
    });
    for id in [
        "-1-0",
        "9223372036854775807-0",
        "-9223372036854775808",
        "253402207200000-0",
        "",
        "-",
        "x-y",
    ] {
        let _ = added_at(id);
    }
    assert!(added_at("253402207200000-0").is_some_and(|at| at.to_string().starts_with("9999")));
}

#[test]
fn an_entry_that_is_no_text_is_passed_over() {
    let mut broken = entry(&[
        (result_entry::NAMESPACE, "here"),
        (result_entry::WORKFLOW, "flow"),
    ]);
    for value in [
        redis::Value::BulkString(vec![0xff, 0xfe]),
        redis::Value::Nil,
        redis::Value::Int(-1),
        redis::Value::Array(vec![redis::Value::Nil]),
    ] {
        broken.map.insert(result_entry::RESULT.to_owned(), value);
        assert!(Results::default().add(&broken).is_none());
    }
}

#[test]
fn a_run_is_read_only_as_the_status_names_it() {
    let scene: Scene = serde_json::from_value(clean::scene()).unwrap();
    let run = scene.after(1).run.unwrap();
    let kept = serde_json::to_string(&run).unwrap();
    let map = ConfigMap {
        data: Some([(RUN_ENTRY.to_owned(), kept.clone())].into()),
        ..ConfigMap::default()
    };
    let named = |digest| RunRef {
        name: "run".into(),
        digest,
    };
    assert_eq!(decode_run(&map, &named(Digest::of(kept.as_bytes()))), Ok(run));
    assert!(decode_run(&map, &named(Digest::of(b"other"))).is_err());
    holds(300, &(value(), text()), |(document, text)| {
        for text in [document.to_string(), text] {
            let mut map = ConfigMap::default();
            let reference = RunRef {
                name: "run".into(),
                digest: Digest::of(text.as_bytes()),
            };
            assert!(decode_run(&map, &reference).is_err());
            map.data = Some([(RUN_ENTRY.to_owned(), text.clone())].into());
            let readable = serde_json::from_str::<stagecraft_api::run::Run>(&text).is_ok();
            assert_eq!(decode_run(&map, &reference).is_ok(), readable);
            let other = RunRef {
                digest: Digest::of(b"other"),
                ..reference
            };
            assert!(decode_run(&map, &other).is_err());
        }
    });
}
