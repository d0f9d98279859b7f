//! Callers that the gateway must not serve, and that they change nothing.

use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::runtime::wait::await_condition;
use reqwest::Method;
use serde_json::{Value, json};
use stagecraft_api::protocol::{AUDIENCE, HeartbeatReply, ResultReply};
use stagecraft_api::{Digest, Workflow, WorkflowStatus, WorkflowTemplate, label};
use stagecraft_e2e::scenario::gateway::{Gateway, token};
use stagecraft_e2e::scenario::samples::{self, STAGE};
use stagecraft_e2e::scenario::world::stage;
use stagecraft_e2e::scenario::{Isolation, World, scenario};

const LIMIT: Duration = Duration::from_mins(4);
const START: Duration = Duration::from_mins(1);

/// Everything that an intruder could ask for in the name of an attempt.
fn requests(uid: &str, attempt: u32) -> Vec<(Method, String, Option<Value>)> {
    let result = json!({
        "attempt": {"workflowUid": uid, "stage": STAGE, "attempt": attempt},
        "startedAt": "2026-01-01T00:00:00.000Z",
        "finishedAt": "2026-01-01T00:00:01.000Z",
        "outcome": "succeeded", "summary": "forged", "outputs": {"forged": true}, "workspace": null, "artifacts": [],
    });
    let digest = Digest::of(b"forged");
    vec![
        (
            Method::POST,
            "/v1/claim".to_owned(),
            Some(json!({"version": "forged"})),
        ),
        (
            Method::POST,
            "/v1/heartbeat".to_owned(),
            Some(json!({"state": "forged"})),
        ),
        (Method::POST, "/v1/events".to_owned(), Some(json!({"events": []}))),
        (Method::POST, "/v1/result".to_owned(), Some(result)),
        (Method::PUT, format!("/v1/blobs/{digest}"), Some(json!("forged"))),
        (Method::GET, format!("/v1/blobs/{digest}"), None),
        (Method::GET, "/v1/operator/workflows".to_owned(), None),
        (
            Method::GET,
            format!("/v1/operator/results/{uid}/{STAGE}/{attempt}"),
            None,
        ),
        (Method::DELETE, format!("/v1/operator/workflows/{uid}"), None),
    ]
}

/// Makes every request and checks that each is answered with one of `statuses`.
async fn all_refused(
    gateway: &Gateway,
    who: &str,
    token: Option<&str>,
    (uid, attempt): (&str, u32),
    statuses: &[u16],
) -> anyhow::Result<()> {
    for (method, path, body) in requests(uid, attempt) {
        let answer = gateway.ask(method.clone(), &path, token, body.as_ref()).await?;
        let status = answer.status().as_u16();
        assert!(
            statuses.contains(&status),
            "{who}: {method} {path} was answered with {status}, not {statuses:?}"
        );
        let body: Value = answer
            .json()
            .await
            .with_context(|| format!("{method} {path}: {status} without a body"))?;
        assert!(
            body.pointer("/error/message").is_some_and(Value::is_string),
            "{who}: {method} {path}: {body}"
        );
    }
    Ok(())
}

/// The same for a Pod that belonged to an attempt: operator's requests get 403, and a heartbeat is told to stop.
async fn turned_away(
    gateway: &Gateway,
    who: &str,
    token: &str,
    (uid, attempt): (&str, u32),
    statuses: &[u16],
) -> anyhow::Result<()> {
    for (method, path, body) in requests(uid, attempt) {
        let answer = gateway
            .ask(method.clone(), &path, Some(token), body.as_ref())
            .await?;
        let status = answer.status().as_u16();
        if path == "/v1/heartbeat" && status == 200 {
            let reply: HeartbeatReply = answer.json().await?;
            assert!(reply.cancel.is_some(), "{who}: a heartbeat was taken for good");
        } else if path == "/v1/result" && status == 200 {
            // A runner that did not hear the answer asks again and is told that there is a result: the first one.
            let reply: ResultReply = answer.json().await?;
            assert!(!reply.stored, "{who}: another result was stored");
        } else if path.starts_with("/v1/operator/") {
            assert!(
                [401, 403].contains(&status),
                "{who}: {method} {path} was answered with {status}"
            );
        } else {
            assert!(
                statuses.contains(&status),
                "{who}: {method} {path} was answered with {status}"
            );
        }
    }
    Ok(())
}

/// A Pod of somebody else's. It waits for a node that does not exist: that it is there is enough for a token.
async fn bystander(world: &World, name: &str, labels: Value) -> anyhow::Result<Pod> {
    world
        .create::<Pod>(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "nodeSelector": {"stagecraft.dev/no-such-node": "true"},
                "automountServiceAccountToken": false,
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "agent",
                    "image": "none.invalid/none",
                    "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        }))
        .await
}

/// A Workflow whose agent works for a while; answers its UID and its Pod.
async fn working(world: &World, millis: u64) -> anyhow::Result<(String, Pod)> {
    world.create::<WorkflowTemplate>(samples::single_stage()).await?;
    let change = json!({"payload": {"sleepMillis": millis}, "retries": 0});
    let created = world.create::<Workflow>(samples::single("flow", change)).await?;
    let pod = world.running_pod("flow", STAGE, 1, START).await?;
    Ok((created.uid().unwrap_or_default(), pod))
}

async fn untouched(world: &World, attempt: u32) -> anyhow::Result<WorkflowStatus> {
    let status = world.completed("flow", Duration::from_secs(90)).await?;
    let stage = stage(&status, STAGE)?;
    assert_eq!(stage.attempt, attempt, "{stage:?}");
    assert!(
        !stage.outputs.contains_key("forged") && stage.summary != "forged",
        "a forged result counts: {stage:?}"
    );
    Ok(status)
}

#[test]
fn callers_without_a_good_token_are_turned_away_with_401() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let (uid, pod) = working(world, 15_000).await?;
        let gateway = Gateway::reach(&world.client, &world.release).await?;
        let attempt = (uid.as_str(), 1);
        all_refused(&gateway, "without a token", None, attempt, &[401]).await?;
        all_refused(&gateway, "with nonsense", Some("nonsense"), attempt, &[401]).await?;
        let other = token(
            &world.client,
            &world.namespace,
            "default",
            "somebody-else",
            Some(&pod),
        )
        .await?;
        all_refused(
            &gateway,
            "with the stage's token for another audience",
            Some(&other),
            attempt,
            &[401],
        )
        .await?;
        let good = token(&world.client, &world.namespace, "default", AUDIENCE, Some(&pod)).await?;
        let (head, _) = good.rsplit_once('.').context("a token has three parts")?;
        let unsigned = format!("{head}.c2lnbmF0dXJl");
        all_refused(
            &gateway,
            "with a forged signature",
            Some(&unsigned),
            attempt,
            &[401],
        )
        .await?;
        untouched(world, 1).await?;
        Ok(())
    })
}

#[test]
fn pods_that_belong_to_no_attempt_are_turned_away_with_403() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let (uid, stage_pod) = working(world, 15_000).await?;
        let gateway = Gateway::reach(&world.client, &world.release).await?;
        let attempt = (uid.as_str(), 1);
        let plain = bystander(world, "plain", json!({"app": "other"})).await?;
        let theirs = token(&world.client, &world.namespace, "default", AUDIENCE, Some(&plain)).await?;
        all_refused(&gateway, "another Pod", Some(&theirs), attempt, &[403]).await?;

        // The same labels as the stage's Pod, but no Job that says so.
        let labels = json!(stage_pod.labels());
        assert!(labels.get(label::WORKFLOW_UID).is_some());
        let disguised = bystander(world, "disguised", labels).await?;
        let theirs = token(
            &world.client,
            &world.namespace,
            "default",
            AUDIENCE,
            Some(&disguised),
        )
        .await?;
        all_refused(&gateway, "a disguised Pod", Some(&theirs), attempt, &[403, 409]).await?;

        let nobody = token(&world.client, &world.namespace, "default", AUDIENCE, None).await?;
        all_refused(
            &gateway,
            "a service account without a Pod",
            Some(&nobody),
            attempt,
            &[401, 403],
        )
        .await?;
        untouched(world, 1).await?;
        Ok(())
    })
}

#[test]
fn a_stage_may_not_ask_what_only_the_operator_may() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        let (uid, pod) = working(world, 12_000).await?;
        let gateway = Gateway::reach(&world.client, &world.release).await?;
        let own = token(&world.client, &world.namespace, "default", AUDIENCE, Some(&pod)).await?;
        for (method, path, body) in requests(&uid, 1) {
            if path.starts_with("/v1/operator/") || method == Method::GET {
                let answer = gateway
                    .ask(method.clone(), &path, Some(&own), body.as_ref())
                    .await?;
                assert_eq!(answer.status().as_u16(), 403, "{method} {path}");
            }
        }
        untouched(world, 1).await?;
        Ok(())
    })
}

#[test]
fn the_token_of_an_older_attempt_is_turned_away_with_409_and_changes_nothing() -> anyhow::Result<()> {
    scenario(Isolation::Shared, LIMIT, async |world| {
        world.create::<WorkflowTemplate>(samples::single_stage()).await?;
        let payload = json!({"fault": "exit", "faultUntilAttempt": 1, "sleepMillis": 12_000});
        let change = json!({"payload": payload, "retries": 1});
        let created = world.create::<Workflow>(samples::single("flow", change)).await?;
        let uid = created.uid().unwrap_or_default();
        let first = world.running_pod("flow", STAGE, 1, START).await?;
        let old = token(&world.client, &world.namespace, "default", AUDIENCE, Some(&first)).await?;
        // The operator deletes the Job of an attempt that is over, and a token dies with its Pod: this Pod stays a while.
        world.hold(&first).await?;
        let second = world.running_pod("flow", STAGE, 2, START).await?;
        let current = token(
            &world.client,
            &world.namespace,
            "default",
            AUDIENCE,
            Some(&second),
        )
        .await?;

        let gateway = Gateway::reach(&world.client, &world.release).await?;
        for attempt in [1, 2] {
            turned_away(&gateway, "the first attempt", &old, (&uid, attempt), &[409]).await?;
        }
        untouched(world, 2).await?;

        // Replayed once the attempt is over, the token that was good is good for nothing.
        turned_away(&gateway, "a replay", &current, (&uid, 2), &[401, 403, 409]).await?;
        let name = second.name_any();
        await_condition(world.api::<Pod>(), &name, |pod: Option<&Pod>| {
            pod.is_none_or(|pod| {
                pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded")
            })
        })
        .await?;
        untouched(world, 2).await?;
        Ok(())
    })
}
