//! The runner as a process of its own.

use std::time::Duration;

use serde_json::json;
use stagecraft_api::result::Outcome;

use super::{Place, fork, succeeded};
use crate::gateway::{Call, Fault};
use crate::history::History;
use crate::pod::{self, Pod};

#[tokio::test]
async fn a_conflict_ends_the_attempt_before_an_agent_starts() {
    let history = History::new();
    let base = history.commit(&[], &[("a", "1\n")]);
    let work = history.commit(&[base], &[("a", "2\n")]);
    let tip = history.commit(&[base], &[("a", "3\n")]);
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let pod = Pod::start(&place.gateway);
    let Outcome::Failed { error } = place.gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(error.code, "MergeConflict");
    pod.ready().await;
    assert!(!pod.path("stagecraft/bin/stagecraft-launcher").exists());
    assert!(pod.end().await.success());
}

#[tokio::test]
async fn an_agent_without_evidence_moves_no_branch() {
    let (history, work, tip) = fork();
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let pod = Pod::start(&place.gateway);
    let claim =
        r#"{"outputs": {"testsPassed": 42, "typescriptErrors": 0, "testsFailed": 0, "buildErrors": 0}}"#;
    let script = format!("test -e tip && test -e work && echo '{claim}' > $STAGECRAFT_RESULT");
    let mut agent = pod.agent(&["/bin/sh", "-c", &script]).await;
    let Outcome::Failed { error } = place.gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(error.code, "ChecksFailed", "{}", error.message);
    assert!(
        error.message.contains("testsPassed was not measured"),
        "{}",
        error.message
    );
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
    assert_eq!(place.gateway.seen().moves.len(), 1);
}

#[tokio::test]
async fn a_move_is_taken_over_without_an_agent_and_reported_before_its_container_may_fail() {
    let (history, work, tip) = fork();
    let mut place = Place::new(&json!({}), &history, work, Some(tip));
    let merged = place.merged().await;
    let end = succeeded(place.finish_well(&merged).await.unwrap().outcome);
    place.task.attempt.attempt = 2;
    place
        .gateway
        .change(|seen| seen.task.as_mut().unwrap().attempt.attempt = 2);
    place.gateway.fault(Call::Result, Fault::Hold, 1);

    let mut pod = Pod::start(&place.gateway);
    place
        .gateway
        .wait("the report", |seen| {
            (seen.called(Call::Result) == 1).then_some(())
        })
        .await;
    assert!(
        !pod.path("state/ready").exists(),
        "the agent's container could fail by now"
    );
    pod.restart_runner().await;
    let result = place.gateway.result().await;
    assert_eq!(result.attempt.attempt, 2);
    let taken_over = succeeded(result.outcome);
    assert_eq!(taken_over.workspace, end.workspace);
    assert_eq!(
        (taken_over.outputs, taken_over.metrics),
        (end.outputs, end.metrics)
    );
    assert_eq!(taken_over.artifacts, end.artifacts);
    tokio::time::timeout(Duration::from_mins(1), pod.ready())
        .await
        .unwrap();
    assert!(!pod.path("stagecraft/bin/stagecraft-launcher").exists());
    assert!(pod.end().await.success());
    assert_eq!(place.gateway.seen().moves.len(), 2);
}
