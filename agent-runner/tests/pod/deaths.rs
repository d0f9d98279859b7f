//! The runner dies, the gateway goes away, the Pod is told to go: one result, and the agent is started once.

use serde_json::json;
use stagecraft_api::Category;
use stagecraft_api::result::Outcome;

use crate::gateway::{Call, Fault, Gateway};
use crate::pod::{self, AGENT, Pod};
use crate::task::task;

/// Leaves a file, waits for another beside the workspace, then echoes. `$0` is the agent.
const PATIENT: &str =
    "echo x >> begun; echo x >> ../starts; until [ -e ../go ]; do sleep 0.02; done; exec $0 echo";

async fn check_success(gateway: &Gateway, pod: &Pod) {
    let result = gateway.result().await;
    assert!(matches!(result.outcome, Outcome::Succeeded { .. }), "{result:?}");
    let clone = crate::git::clone_result(&result, gateway);
    assert!(clone.path().join("stages/scaffold.md").exists());
    if pod.path("work/starts").exists() {
        assert_eq!(std::fs::read_to_string(pod.path("work/starts")).unwrap(), "x\n");
        assert_eq!(
            std::fs::read_to_string(clone.path().join("begun")).unwrap(),
            "x\n"
        );
    }
}

#[tokio::test]
async fn a_runner_killed_while_the_agent_works_goes_on() {
    let gateway = Gateway::start(task(&json!({})));
    let mut pod = Pod::start(&gateway);
    let mut agent = pod.agent(&["/bin/sh", "-c", PATIENT, AGENT]).await;
    pod::until("the start", || pod.path("work/starts").exists().then_some(())).await;
    pod.restart_runner().await;
    gateway
        .wait("the second claim", |seen| {
            (seen.called(Call::Claim) >= 2).then_some(())
        })
        .await;
    pod.ready().await;
    std::fs::write(pod.path("work/go"), "").unwrap();
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    check_success(&gateway, &pod).await;
    assert_eq!(gateway.seen().repeated, 0);
}

#[tokio::test]
async fn a_runner_killed_in_any_call_goes_on() {
    for (call, fault) in [
        (Call::Claim, Fault::Hold),
        (Call::Claim, Fault::HoldReply),
        (Call::Upload, Fault::Hold),
        (Call::Upload, Fault::HoldReply),
        (Call::Result, Fault::Hold),
        (Call::Result, Fault::HoldReply),
    ] {
        let gateway = Gateway::start(task(&json!({})));
        gateway.fault(call, fault, 1);
        let mut pod = Pod::start(&gateway);
        let killed = async |pod: &mut Pod| {
            gateway
                .wait("the call", |seen| (seen.called(call) >= 1).then_some(()))
                .await;
            pod.restart_runner().await;
        };
        if call == Call::Claim {
            killed(&mut pod).await;
        }
        let mut agent = pod.agent(&[AGENT, "echo"]).await;
        if call != Call::Claim {
            killed(&mut pod).await;
        }
        assert_eq!(pod::wait(&mut agent).await.code(), Some(0), "{call:?} {fault:?}");
        check_success(&gateway, &pod).await;
        assert_eq!(gateway.seen().results.len(), 1);
    }
}

#[tokio::test]
async fn a_runner_killed_while_it_prepares_prepares_again() {
    let (first, _pod, _) = pod::run_echo(&json!({})).await;
    let Outcome::Succeeded { workspace, .. } = first.result().await.outcome else {
        panic!("it failed");
    };
    let mut later = task(&json!({"files": {"stages/scaffold.md": "again"}}));
    later.workspace = workspace;
    let gateway = Gateway::start(later);
    let blobs = first.seen().blobs.clone();
    gateway.change(|seen| seen.blobs = blobs);
    gateway.fault(Call::Download, Fault::Hold, 1);
    let mut pod = Pod::start(&gateway);
    gateway
        .wait("the download", |seen| {
            (seen.called(Call::Download) >= 1).then_some(())
        })
        .await;
    pod.restart_runner().await;
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    check_success(&gateway, &pod).await;
}

#[tokio::test]
async fn a_runner_killed_after_the_result_releases_the_launcher_and_reports_no_more() {
    let gateway = Gateway::start(task(&json!({})));
    let mut pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    pod.restart_runner().await;
    gateway
        .wait("the second claim", |seen| {
            (seen.called(Call::Claim) >= 2).then_some(())
        })
        .await;
    let mut late = pod.agent(&["/bin/true"]).await;
    assert_eq!(pod::wait(&mut late).await.code(), Some(0));
    assert!(pod.end().await.success());
    assert_eq!(gateway.seen().called(Call::Result), 1);
}

#[tokio::test]
async fn a_gateway_that_goes_away_during_the_upload_is_waited_for() {
    let mut gateway = Gateway::start(task(&json!({})));
    gateway.fault(Call::Upload, Fault::Hold, 1);
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    gateway
        .wait("the upload", |seen| {
            (seen.called(Call::Upload) >= 1).then_some(())
        })
        .await;
    gateway.leave();
    // Some seconds, as the pauses between the tries grow.
    pod::until("tries", || {
        let log = pod.runner_log();
        (log.matches("cannot upload a blob, trying again").count() >= 4).then_some(())
    })
    .await;
    gateway.come_back().await;
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    check_success(&gateway, &pod).await;
}

#[tokio::test]
async fn a_gateway_that_is_away_does_not_stop_the_agent() {
    let gateway = Gateway::start(task(&json!({})));
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&["/bin/sh", "-c", PATIENT, AGENT]).await;
    gateway.fault(Call::Heartbeat, Fault::Status(503), 1);
    gateway
        .wait("heartbeats", |seen| {
            (seen.called(Call::Heartbeat) >= 2).then_some(())
        })
        .await;
    gateway.fault(Call::Heartbeat, Fault::Status(409), 1);
    gateway
        .wait("heartbeats", |seen| {
            (seen.called(Call::Heartbeat) >= 4).then_some(())
        })
        .await;
    std::fs::write(pod.path("work/go"), "").unwrap();
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    check_success(&gateway, &pod).await;
}

#[tokio::test]
async fn busy_answers_are_repeated() {
    let gateway = Gateway::start(task(&json!({})));
    for call in [Call::Claim, Call::Upload, Call::Result] {
        gateway.fault(call, Fault::Status(429), 1);
    }
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    check_success(&gateway, &pod).await;
}

#[tokio::test]
async fn a_gateway_that_has_forgotten_the_claim_is_claimed_from_again() {
    let gateway = Gateway::start(task(&json!({})));
    for call in [Call::Heartbeat, Call::Upload, Call::Result] {
        gateway.fault(call, Fault::NotClaimed, 1);
    }
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    check_success(&gateway, &pod).await;
    assert!(gateway.seen().called(Call::Claim) >= 3);
}

#[tokio::test]
async fn a_gateway_of_another_authority_gets_nothing() {
    let mut gateway = Gateway::start(task(&json!({})));
    let good = gateway.certificate.clone();
    gateway.certificate = Gateway::start(task(&json!({}))).certificate;
    let pod = Pod::start(&gateway);
    pod::until("a refused certificate", || {
        pod.runner_log()
            .contains("invalid peer certificate")
            .then_some(())
    })
    .await;
    assert_eq!(gateway.seen().called(Call::Claim), 0);
    assert_ne!(good, gateway.certificate);
}

#[tokio::test]
async fn a_pod_that_has_to_go_is_a_network_error() {
    let gateway = Gateway::start(task(&json!({"sleepMillis": 3_600_000})));
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    gateway
        .wait("work", |seen| {
            seen.states.iter().any(|state| state == "working").then_some(())
        })
        .await;
    pod::terminate(&agent);
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(
        (error.code.as_str(), error.category),
        ("PodTerminated", Category::Network)
    );
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
    assert!(pod.end().await.success());
}

#[tokio::test]
async fn a_pod_that_has_to_go_hands_in_what_is_finished() {
    let gateway = Gateway::start(task(&json!({})));
    gateway.fault(Call::Upload, Fault::Status(503), 2);
    let mut pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    gateway
        .wait("the upload", |seen| {
            (seen.called(Call::Upload) >= 1).then_some(())
        })
        .await;
    pod::terminate(&pod.runner);
    assert!(pod::wait(&mut pod.runner).await.success());
    assert!(matches!(
        gateway.result().await.outcome,
        Outcome::Succeeded { .. }
    ));
    agent.kill().await.unwrap();
}

#[tokio::test]
async fn without_a_word_of_the_launcher_there_is_no_result() {
    let gateway = Gateway::start(task(&json!({"sleepMillis": 3_600_000})));
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    gateway
        .wait("work", |seen| {
            seen.states.iter().any(|state| state == "working").then_some(())
        })
        .await;
    agent.kill().await.unwrap();
    assert!(pod.end().await.success());
    assert_eq!(gateway.seen().called(Call::Result), 0);
}
