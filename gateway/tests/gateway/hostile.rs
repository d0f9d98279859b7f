//! What a Pod, its Job or an agent may hand in: an answer each time, never an end of the gateway.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DynamicObject;
use proptest::prelude::*;
use serde_json::{Value, json};
use stagecraft_api::result::AttemptResult;
use stagecraft_api::{AttemptKey, label, limit};
use stagecraft_gateway::authorize::{Owner, current, owning_job, owning_workflow};
use stagecraft_gateway::identity::PodIdentity;
use stagecraft_gateway::verify::named_blobs;
use stagecraft_gateway::{blob, image};
use stagecraft_inputs::clean;
use stagecraft_inputs::property::holds;
use stagecraft_inputs::values::{Harm, bytes, harm, spoil, text, value};

const UID: &str = "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11";

fn spoilt(document: &Value, harms: &[Harm]) -> Value {
    let mut document = document.clone();
    for harm in harms {
        spoil(&mut document, harm);
    }
    document
}

fn envelope() -> Value {
    json!({
        "apiVersion": "stagecraft.dev/v1alpha1",
        "attempt": {"workflowUid": UID, "stage": "make", "attempt": 1},
        "workflow": {"namespace": "team", "name": "flow"},
        "traceId": "t", "priority": "medium", "retryCount": 0, "retryLimit": 3, "timeoutSeconds": 60,
        "createdAt": "2026-11-01T10:00:00Z", "deadline": "2026-11-01T10:01:00Z",
        "context": {"previousOutputs": {"a": {"b": 1}}},
        "project": {"name": "p", "description": "", "requirements": ["r"]},
        "workspace": null, "agent": "echo", "payload": {"files": {"a": "b"}}, "command": ["agent"], "outputsSchema": {},
    })
}

fn job(envelope: &str, attempt: &str) -> Value {
    json!({"metadata": {
        "name": "flow-make-1", "uid": "job-uid",
        "labels": {
            label::MANAGED_BY: label::MANAGED_BY_VALUE, label::WORKFLOW_UID: UID, label::STAGE: "make", label::ATTEMPT: attempt,
        },
        "annotations": {label::ENVELOPE: envelope},
        "ownerReferences": [{"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow", "name": "flow", "uid": UID, "controller": true}],
    }})
}

/// The attempt that a Pod of this Job is taken for, and whether the Workflow waits for it.
fn admitted(job: &Value, workflow: &Value) -> Option<(AttemptKey, bool)> {
    let caller = PodIdentity {
        namespace: "team".into(),
        name: "pod".into(),
        uid: "pod-uid".into(),
    };
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "pod", "uid": "pod-uid", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "flow-make-1", "uid": "job-uid", "controller": true}
        ]},
    }))
    .unwrap();
    let owner: Owner = owning_job(&caller, Some(&pod)).unwrap();
    let job: Job = serde_json::from_str(&job.to_string()).ok()?;
    let (member, owner) = owning_workflow(&caller, &pod, &owner, Some(&job)).ok()?;
    let workflow: Option<DynamicObject> = serde_json::from_str(&workflow.to_string()).ok();
    let current = current(&member, &owner, workflow.as_ref()).is_ok();
    Some((member.key, current))
}

fn workflow() -> Value {
    json!({
        "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": "flow", "namespace": "team", "uid": UID},
        "status": {"stages": [{"name": "make", "phase": "Running", "attempt": 1, "job": "flow-make-1"}]},
    })
}

#[test]
fn a_job_stands_for_the_attempt_of_its_labels_or_for_none() {
    let good = job(&envelope().to_string(), "1");
    let first = AttemptKey {
        workflow_uid: UID.into(),
        stage: "make".into(),
        attempt: 1,
    };
    assert_eq!(admitted(&good, &workflow()), Some((first.clone(), true)));
    for other in ["0", "2", "-1", "1.0", "4294967295", "4294967296", ""] {
        assert_eq!(
            admitted(&job(&envelope().to_string(), other), &workflow()),
            None,
            "{other}"
        );
    }
    let values = (text(), prop::collection::vec(harm(), 1..4));
    holds(500, &values, |(text, harms)| {
        // The envelope is of the first attempt: whatever else a label says is none.
        let labelled = admitted(&job(&envelope().to_string(), &text), &workflow());
        assert!(labelled.is_none_or(|(key, _)| key == first), "{text}");
        admitted(&job(&text, "1"), &workflow());
        let (envelope, workflow) = (spoilt(&envelope(), &harms), spoilt(&workflow(), &harms));
        for job in [job(&envelope.to_string(), "1"), spoilt(&good, &harms)] {
            if let Some((key, true)) = admitted(&job, &workflow) {
                assert_eq!(key.attempt, 1);
            }
        }
    });
}

#[test]
fn a_result_is_taken_within_the_bounds_of_a_status_or_refused() {
    let taken = std::cell::Cell::new(0);
    let values = (any::<bool>(), prop::collection::vec(harm(), 0..4), value());
    holds(500, &values, |(failed, harms, output)| {
        let result = if failed { clean::failure() } else { clean::result() };
        let mut result = spoilt(&result, &harms);
        if let Some(outputs) = result["outputs"].as_object_mut() {
            outputs.insert("more".into(), output);
        }
        let Ok(result) = serde_json::from_str::<AttemptResult>(&result.to_string()) else {
            return;
        };
        if named_blobs(&result.attempt, &result).is_ok() {
            taken.set(taken.get() + 1);
            let json = serde_json::to_value(&result).unwrap();
            let outputs = &json["outputs"];
            assert!(limit::stored_bytes(&outputs.to_string()) <= limit::OUTPUTS_BYTES.max(4));
            assert!(limit::depth(outputs) <= limit::DEPTH);
        }
    });
    assert!(taken.get() > 50, "{}", taken.get());
}

#[test]
fn manifests_configurations_and_digests_of_anybody_are_read_or_refused() {
    let digest = stagecraft_api::Digest::of(b"x");
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": 1},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 1}]});
    assert_eq!(
        image::pieces(manifest.to_string().as_bytes()).map(|pieces| pieces.len()),
        Ok(2)
    );
    let values = (bytes(), prop::collection::vec(harm(), 1..4), text());
    holds(500, &values, |(bytes, harms, text)| {
        let spoilt = spoilt(&manifest, &harms).to_string();
        for bytes in [bytes.as_slice(), spoilt.as_bytes()] {
            let _ = image::pieces(bytes);
            let _ = image::check_configuration(bytes, 1);
        }
        assert_eq!(
            blob::parse(&text).is_ok(),
            text.parse::<stagecraft_api::Digest>().is_ok()
        );
    });
}
