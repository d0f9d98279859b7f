use futures::future::join_all;
use serde_json::{Value, json};
use stagecraft_api::Digest;
use stagecraft_api::protocol::{BranchEntry, BranchReply};

use crate::cluster::{UID, key};
use crate::world::{Reply, World, success};

pub const MAIN: &str = "/v1/branches/main";

pub fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

/// What a runner asks for.
pub fn request(expected: Option<&str>, to: &str, bundle: &Digest, bytes: usize) -> Value {
    json!({"expected": expected, "workspace": {"commit": to, "bundle": bundle, "bytes": bytes},
        "outputs": {"summary": "merged"}})
}

/// An integration stage whose Pod has claimed it.
pub async fn integrating(world: &World) -> String {
    again(world, 1, &Value::Null).await
}

/// A later attempt of it, or one with an input.
pub async fn again(world: &World, attempt: u32, workspace: &Value) -> String {
    world.cluster.workflow(attempt, "Running");
    let pod = world
        .cluster
        .attempt_by("integration", &json!({}), attempt, workspace);
    let reply = world.claim(&pod).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    pod
}

/// The same agent in another Workflow of the same project, whose Pod has claimed it.
async fn neighbour(world: &World, number: u32) -> String {
    let pod = world.cluster.neighbour(number);
    let reply = world.claim(&pod).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    pod
}

pub async fn shown(world: &World, pod: &str) -> BranchReply {
    let reply = world.get(MAIN, pod).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    serde_json::from_slice(&reply.body).unwrap()
}

pub fn made(reply: &Reply) -> BranchEntry {
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    serde_json::from_slice(&reply.body).unwrap()
}

#[tokio::test]
async fn a_branch_is_made_moved_and_read_by_another_workflow() {
    let world = World::new();
    let first = integrating(&world).await;
    assert_eq!(shown(&world, &first).await, BranchReply { tip: None, own: None });
    assert_eq!(
        world.get("/v1/branches/main/bundle", &first).await.refusal(),
        (404, "NoBranch".into())
    );

    let (one, _) = world.upload(&first, b"history one").await;
    let entry = made(
        &world
            .post(MAIN, &first, &request(None, &commit('a'), &one, 11))
            .await,
    );
    assert_eq!((entry.number, &entry.from, &entry.moved_by), (1, &None, &key(1)));
    assert_eq!(entry.outputs["summary"], "merged");
    let seen = shown(&world, &first).await;
    assert_eq!(
        (seen.tip.as_ref(), seen.own.as_ref()),
        (Some(&entry), Some(&entry))
    );

    let second = neighbour(&world, 2).await;
    let seen = shown(&world, &second).await;
    assert_eq!((seen.tip.as_ref(), seen.own.as_ref()), (Some(&entry), None));
    // The first Workflow is deleted: the branch outlives it.
    let purged = world
        .send("DELETE", &format!("/v1/operator/workflows/{UID}"), "operator", "")
        .await;
    assert_eq!(purged.status, 204);
    let bundle = world.get("/v1/branches/main/bundle", &second).await;
    assert_eq!(
        (bundle.status.as_u16(), &bundle.body[..]),
        (200, &b"history one"[..])
    );

    let (two, _) = world.upload(&second, b"history two").await;
    let moved = made(
        &world
            .post(
                MAIN,
                &second,
                &request(Some(&commit('a')), &commit('b'), &two, 11),
            )
            .await,
    );
    assert_eq!((moved.number, moved.from.as_deref()), (2, Some(&commit('a')[..])));
    let bundle = world.get("/v1/branches/main/bundle", &second).await;
    assert_eq!(&bundle.body[..], b"history two");
}

#[tokio::test]
async fn a_move_from_elsewhere_is_409_and_says_where_the_branch_stands() {
    let world = World::new();
    let first = integrating(&world).await;
    let (one, _) = world.upload(&first, b"one").await;
    let reply = world
        .post(MAIN, &first, &request(Some(&commit('c')), &commit('a'), &one, 3))
        .await;
    assert_eq!(reply.refusal(), (409, "BranchMoved".into()));
    let error = &reply.json()["error"];
    assert!(
        error["message"].as_str().unwrap().contains("does not exist"),
        "{error}"
    );

    made(
        &world
            .post(MAIN, &first, &request(None, &commit('a'), &one, 3))
            .await,
    );
    let second = neighbour(&world, 2).await;
    let (two, _) = world.upload(&second, b"two").await;
    for expected in [None, Some(commit('c'))] {
        let body = request(expected.as_deref(), &commit('b'), &two, 3);
        let reply = world.post(MAIN, &second, &body).await;
        assert_eq!(reply.refusal(), (409, "BranchMoved".into()));
        let error = &reply.json()["error"];
        assert!(
            error["message"].as_str().unwrap().contains(&commit('a')),
            "{error}"
        );
        assert!(
            error["suggestedAction"].as_str().unwrap().contains("merge"),
            "{error}"
        );
    }
    assert_eq!(shown(&world, &second).await.tip.unwrap().number, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_workflows_that_move_a_branch_at_once_one_wins() {
    let world = World::new();
    let pods = join_all((1..=20).map(|number| neighbour(&world, number))).await;
    let (bundle, _) = world.upload(&pods[0], b"history").await;
    for pod in &pods {
        assert_eq!(world.upload(pod, b"history").await.0, bundle);
    }
    let moves = pods.iter().enumerate().map(|(number, pod)| {
        let body = request(None, &format!("{number:0>40}"), &bundle, 7);
        let world = &world;
        async move { world.post(MAIN, pod, &body).await }
    });
    let replies = join_all(moves).await;
    let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
    assert_eq!((won.len(), lost.len()), (1, 19));
    for reply in lost {
        assert_eq!(reply.refusal(), (409, "BranchMoved".into()));
    }
    assert_eq!(shown(&world, &pods[0]).await.tip, Some(made(won[0])));
}

#[tokio::test]
async fn a_stage_moves_a_branch_once_and_a_later_attempt_takes_that_over() {
    let world = World::new();
    let first = integrating(&world).await;
    let (bundle, _) = world.upload(&first, b"history").await;
    let (report, _) = world.upload(&first, b"report").await;
    let body = request(None, &commit('a'), &bundle, 7);
    let entry = made(&world.post(MAIN, &first, &body).await);
    // The answer was lost, or the runner was killed.
    assert_eq!(made(&world.post(MAIN, &first, &body).await), entry);
    let other = request(Some(&commit('a')), &commit('b'), &bundle, 7);
    assert_eq!(
        world.post(MAIN, &first, &other).await.refusal(),
        (409, "AlreadyMoved".into())
    );

    let second = again(&world, 2, &Value::Null).await;
    let seen = shown(&world, &second).await;
    assert_eq!(
        (seen.tip.as_ref(), seen.own.as_ref()),
        (Some(&entry), Some(&entry))
    );
    let repeated = request(Some(&commit('a')), &commit('a'), &bundle, 7);
    for body in [&other, &repeated, &body] {
        let reply = world.post(MAIN, &second, body).await;
        assert_eq!(reply.refusal(), (409, "AlreadyMoved".into()));
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(
            message.contains("attempt 1") && message.contains(&commit('a')),
            "{message}"
        );
    }
    assert_eq!(
        world.post(MAIN, &first, &body).await.refusal(),
        (409, "NotCurrent".into()),
        "the first attempt is over"
    );

    // Its result names what the first attempt has uploaded.
    let mut result = success(2, "taken over");
    result["workspace"] = json!({"commit": commit('a'), "bundle": bundle, "bytes": 7});
    result["artifacts"] =
        json!([{"name": "report", "digest": report, "bytes": 6, "mediaType": "text/plain"}]);
    assert_eq!(
        world.result(&second, &result).await.json(),
        json!({"stored": true})
    );
}

#[tokio::test]
async fn an_attempt_that_takes_nothing_over_may_not_name_what_another_uploaded() {
    let world = World::new();
    let first = integrating(&world).await;
    let (bundle, _) = world.upload(&first, b"history").await;
    let second = again(&world, 2, &Value::Null).await;
    let reply = world
        .post(MAIN, &second, &request(None, &commit('a'), &bundle, 7))
        .await;
    assert_eq!(reply.refusal(), (422, "Invalid".into()));
    let mut result = success(2, "stolen");
    result["workspace"] = json!({"commit": commit('a'), "bundle": bundle, "bytes": 7});
    assert_eq!(
        world.result(&second, &result).await.refusal(),
        (422, "Invalid".into())
    );
    assert_eq!(shown(&world, &second).await.tip, None);
}

#[tokio::test]
async fn what_other_workflows_did_since_does_not_hide_an_own_move() {
    let world = World::new();
    let first = integrating(&world).await;
    let (bundle, _) = world.upload(&first, b"history").await;
    let own = made(
        &world
            .post(MAIN, &first, &request(None, &commit('a'), &bundle, 7))
            .await,
    );
    let mut tip = commit('a');
    for (number, digit) in [(2, 'b'), (3, 'c')] {
        let other = neighbour(&world, number).await;
        world.upload(&other, b"history").await;
        made(
            &world
                .post(MAIN, &other, &request(Some(&tip), &commit(digit), &bundle, 7))
                .await,
        );
        tip = commit(digit);
    }
    let second = again(&world, 2, &Value::Null).await;
    let seen = shown(&world, &second).await;
    assert_eq!(seen.own, Some(own));
    assert_eq!(seen.tip.unwrap().workspace.commit, commit('c'));
    world.upload(&second, b"history").await;
    let reply = world
        .post(MAIN, &second, &request(Some(&tip), &commit('d'), &bundle, 7))
        .await;
    assert_eq!(reply.refusal(), (409, "AlreadyMoved".into()));
}
