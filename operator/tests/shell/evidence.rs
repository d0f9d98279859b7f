use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};
use stagecraft_api::{AttemptKey, label};
use stagecraft_core::observation::{JobEvidence, PodPhase};
use stagecraft_operator::evidence::{latest_warning, of_job, of_pod, open_job};

fn key() -> AttemptKey {
    AttemptKey {
        workflow_uid: "uid".into(),
        stage: "scaffold".into(),
        attempt: 2,
    }
}

fn job(owner: &str, attempt: &str, conditions: Value) -> Job {
    serde_json::from_value(json!({
        "metadata": {
            "name": "flow-scaffold-2", "namespace": "here",
            "labels": {label::WORKFLOW_UID: "uid", label::STAGE: "scaffold", label::ATTEMPT: attempt},
            "ownerReferences": [{
                "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow", "name": "flow",
                "uid": owner, "controller": true
            }]
        },
        "status": {"conditions": conditions}
    }))
    .unwrap()
}

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "pod", "namespace": "here"}, "status": status}))
        .unwrap()
}

#[test]
fn a_job_is_ours_only_with_our_labels_and_our_workflow_as_controller() {
    assert!(matches!(
        of_job(&job("uid", "2", json!([])), &key(), None),
        JobEvidence::Present { .. }
    ));
    assert_eq!(
        of_job(&job("other", "2", json!([])), &key(), None),
        JobEvidence::Foreign
    );
    assert_eq!(
        of_job(&job("uid", "1", json!([])), &key(), None),
        JobEvidence::Foreign
    );
}

#[test]
fn a_failure_target_counts_before_the_job_has_failed() {
    let target = json!([{"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded", "message": "m"}]);
    let JobEvidence::Present { failure, .. } = of_job(&job("uid", "2", target.clone()), &key(), None) else {
        panic!("not present");
    };
    assert_eq!(failure.as_deref(), Some("BackoffLimitExceeded: m"));
    assert!(
        open_job(&job("uid", "2", target)).is_some(),
        "its Pod may still run"
    );
    let failed = json!([{"type": "Failed", "status": "True"}]);
    assert!(open_job(&job("uid", "2", failed)).is_none());
}

#[test]
fn a_pod_that_waits_for_a_node_or_an_image_says_so_in_words_that_stay_the_same() {
    let unscheduled = pod(json!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]
    }));
    assert_eq!(
        of_pod(&unscheduled).trouble.as_deref(),
        Some("no node takes the Pod: 0/3 nodes")
    );
    let pulling = |reason: &str, message: &str| {
        of_pod(&pod(json!({
            "phase": "Pending",
            "containerStatuses": [{
                "name": "agent", "image": "none:1", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": reason, "message": message}}
            }]
        })))
        .trouble
    };
    let first = pulling("ErrImagePull", "not found");
    assert!(
        first.as_deref().is_some_and(|text| text.contains("none:1")),
        "{first:?}"
    );
    assert_eq!(
        first,
        pulling("ImagePullBackOff", "Back-off 20s"),
        "status would be rewritten at each backoff"
    );
    assert_eq!(
        pulling("ContainerCreating", ""),
        None,
        "starting up is no trouble"
    );
}

#[test]
fn the_newest_warning_tells_why_a_pod_does_not_start() {
    let event = |reason: &str, last: &str| -> Event {
        serde_json::from_value(json!({
            "metadata": {}, "involvedObject": {}, "reason": reason, "message": format!("{reason} at {last}"),
            "lastTimestamp": format!("2026-01-01T{last}Z"),
        }))
        .unwrap()
    };
    let events = vec![
        event("FailedMount", "10:00:05"),
        event("Failed", "10:00:09"),
        event("Bad", "10:00:09"),
        event("FailedMount", "10:00:01"),
        event("FailedScheduling", "10:00:11"),
    ];
    assert_eq!(latest_warning(events).as_deref(), Some("Failed at 10:00:09"));
    assert_eq!(latest_warning(vec![event("FailedScheduling", "10:00:11")]), None);
}

#[test]
fn the_end_of_the_agents_container_is_seen_while_the_sidecar_lives() {
    let ended = of_pod(&pod(json!({
        "phase": "Running",
        "containerStatuses": [{
            "name": "agent", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        }]
    })));
    assert_eq!(ended.phase, PodPhase::Running);
    let end = ended.agent_end.unwrap();
    assert_eq!((end.exit_code, end.reason.as_str()), (137, "OOMKilled"));
}

#[test]
fn an_eviction_is_read_from_the_pod_itself() {
    let evicted = of_pod(&pod(
        json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"}),
    ));
    assert_eq!(evicted.reason.as_deref(), Some("Evicted: low on memory"));
}

#[test]
fn a_deletion_counts_from_the_request_and_not_from_the_end_of_the_grace() {
    let mut leaving = pod(json!({"phase": "Running"}));
    leaving.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-01T10:02:00Z")).unwrap();
    leaving.metadata.deletion_grace_period_seconds = Some(120);
    assert_eq!(
        of_pod(&leaving).deleting_since.unwrap().to_string(),
        "2026-11-01T10:00:00.000Z"
    );
}
