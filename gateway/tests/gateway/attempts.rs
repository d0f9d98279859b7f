use serde_json::{Value, json};
use stagecraft_api::name;

use crate::cluster::{WORKFLOW, key};
use crate::world::{World, success};

#[tokio::test]
async fn a_claim_answers_the_envelope_and_may_be_repeated() {
    let world = World::new();
    world.cluster.workflow(1, "Running");
    let pod = world.cluster.attempt(1, &Value::Null);
    let first = world.claim(&pod).await;
    assert_eq!(first.status, 200, "{:?}", first.body);
    let reply = first.json();
    assert_eq!(reply["envelope"]["attempt"], json!(key(1)));
    assert_eq!(reply["envelope"]["payload"]["sleepMillis"], 5);
    assert_eq!(reply["heartbeatSeconds"], 5);
    assert_eq!(world.claim(&pod).await.body, first.body);
}

#[tokio::test]
async fn another_pod_of_the_same_attempt_is_409() {
    let world = World::new();
    world.claimed().await;
    world.cluster.pod("second", Some(&name::job("flow", &key(1))));
    assert_eq!(world.claim("second").await.refusal(), (409, "OtherPod".into()));
    assert_eq!(
        world.heartbeat("second").await.refusal(),
        (409, "OtherPod".into())
    );
    let (_, reply) = world.upload("second", b"x").await;
    assert_eq!(reply.refusal(), (409, "OtherPod".into()));
    assert_eq!(
        world.result("second", &success(1, "mine")).await.refusal(),
        (409, "OtherPod".into())
    );
}

#[tokio::test]
async fn an_older_attempt_is_409_in_the_workflow() {
    let world = World::new();
    let first = world.claimed().await;
    world.cluster.workflow(2, "Running");
    world.cluster.attempt(2, &Value::Null);
    assert_eq!(world.claim(&first).await.refusal(), (409, "NotCurrent".into()));
    assert_eq!(
        world.result(&first, &success(1, "late")).await.refusal(),
        (409, "NotCurrent".into())
    );
}

/// The status that the gateway reads may be older than what it granted: the fence holds by itself.
#[tokio::test]
async fn an_older_attempt_is_409_by_the_fence_alone() {
    let world = World::new();
    let first = world.claimed().await;
    world.cluster.workflow(2, "Running");
    let second = world.cluster.attempt(2, &Value::Null);
    assert_eq!(world.claim(&second).await.status, 200);
    world.cluster.workflow(1, "Running");
    assert_eq!(world.claim(&first).await.refusal(), (409, "Fenced".into()));
    let (_, reply) = world.upload(&first, b"late").await;
    assert_eq!(reply.refusal(), (409, "Fenced".into()));
    assert_eq!(
        world.result(&first, &success(1, "late")).await.refusal(),
        (409, "Fenced".into())
    );
    let cancel = world.heartbeat(&first).await.json();
    assert!(
        cancel["cancel"].as_str().unwrap().contains("attempt 2"),
        "{cancel}"
    );
    assert_eq!(world.store.result(&key(1)).await.unwrap(), None);
}

#[tokio::test]
async fn nothing_has_an_effect_before_the_claim() {
    let world = World::new();
    world.cluster.workflow(1, "Running");
    let pod = world.cluster.attempt(1, &Value::Null);
    let (_, reply) = world.upload(&pod, b"x").await;
    assert_eq!(reply.refusal(), (409, "NotClaimed".into()));
    assert_eq!(
        world.result(&pod, &success(1, "early")).await.refusal(),
        (409, "NotClaimed".into())
    );
}

#[tokio::test]
async fn a_heartbeat_brings_the_cancel() {
    let world = World::new();
    let pod = world.claimed().await;
    assert_eq!(world.heartbeat(&pod).await.json(), json!({"cancel": null}));
    // What was read at the claim is believed for a while.
    tokio::time::sleep(std::time::Duration::from_millis(3100)).await;
    world.cluster.workflow(1, "Failed");
    let reply = world.heartbeat(&pod).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json()["cancel"], "the stage has phase Failed");
    world.cluster.remove(WORKFLOW);
    assert_eq!(
        world.heartbeat(&pod).await.json()["cancel"],
        "the Workflow is gone"
    );
    world.cluster.remove(&format!(
        "/apis/batch/v1/namespaces/team/jobs/{}",
        name::job("flow", &key(1))
    ));
    assert_eq!(world.heartbeat(&pod).await.json()["cancel"], "the Job is gone");
}

#[tokio::test]
async fn a_workflow_that_cannot_be_read_is_a_clear_error() {
    let world = World::new();
    world.cluster.workflow(1, "Running");
    let pod = world.cluster.attempt(1, &Value::Null);
    world.cluster.put(
        WORKFLOW,
        json!({"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
            "metadata": {"name": "flow", "namespace": "team", "uid": crate::cluster::UID},
            "status": {"stages": 7}}),
    );
    let reply = world.claim(&pod).await;
    assert_eq!(reply.status, 503);
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("team/flow") && message.contains("cannot be decoded"),
        "{message}"
    );
}

#[tokio::test]
async fn events_are_taken_and_bounded() {
    let world = World::new();
    let pod = world.claimed().await;
    let event = json!({"at": "2026-11-01T10:00:00.000Z", "kind": "progress", "message": "half"});
    let many = json!({"events": vec![event.clone(); 150]});
    assert_eq!(world.post("/v1/events", &pod, &many).await.status, 204);
    let bad = json!({"events": [{"kind": "gossip"}]});
    assert_eq!(
        world.post("/v1/events", &pod, &bad).await.refusal(),
        (422, "Invalid".into())
    );
    let huge = json!({"events": [{"at": "2026-11-01T10:00:00.000Z", "kind": "log", "message": "x".repeat(2 << 20)}]});
    assert_eq!(
        world.post("/v1/events", &pod, &huge).await.refusal(),
        (413, "TooLarge".into())
    );
    let statuses = async {
        let mut statuses = Vec::new();
        for _ in 0..12 {
            statuses.push(world.post("/v1/events", &pod, &many).await.status.as_u16());
        }
        statuses
    };
    assert!(statuses.await.contains(&429));
}
