use serde_json::{Value, json};
use stagecraft_api::Digest;

use crate::cluster::key;
use crate::world::{World, success, success_with};

#[tokio::test]
async fn the_first_result_wins() {
    let world = World::new();
    let pod = world.claimed().await;
    let reply = world.result(&pod, &success(1, "first")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()),
        (200, json!({"stored": true}))
    );
    let reply = world.result(&pod, &success(1, "second")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.json()),
        (200, json!({"stored": false}))
    );
    let path = format!("/v1/operator/results/{}/scaffold/1", key(1).workflow_uid);
    assert_eq!(world.get(&path, "operator").await.json()["summary"], "first");
}

#[tokio::test]
async fn a_runner_that_missed_the_answer_gets_it_after_the_workflow_moved_on() {
    let world = World::new();
    let pod = world.claimed().await;
    assert_eq!(
        world.result(&pod, &success(1, "done")).await.json(),
        json!({"stored": true})
    );
    world.cluster.workflow(1, "Succeeded");
    assert_eq!(
        world.result(&pod, &success(1, "done")).await.json(),
        json!({"stored": true})
    );
    assert_eq!(
        world.result(&pod, &success(1, "changed")).await.json(),
        json!({"stored": false})
    );
}

#[tokio::test]
async fn a_result_that_names_a_missing_blob_is_422_and_not_stored() {
    let world = World::new();
    let pod = world.claimed().await;
    let absent = Digest::of(b"absent");
    let reply = world.result(&pod, &success_with(1, &absent, 6)).await;
    assert_eq!(reply.refusal(), (422, "Invalid".into()));
    let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains(absent.as_str()) && message.contains("report"),
        "{message}"
    );
    assert_eq!(world.store.result(&key(1)).await.unwrap(), None);

    let (digest, _) = world.upload(&pod, b"present").await;
    let reply = world.result(&pod, &success_with(1, &digest, 8)).await;
    assert!(
        reply.json()["error"]["message"]
            .as_str()
            .unwrap()
            .contains("7 bytes"),
        "{:?}",
        reply.body
    );
    assert_eq!(
        world.result(&pod, &success_with(1, &digest, 7)).await.json(),
        json!({"stored": true})
    );
}

#[tokio::test]
async fn a_result_may_name_only_what_the_attempt_was_given_or_uploaded() {
    let world = World::new();
    let first = world.claimed().await;
    let (digest, _) = world.upload(&first, b"of attempt 1").await;
    world.cluster.workflow(2, "Running");
    let second = world.cluster.attempt(2, &Value::Null);
    assert_eq!(world.claim(&second).await.status, 200);
    let reply = world.result(&second, &success_with(2, &digest, 12)).await;
    assert_eq!(reply.status, 422, "{:?}", reply.body);

    world.cluster.workflow(3, "Running");
    let commit = "a".repeat(40);
    let workspace = json!({"commit": commit, "bundle": digest, "bytes": 12});
    let third = world.cluster.attempt(3, &workspace);
    assert_eq!(world.claim(&third).await.status, 200);
    let mut result = success(3, "unchanged");
    result["workspace"] = workspace;
    assert_eq!(
        world.result(&third, &result).await.json(),
        json!({"stored": true})
    );
}

#[tokio::test]
async fn a_result_that_the_status_could_not_hold_is_422() {
    let world = World::new();
    let pod = world.claimed().await;
    let with = |field: &str, value: Value| {
        let mut result = success(1, "s");
        result[field] = value;
        result
    };
    let artifact =
        |name: &str| json!({"name": name, "digest": Digest::of(b""), "bytes": 0, "mediaType": "text/plain"});
    let error = |code: &str, message: &str| {
        json!({"attempt": key(1), "startedAt": "2026-11-01T10:00:00Z", "finishedAt": "2026-11-01T10:00:05Z",
            "outcome": "failed", "error": {"code": code, "message": message, "category": "execution",
            "severity": "error", "retryable": true}})
    };
    let bad = [
        ("outputs", with("outputs", json!({"x": "y".repeat(9000)}))),
        ("summary", with("summary", "s".repeat(1025).into())),
        (
            "32",
            with("artifacts", (0..33).map(|n| artifact(&n.to_string())).collect()),
        ),
        (
            "two artifacts",
            with("artifacts", json!([artifact("a"), artifact("a")])),
        ),
        (
            "artifacts as JSON",
            with(
                "artifacts",
                (0..30).map(|n| artifact(&format!("{n:0>250}"))).collect(),
            ),
        ),
        ("summary", with("summary", "<".repeat(200).into())),
        ("no name", with("artifacts", json!([artifact("")]))),
        (
            "commit",
            with(
                "workspace",
                json!({"commit": "HEAD", "bundle": Digest::of(b""), "bytes": 0}),
            ),
        ),
        ("attempt", with("attempt", json!(key(2)))),
        ("error.code", error(&"C".repeat(64), "m")),
        ("error.message", error("Code", &"m".repeat(1025))),
        ("not what it should be", json!({"outcome": "succeeded"})),
    ];
    for (reason, result) in bad {
        let reply = world.result(&pod, &result).await;
        assert_eq!(reply.refusal(), (422, "Invalid".into()), "{reason}");
        assert!(
            String::from_utf8_lossy(&reply.body).contains(reason),
            "{reason}: {:?}",
            reply.body
        );
    }
    let huge = with("outputs", json!({"x": "y".repeat(200_000)}));
    assert_eq!(
        world.result(&pod, &huge).await.refusal(),
        (413, "TooLarge".into())
    );
    assert_eq!(
        world.result(&pod, &error("Code", "m")).await.json(),
        json!({"stored": true})
    );
}

/// The address of this world's Redis refuses connections, so claim and result above passed without one; here the failures
/// are counted.
#[tokio::test]
async fn a_redis_that_is_away_is_counted_and_fails_nothing() {
    let world = World::new();
    let pod = world.claimed().await;
    assert_eq!(world.heartbeat(&pod).await.status, 200);
    assert_eq!(
        world.result(&pod, &success(1, "done")).await.json(),
        json!({"stored": true})
    );
    let metrics = world.metrics.render();
    for operation in ["claim", "heartbeat", "announce"] {
        let line = format!("stagecraft_gateway_redis_errors_total{{operation=\"{operation}\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }
}
