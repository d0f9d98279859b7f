//! Who may move a branch, and by what.

use serde_json::{Value, json};
use stagecraft_api::{Digest, Moment};
use stagecraft_gateway::store::Binding;

use crate::branches::{MAIN, again, commit, integrating, made, request, shown};
use crate::cluster::key;
use crate::world::{Reply, World};

#[tokio::test]
async fn only_integration_attempts_reach_a_branch_and_only_their_own() {
    let world = World::new();
    let pod = integrating(&world).await;
    let (bundle, _) = world.upload(&pod, b"history").await;
    let body = request(None, &commit('a'), &bundle, 7);
    for path in ["/v1/branches/release", "/v1/branches/..%2F..%2Fother%2Fmain"] {
        assert_eq!(
            world.get(path, &pod).await.refusal(),
            (403, "NotOwnBranch".into())
        );
        assert_eq!(
            world.post(path, &pod, &body).await.refusal(),
            (403, "NotOwnBranch".into())
        );
        assert_eq!(
            world.get(&format!("{path}/bundle"), &pod).await.refusal(),
            (403, "NotOwnBranch".into())
        );
    }
    for branch in ["..", "a/../b", ".main", ""] {
        let pod = {
            world.cluster.workflow(1, "Running");
            let payload = json!({"targetBranch": branch});
            world.cluster.attempt_by("integration", &payload, 1, &Value::Null)
        };
        // Whatever is asked for, nothing is looked up.
        assert_eq!(
            world.get(MAIN, &pod).await.refusal(),
            (422, "Invalid".into()),
            "{branch:?}"
        );
    }
    assert_eq!(world.get(MAIN, "operator").await.status, 403);

    let other = World::new();
    let echo = other.claimed().await;
    let (bundle, _) = other.upload(&echo, b"history").await;
    let body = request(None, &commit('a'), &bundle, 7);
    assert_eq!(other.get(MAIN, &echo).await.refusal(), (403, "WrongAgent".into()));
    assert_eq!(
        other.post(MAIN, &echo, &body).await.refusal(),
        (403, "WrongAgent".into())
    );
    assert!(other.files().iter().all(|file| !file.contains("projects")));
}

#[tokio::test]
async fn an_attempt_that_does_not_hold_its_claim_moves_nothing() {
    let world = World::new();
    world.cluster.workflow(1, "Running");
    let pod = world
        .cluster
        .attempt_by("integration", &json!({}), 1, &Value::Null);
    let body = request(None, &commit('a'), &Digest::of(b"history"), 7);
    assert_eq!(
        world.post(MAIN, &pod, &body).await.refusal(),
        (409, "NotClaimed".into())
    );
    assert_eq!(world.get(MAIN, &pod).await.refusal(), (409, "NotClaimed".into()));

    assert_eq!(world.claim(&pod).await.status, 200);
    world.upload(&pod, b"history").await;
    world.cluster.workflow(1, "Failed");
    assert_eq!(
        world.post(MAIN, &pod, &body).await.refusal(),
        (409, "NotCurrent".into())
    );
    assert!(world.files().iter().all(|file| !file.contains("projects")));
}

#[tokio::test]
async fn a_move_names_a_bundle_of_its_own_whole_and_a_commit() {
    let world = World::new();
    let pod = integrating(&world).await;
    let (bundle, _) = world.upload(&pod, b"history").await;
    let absent = Digest::of(b"absent");
    for body in [
        request(None, &commit('a'), &absent, 6),
        request(None, &commit('a'), &bundle, 8),
        request(None, "HEAD", &bundle, 7),
        request(None, &commit('A'), &bundle, 7),
    ] {
        let reply = world.post(MAIN, &pod, &body).await;
        assert_eq!(reply.refusal(), (422, "Invalid".into()), "{body}");
    }
    let mut large = request(None, &commit('a'), &bundle, 7);
    large["outputs"] = json!({"x": "y".repeat(70_000)});
    assert_eq!(
        world.post(MAIN, &pod, &large).await.refusal(),
        (413, "TooLarge".into())
    );
    assert_eq!(shown(&world, &pod).await.tip, None);

    // The bundle that the attempt was given is as good as one that it uploaded.
    let given = json!({"commit": commit('a'), "bundle": bundle, "bytes": 7});
    let second = again(&world, 2, &given).await;
    made(
        &world
            .post(MAIN, &second, &request(None, &commit('a'), &bundle, 7))
            .await,
    );
}

#[tokio::test]
async fn a_blob_that_was_tampered_with_becomes_no_branch() {
    let world = World::new();
    let pod = integrating(&world).await;
    let (bundle, _) = world.upload(&pod, b"history").await;
    let file = world
        .files()
        .into_iter()
        .find(|file| file.ends_with(&format!("blobs/{}", bundle.hex())))
        .unwrap();
    std::fs::write(file, b"hist0ry").unwrap();
    let reply = world
        .post(MAIN, &pod, &request(None, &commit('a'), &bundle, 7))
        .await;
    assert_eq!(reply.refusal(), (422, "DigestMismatch".into()));
    assert_eq!(shown(&world, &pod).await.tip, None);
    assert!(world.files().iter().all(|file| !file.contains("projects")));
}

/// Asks for a move, and lets something happen when the bundle is copied and the branch not moved yet.
async fn interrupted(world: &World, pod: &str, body: &Value, happen: impl AsyncFnOnce()) -> Reply {
    let mut happen = Some(happen);
    let mut moving = std::pin::pin!(world.post(MAIN, pod, body));
    loop {
        // The copy is made in a task of its own, whose end the request hears of when it is polled next.
        let copied = world
            .files()
            .iter()
            .any(|file| file.contains("/projects/") && !file.contains('#'));
        if copied && let Some(happen) = happen.take() {
            happen().await;
        }
        if let std::task::Poll::Ready(reply) = futures::poll!(moving.as_mut()) {
            assert!(happen.is_none(), "nothing was copied");
            return reply;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_attempt_that_is_overtaken_while_its_bundle_is_copied_moves_nothing() {
    for (code, claims) in [("NotCurrent", false), ("Fenced", true)] {
        let world = World::new();
        let pod = integrating(&world).await;
        let (bundle, _) = world.upload(&pod, b"history").await;
        let body = request(None, &commit('a'), &bundle, 7);
        let reply = interrupted(&world, &pod, &body, async || {
            if claims {
                let binding = Binding {
                    pod_uid: "another".to_owned(),
                    pod_name: "another".to_owned(),
                    node: "node-b".to_owned(),
                    at: Moment::now(),
                    version: "1".to_owned(),
                };
                world.store.claim(&key(2), &binding).await.unwrap();
            } else {
                world.cluster.workflow(2, "Running");
            }
        })
        .await;
        assert_eq!(reply.refusal(), (409, code.into()));
        let next = again(&world, 3, &Value::Null).await;
        assert_eq!(shown(&world, &next).await.tip, None);
    }
}
