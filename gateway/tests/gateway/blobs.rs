use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde_json::{Value, json};
use stagecraft_api::{Digest, limit};

use crate::world::World;

fn path(digest: &Digest) -> String {
    format!("/v1/blobs/{digest}")
}

#[tokio::test]
async fn a_blob_is_new_once_and_can_be_read_by_who_uploaded_it() {
    let world = World::new();
    let pod = world.claimed().await;
    let (digest, reply) = world.upload(&pod, b"content").await;
    assert_eq!(reply.status, 201);
    assert_eq!(world.upload(&pod, b"content").await.1.status, 200);
    let read = world.get(&path(&digest), &pod).await;
    assert_eq!(
        (read.status.as_u16(), read.body.as_ref()),
        (200, b"content".as_ref())
    );
    assert_eq!(read.headers["content-length"], "7");
    assert_eq!(
        world.upload(&pod, b"").await.1.status,
        201,
        "empty files are files"
    );
}

#[tokio::test]
async fn a_foreign_digest_is_403_whether_it_exists_or_not() {
    let world = World::new();
    let first = world.claimed().await;
    let (digest, _) = world.upload(&first, b"of attempt 1").await;
    let absent = Digest::of(b"absent");
    world.cluster.workflow(2, "Running");
    let second = world.cluster.attempt(
        2,
        &json!({"commit": "a".repeat(40), "bundle": absent, "bytes": 1}),
    );
    assert_eq!(world.claim(&second).await.status, 200);
    assert_eq!(
        world.get(&path(&digest), &second).await.refusal(),
        (403, "NotOwn".into())
    );
    assert_eq!(
        world.get(&path(&Digest::of(b"neither")), &second).await.refusal(),
        (403, "NotOwn".into())
    );
    assert_eq!(
        world.get(&path(&absent), &second).await.refusal(),
        (404, "NoBlob".into())
    );
}

#[tokio::test]
async fn the_blob_of_the_envelope_can_be_read() {
    let world = World::new();
    let first = world.claimed().await;
    let (digest, _) = world.upload(&first, b"bundle").await;
    world.cluster.workflow(2, "Running");
    let second = world.cluster.attempt(
        2,
        &json!({"commit": "a".repeat(40), "bundle": digest, "bytes": 6}),
    );
    assert_eq!(world.claim(&second).await.status, 200);
    assert_eq!(
        world.get(&path(&digest), &second).await.body.as_ref(),
        b"bundle".as_ref()
    );
}

#[tokio::test]
async fn knowing_a_digest_is_not_having_the_blob() {
    let world = World::new();
    let first = world.claimed().await;
    let (digest, _) = world.upload(&first, b"of attempt 1").await;
    world.cluster.workflow(2, "Running");
    let second = world.cluster.attempt(2, &Value::Null);
    assert_eq!(world.claim(&second).await.status, 200);
    let reply = world.send("PUT", &path(&digest), &second, Body::empty()).await;
    assert_eq!(reply.refusal(), (422, "DigestMismatch".into()));
    assert_eq!(world.get(&path(&digest), &second).await.status, 403);
}

#[tokio::test]
async fn content_of_another_digest_is_422_and_leaves_nothing() {
    let world = World::new();
    let pod = world.claimed().await;
    let before = world.files();
    let digest = Digest::of(b"right");
    let reply = world.send("PUT", &path(&digest), &pod, "wrong").await;
    assert_eq!(reply.refusal(), (422, "DigestMismatch".into()));
    assert_eq!(world.files(), before);
    let reply = world.send("PUT", "/v1/blobs/sha256:abc", &pod, "x").await;
    assert_eq!(reply.refusal(), (422, "Invalid".into()));
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new();
    let pod = world.claimed().await;
    let before = world.files();
    let pieces = futures::stream::iter([
        Ok(Bytes::from(vec![7; 6 << 20])),
        Err(std::io::Error::other("the connection broke")),
    ]);
    let digest = Digest::of(b"whatever");
    let reply = world
        .send("PUT", &path(&digest), &pod, Body::from_stream(pieces))
        .await;
    assert_eq!(reply.status, 400);
    assert_eq!(world.files(), before);
}

#[tokio::test]
async fn an_upload_whose_caller_goes_away_leaves_nothing() {
    use futures::StreamExt as _;
    let world = World::new();
    let pod = world.claimed().await;
    let before = world.files();
    let started = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![7; 6 << 20]))]);
    let body = Body::from_stream(started.chain(futures::stream::pending()));
    let digest = Digest::of(b"whatever");
    let path = path(&digest);
    let upload = world.send("PUT", &path, &pod, body);
    assert!(
        tokio::time::timeout(Duration::from_millis(500), upload)
            .await
            .is_err()
    );
    for _ in 0..50 {
        if world.files() == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?}", world.files());
}

#[tokio::test]
async fn a_blob_over_the_limit_is_413_whether_it_says_so_or_not() {
    let world = World::new();
    let pod = world.claimed().await;
    let before = world.files();
    let authorization = format!("Bearer {pod}");
    let length = (limit::BLOB_BYTES + 1).to_string();
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-length", length.as_str()),
    ];
    let path = path(&Digest::of(b"x"));
    let reply = world.request("PUT", &path, &headers, Body::empty()).await;
    assert_eq!(reply.refusal(), (413, "TooLarge".into()));

    let piece = Bytes::from(vec![0; 1 << 20]);
    let pieces = futures::stream::iter((0..257).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let reply = world.send("PUT", &path, &pod, Body::from_stream(pieces)).await;
    assert_eq!(reply.refusal(), (413, "TooLarge".into()));
    assert_eq!(world.files(), before);
}
