use serde_json::{Value, json};

use super::*;

const UID: &str = "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11";

fn caller() -> PodIdentity {
    PodIdentity {
        namespace: "team".into(),
        name: "flow-scaffold-2-abc".into(),
        uid: "pod-uid".into(),
    }
}

fn pod() -> Value {
    json!({
        "metadata": {"name": "flow-scaffold-2-abc", "uid": "pod-uid", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "flow-scaffold-2", "uid": "job-uid", "controller": true}
        ]},
        "spec": {"containers": [], "nodeName": "node-a"},
        "status": {"phase": "Running"},
    })
}

fn job() -> Value {
    let envelope = json!({
        "apiVersion": "stagecraft.dev/v1alpha1",
        "attempt": {"workflowUid": UID, "stage": "scaffold", "attempt": 2},
        "workflow": {"namespace": "team", "name": "flow"},
        "traceId": "t", "priority": "medium", "retryCount": 0, "retryLimit": 3, "timeoutSeconds": 60,
        "createdAt": "2026-11-01T10:00:00Z", "deadline": "2026-11-01T10:01:00Z",
        "context": {"previousOutputs": {}},
        "project": {"name": "p", "description": "", "requirements": ["r"]},
        "workspace": null, "agent": "echo", "payload": {}, "command": ["agent"], "outputsSchema": null,
    });
    json!({
        "metadata": {
            "name": "flow-scaffold-2", "uid": "job-uid",
            "labels": {
                label::MANAGED_BY: label::MANAGED_BY_VALUE, label::WORKFLOW_UID: UID,
                label::STAGE: "scaffold", label::ATTEMPT: "2",
            },
            "annotations": {label::ENVELOPE: envelope.to_string()},
            "ownerReferences": [
                {"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow", "name": "flow", "uid": UID,
                 "controller": true}
            ],
        },
    })
}

fn workflow() -> Value {
    json!({
        "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": "flow", "namespace": "team", "uid": UID},
        "status": {"stages": [
            {"name": "initialize", "phase": "Succeeded"},
            {"name": "scaffold", "phase": "Running", "attempt": 2, "job": "flow-scaffold-2"},
        ]},
    })
}

/// Takes the three objects through the whole chain. `Value::Null` stands for an object that is not there.
fn decide(pod: &Value, job: &Value, workflow: &Value) -> Result<Member, Denial> {
    fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
        serde_json::from_value(value.clone()).unwrap()
    }
    let pod: Option<Pod> = read(pod);
    let owner = owning_job(&caller(), pod.as_ref())?;
    let job: Option<Job> = read(job);
    let (member, owner) = owning_workflow(&caller(), &pod.unwrap(), &owner, job.as_ref())?;
    current(&member, &owner, read::<DynamicObject>(workflow).as_ref())?;
    Ok(member)
}

/// The objects with one place changed: `null` removes the object at an empty path.
fn changed(mut object: Value, pointer: &str, value: Value) -> Value {
    *object
        .pointer_mut(pointer)
        .unwrap_or_else(|| panic!("no {pointer}")) = value;
    object
}

#[test]
fn the_current_attempt_is_recognised() {
    let member = decide(&pod(), &job(), &workflow()).unwrap();
    assert_eq!(member.key.to_string(), format!("{UID}/scaffold/2"));
    assert_eq!(
        (member.workflow.as_str(), member.job.as_str()),
        ("flow", "flow-scaffold-2")
    );
    assert_eq!(member.pod.node, "node-a");
}

#[test]
fn a_pod_outside_of_every_attempt_is_told_so() {
    let labels = "/metadata/labels";
    let cases = [
        ("gone", Value::Null, job()),
        (
            "another Pod",
            changed(pod(), "/metadata/uid", "other".into()),
            job(),
        ),
        (
            "no Job controls",
            changed(pod(), "/metadata/ownerReferences/0/controller", false.into()),
            job(),
        ),
        (
            "no Job controls",
            changed(pod(), "/metadata/ownerReferences/0/kind", "ReplicaSet".into()),
            job(),
        ),
        (
            "no Job controls",
            changed(pod(), "/metadata/ownerReferences/0/apiVersion", "evil/v1".into()),
            job(),
        ),
        ("no label", pod(), changed(job(), labels, json!({}))),
        (
            "not Stagecraft's",
            pod(),
            changed(
                job(),
                &format!("{labels}/{}", label::MANAGED_BY.replace('/', "~1")),
                "helm".into(),
            ),
        ),
        (
            "not a number",
            pod(),
            changed(
                job(),
                &format!("{labels}/{}", label::ATTEMPT.replace('/', "~1")),
                "0".into(),
            ),
        ),
        (
            "another Workflow",
            pod(),
            changed(
                job(),
                &format!("{labels}/{}", label::WORKFLOW_UID.replace('/', "~1")),
                "x".into(),
            ),
        ),
        (
            "another attempt",
            pod(),
            changed(
                job(),
                &format!("{labels}/{}", label::ATTEMPT.replace('/', "~1")),
                "3".into(),
            ),
        ),
        (
            "no task",
            pod(),
            changed(job(), "/metadata/annotations", json!({label::ENVELOPE: "{"})),
        ),
        (
            "no Workflow controls",
            pod(),
            changed(
                job(),
                "/metadata/ownerReferences/0/apiVersion",
                "argoproj.io/v1alpha1".into(),
            ),
        ),
    ];
    for (reason, pod, job) in cases {
        let denial = decide(&pod, &job, &workflow()).unwrap_err();
        let Denial::NoAttempt(text) = &denial else {
            panic!("{reason}: {denial:?}")
        };
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn an_attempt_that_is_over_is_not_current() {
    let stage = "/status/stages/1";
    let at = |pointer: &str, value: Value| changed(workflow(), &format!("{stage}{pointer}"), value);
    let cases = [
        (
            "phase Succeeded",
            changed(pod(), "/status/phase", "Succeeded".into()),
            job(),
            workflow(),
        ),
        (
            "phase Failed",
            changed(pod(), "/status/phase", "Failed".into()),
            job(),
            workflow(),
        ),
        ("Job is gone", pod(), Value::Null, workflow()),
        (
            "another Job",
            pod(),
            changed(job(), "/metadata/uid", "x".into()),
            workflow(),
        ),
        ("Workflow is gone", pod(), job(), Value::Null),
        (
            "another Workflow",
            pod(),
            job(),
            changed(workflow(), "/metadata/uid", "x".into()),
        ),
        (
            "being deleted",
            pod(),
            job(),
            changed(
                workflow(),
                "/metadata",
                json!({"name": "flow", "uid": UID, "deletionTimestamp": "2026-11-01T10:00:00Z"}),
            ),
        ),
        ("at attempt 3", pod(), job(), at("/attempt", 3.into())),
        ("at attempt 1", pod(), job(), at("/attempt", 1.into())),
        ("phase Succeeded", pod(), job(), at("/phase", "Succeeded".into())),
        ("phase Waiting", pod(), job(), at("/phase", "Waiting".into())),
        ("another Job", pod(), job(), at("/job", "x".into())),
        ("no such stage", pod(), job(), at("/name", "x".into())),
        (
            "no such stage",
            pod(),
            job(),
            changed(workflow(), "/status", Value::Null),
        ),
    ];
    for (reason, pod, job, workflow) in cases {
        let denial = decide(&pod, &job, &workflow).unwrap_err();
        let Denial::NotCurrent(text) = &denial else {
            panic!("{reason}: {denial:?}")
        };
        assert!(text.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn a_workflow_of_another_release_counts_as_far_as_it_can_be_read() {
    let newer = changed(
        workflow(),
        "/status/stages/0",
        json!({"name": "initialize", "phase": "Dreaming", "attempt": 0, "mood": [1, 2]}),
    );
    decide(&pod(), &job(), &newer).unwrap();
    let broken = changed(workflow(), "/status/stages", "none".into());
    assert!(matches!(
        decide(&pod(), &job(), &broken),
        Err(Denial::Unreadable(_))
    ));
}
