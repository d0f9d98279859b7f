//! How attempts end that would stay too long.

use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::failure::FailureClass;
use stagecraft_api::status::StageStatus;
use stagecraft_core::Settings;
use stagecraft_core::judge::{Verdict, judge};
use stagecraft_core::observation::{AttemptEvidence, PodEvidence, PodPhase};

use crate::evidence::{
    deleting, ended, job_failed, job_without_pod, leaving, live, missing, on_a_lost_node, pod, present,
    with_pod,
};
use crate::fixture::{at, run};
use crate::judge::{LAST_CALL, LOST, fails, stage, verdict, waits};

#[test]
fn what_happened_to_a_pod_is_not_called_a_timeout_for_being_seen_late() {
    let late = 10 * LAST_CALL;
    fails(
        late,
        with_pod(present(), ended(137, "OOMKilled")),
        "OutOfMemory",
        Category::Resource,
    );
    fails(
        late,
        with_pod(present(), on_a_lost_node(50)),
        "NodeLost",
        Category::Network,
    );
    fails(late, missing(true), "JobDeleted", Category::Network);
    fails(late, job_failed(), "PodGone", Category::Network);
}

#[test]
fn a_runner_that_outlives_its_agent_is_waited_for_until_the_last_call() {
    let lingering = PodEvidence {
        phase: PodPhase::Running,
        ..ended(1, "Error")
    };
    waits(
        10,
        with_pod(present(), lingering.clone()),
        "the agent's container ended (Error)",
    );
    closes(LAST_CALL, with_pod(present(), lingering));
}

/// It is ended for its time, and a look from memory would not have said so.
#[track_caller]
fn closes(seconds: u64, evidence: AttemptEvidence) -> StructuredError {
    closes_for(seconds, evidence, ("StageTimeout", Category::Timeout))
}

#[track_caller]
fn closes_for(seconds: u64, evidence: AttemptEvidence, why: (&str, Category)) -> StructuredError {
    assert_eq!(verdict(seconds, &evidence), Verdict::Look);
    match verdict(seconds, &live(evidence)) {
        Verdict::Close { error, until } => {
            assert_eq!((error.code.as_str(), error.category), why);
            assert!(until > at(seconds));
            error
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn whatever_stays_past_the_last_call_is_closed() {
    closes(LAST_CALL, present());
    closes(LAST_CALL, with_pod(present(), pod(PodPhase::Pending)));
    closes(LAST_CALL, with_pod(present(), pod(PodPhase::Running)));
    closes(LAST_CALL, with_pod(present(), pod(PodPhase::Unknown)));
    // Its Job was deleted without it (--cascade=orphan), or waits for a finalizer of somebody's.
    closes(LAST_CALL, with_pod(missing(true), pod(PodPhase::Running)));
    closes(LAST_CALL, with_pod(deleting(), pod(PodPhase::Running)));
}

#[test]
fn a_timeout_says_why_the_pod_never_started() {
    let error = closes_for(
        LAST_CALL,
        job_without_pod("exceeded quota: pods=0"),
        ("PodNotStarted", Category::Dependency),
    );
    assert_eq!(
        error.message,
        "the Pod of attempt 1 did not start within its limit of 100 s: exceeded quota: pods=0"
    );
    assert_eq!(FailureClass::of(&error), FailureClass::Infrastructure);
    let plain = closes(LAST_CALL, with_pod(present(), pod(PodPhase::Running)));
    assert_eq!(plain.message, "attempt 1 took longer than its limit of 100 s");
    assert!(
        plain
            .suggested_action
            .unwrap()
            .contains("spec.stages[name=a].timeoutSeconds")
    );
}

#[test]
fn an_attempt_that_was_closed_fails_for_what_it_was_closed_for() {
    let closed = StageStatus {
        error: Some(StructuredError::new(
            "StageTimeout",
            Category::Timeout,
            "too long",
        )),
        ..stage()
    };
    for evidence in [
        missing(true),
        deleting(),
        with_pod(missing(true), ended(137, "Error")),
        with_pod(missing(true), leaving(0)),
    ] {
        let verdict = judge(
            at(LAST_CALL + LOST),
            &closed,
            &run("a").stages[0],
            &live(evidence),
            &Settings::default(),
        );
        match verdict {
            Verdict::Failed(error) => assert_eq!(error.code, "StageTimeout"),
            other => panic!("{other:?}"),
        }
    }
}
