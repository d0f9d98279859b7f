use axum::body::Body;
use serde_json::json;

use crate::cluster::{UID, key};
use crate::world::{World, success};

#[tokio::test]
async fn results_and_blobs_are_found_by_name() {
    let world = World::new();
    let pod = world.claimed().await;
    let path = format!("/v1/operator/results/{UID}/scaffold/1");
    assert_eq!(
        world.get(&path, "operator").await.refusal(),
        (404, "NoResult".into())
    );
    let (digest, _) = world.upload(&pod, b"artifact").await;
    world.result(&pod, &success(1, "done")).await;
    assert_eq!(
        world.get(&path, "operator").await.json()["attempt"],
        json!(key(1))
    );
    let blob = world
        .get(&format!("/v1/operator/blobs/{UID}/{digest}"), "operator")
        .await;
    assert_eq!(blob.body.as_ref(), b"artifact".as_ref());
    for bad in [
        "/v1/operator/results/%2e%2e/scaffold/1",
        "/v1/operator/results/a/b/x",
        "/v1/operator/blobs/a/b",
    ] {
        assert_eq!(world.get(bad, "operator").await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_purge_leaves_nothing_and_may_be_repeated() {
    let world = World::new();
    let pod = world.claimed().await;
    world.upload(&pod, b"artifact").await;
    world.result(&pod, &success(1, "done")).await;
    let listed = world.get("/v1/operator/workflows", "operator").await.json();
    assert_eq!(listed, json!({"uids": [UID]}));
    let path = format!("/v1/operator/workflows/{UID}");
    for _ in 0..2 {
        assert_eq!(
            world
                .send("DELETE", &path, "operator", Body::empty())
                .await
                .status,
            204
        );
        assert_eq!(world.files(), Vec::<String>::new());
        let listed = world.get("/v1/operator/workflows", "operator").await.json();
        assert_eq!(listed, json!({"uids": []}));
    }
    assert_eq!(world.send("DELETE", &path, &pod, Body::empty()).await.status, 403);
    let outside = world
        .send(
            "DELETE",
            "/v1/operator/workflows/%2e%2e",
            "operator",
            Body::empty(),
        )
        .await;
    assert_eq!(outside.status, 422);
    assert!(world.directory.path().exists());
}
