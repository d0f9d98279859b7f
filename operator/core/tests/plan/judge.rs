use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::failure::POD_TERMINATED;
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{StagePhase, StageStatus};
use stagecraft_core::Settings;
use stagecraft_core::judge::{Verdict, judge};
use stagecraft_core::observation::{AttemptEvidence, JobEvidence, PodEvidence, PodPhase, ResultEvidence};

use crate::evidence::{
    deleting, ended, ended_by_kubernetes, job_complete, job_failed, job_without_pod, leaving, live, missing,
    on_a_lost_node, pod, present, with_pod,
};
use crate::fixture::{TIMEOUT, at, failure, result, run, success};

/// When the runner may report no more: its limit and the grace of 20 s.
pub const LAST_CALL: u64 = TIMEOUT + 20;
/// How long a Job may be unseen, in seconds.
const GRACE: u64 = 12;
/// How long a Pod may be on its way out, in seconds.
pub const LOST: u64 = 150;

/// The first attempt of stage a, begun at ten o'clock.
pub fn stage() -> StageStatus {
    StageStatus {
        name: "a".into(),
        phase: StagePhase::Running,
        attempt: 1,
        attempt_started_at: Some(at(0)),
        ..StageStatus::default()
    }
}

pub fn verdict(seconds: u64, evidence: &AttemptEvidence) -> Verdict {
    judge(
        at(seconds),
        &stage(),
        &run("a").stages[0],
        evidence,
        &Settings::default(),
    )
}

/// It failed like this, and a look from memory would not have said so.
#[track_caller]
pub fn fails(seconds: u64, evidence: AttemptEvidence, code: &str, category: Category) -> StructuredError {
    assert_eq!(
        verdict(seconds, &evidence),
        Verdict::Look,
        "without live evidence nothing is judged"
    );
    match verdict(seconds, &live(evidence)) {
        Verdict::Failed(error) => {
            assert_eq!((error.code.as_str(), error.category), (code, category));
            error
        }
        other => panic!("{other:?}"),
    }
}

/// It goes on, for this reason.
#[track_caller]
pub fn waits(seconds: u64, evidence: AttemptEvidence, why: &str) {
    match verdict(seconds, &live(evidence)) {
        Verdict::Running {
            trouble: Some(trouble),
            until,
        } => {
            assert!(trouble.contains(why), "{trouble}");
            assert!(until > at(seconds), "looking again at once is a busy loop");
        }
        other => panic!("{other:?}"),
    }
}

/// It goes on and nothing is wrong, from memory alone.
#[track_caller]
fn works(seconds: u64, evidence: &AttemptEvidence) {
    match verdict(seconds, evidence) {
        Verdict::Running { trouble: None, until } => assert!(until > at(seconds)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_job_with_a_pod_that_runs_works_until_the_last_call() {
    works(1, &present());
    works(1, &with_pod(present(), pod(PodPhase::Pending)));
    works(LAST_CALL - 1, &with_pod(present(), pod(PodPhase::Running)));
    assert_eq!(
        verdict(5, &with_pod(present(), pod(PodPhase::Running))),
        Verdict::Running {
            trouble: None,
            until: at(LAST_CALL)
        }
    );
}

#[test]
fn a_phase_that_nobody_knows_is_no_end() {
    works(1, &with_pod(present(), pod(PodPhase::Unknown)));
}

#[test]
fn why_a_pod_does_not_start_is_told_from_memory() {
    let unscheduled = PodEvidence {
        trouble: Some("no node takes the Pod".into()),
        ..pod(PodPhase::Pending)
    };
    for evidence in [
        with_pod(present(), unscheduled),
        job_without_pod("no node takes the Pod"),
    ] {
        match verdict(3, &evidence) {
            Verdict::Running {
                trouble: Some(trouble),
                ..
            } => assert_eq!(trouble, "no node takes the Pod"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_stored_result_decides_whatever_else_is_seen() {
    let everything = [
        present(),
        missing(true),
        missing(false),
        deleting(),
        job_failed(),
        with_pod(present(), ended(137, "OOMKilled")),
        with_pod(missing(true), leaving(0)),
        AttemptEvidence {
            job: JobEvidence::Foreign,
            ..present()
        },
    ];
    for evidence in everything {
        for seconds in [1, GRACE, LAST_CALL, 10 * LAST_CALL] {
            for is_live in [false, true] {
                let with = |outcome| AttemptEvidence {
                    result: ResultEvidence::Some(Box::new(result("a", 1, outcome))),
                    live: is_live,
                    ..evidence.clone()
                };
                let good = verdict(seconds, &with(success(serde_json::json!({}))));
                assert!(matches!(good, Verdict::Succeeded(_)), "{good:?}");
                match verdict(seconds, &with(failure(Category::Dependency))) {
                    Verdict::Failed(error) => assert_eq!(error.code, "Broken"),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_job_that_was_seen_and_is_gone_was_deleted() {
    fails(1, missing(true), "JobDeleted", Category::Network);
}

#[test]
fn a_job_that_was_never_seen_is_given_its_grace() {
    waits(0, missing(false), "waiting for the Job to appear");
    waits(GRACE - 1, missing(false), "waiting for the Job to appear");
    fails(GRACE, missing(false), "JobMissing", Category::Network);
}

#[test]
fn the_grace_for_a_job_is_longer_than_its_creation_may_take() {
    // CREATE_TIMEOUT in operator/src/apply.rs.
    assert!(Settings::default().job_grace_millis > 8_000);
}

#[test]
fn a_pod_without_its_job_is_waited_for() {
    waits(
        1,
        with_pod(missing(true), pod(PodPhase::Running)),
        "the Job was deleted; waiting for Pod flow-a-1-x to end",
    );
    waits(1, with_pod(missing(true), leaving(0)), "is being deleted");
    fails(
        1,
        with_pod(missing(true), ended(137, "OOMKilled")),
        "OutOfMemory",
        Category::Resource,
    );
}

#[test]
fn a_job_on_its_way_out_is_waited_for_as_long_as_the_attempt_may_take() {
    waits(1, deleting(), "the Job is being deleted");
    waits(
        1,
        with_pod(deleting(), pod(PodPhase::Running)),
        "the Job is being deleted; waiting for Pod",
    );
    fails(LAST_CALL, deleting(), "JobDeleted", Category::Network);
}

#[test]
fn a_job_whose_pod_is_gone_lost_it() {
    let error = fails(1, job_failed(), "PodGone", Category::Network);
    assert!(
        error.message.contains("BackoffLimitExceeded"),
        "{}",
        error.message
    );
}

#[test]
fn a_job_that_completed_owes_a_result() {
    fails(1, job_complete(), "ResultMissing", Category::Execution);
}

#[test]
fn a_job_of_somebody_else_is_fatal() {
    let foreign = AttemptEvidence {
        job: JobEvidence::Foreign,
        ..present()
    };
    for seconds in [1, 2 * LAST_CALL] {
        let error = fails(seconds, foreign.clone(), "JobNameTaken", Category::Configuration);
        assert!(!error.retryable);
    }
}

#[test]
fn a_pod_that_ended_is_asked_why() {
    let table = [
        (
            ended_by_kubernetes("Evicted: The node was low on resource: memory."),
            "PodLost",
            Category::Network,
        ),
        (
            ended_by_kubernetes("Terminated: Pod was terminated in response to imminent node shutdown."),
            "PodLost",
            Category::Network,
        ),
        (
            ended_by_kubernetes("Evicted: Usage of EmptyDir volume \"work\" exceeds the limit \"1Gi\". "),
            "OutOfDisk",
            Category::Resource,
        ),
        (
            ended_by_kubernetes(
                "Evicted: Container agent exceeded its local ephemeral storage limit \"1Gi\". ",
            ),
            "OutOfDisk",
            Category::Resource,
        ),
        (
            PodEvidence {
                phase: PodPhase::Failed,
                ..leaving(0)
            },
            "PodDeleted",
            Category::Network,
        ),
        (
            PodEvidence {
                phase: PodPhase::Failed,
                ..on_a_lost_node(0)
            },
            "NodeLost",
            Category::Network,
        ),
        (ended(137, "OOMKilled"), "OutOfMemory", Category::Resource),
        (
            ended(128, "ContainerCannotRun"),
            "ContainerCannotRun",
            Category::Configuration,
        ),
        (
            ended(128, "StartError"),
            "ContainerCannotRun",
            Category::Configuration,
        ),
        (ended(137, "Error"), "AgentContainerKilled", Category::Network),
        (ended(3, "Error"), "AgentContainerEnded", Category::Execution),
        (
            PodEvidence {
                phase: PodPhase::Succeeded,
                ..ended(0, "Completed")
            },
            "AgentContainerEnded",
            Category::Execution,
        ),
        (pod(PodPhase::Failed), "PodEnded", Category::Unknown),
    ];
    for (pod, code, category) in table {
        fails(1, with_pod(present(), pod.clone()), code, category);
        fails(1, with_pod(job_failed(), pod), code, category);
    }
}

#[test]
fn what_a_pod_says_of_itself_counts_before_a_runner_that_was_told_to_end() {
    let told = |pod: PodEvidence| {
        let error = StructuredError::new(POD_TERMINATED, Category::Network, "the Pod was told to end");
        AttemptEvidence {
            result: ResultEvidence::Some(Box::new(result("a", 1, Outcome::Failed { error }))),
            ..with_pod(present(), pod)
        }
    };
    let ends = |evidence: &AttemptEvidence| match verdict(10, evidence) {
        Verdict::Failed(error) => error.code,
        other => panic!("{other:?}"),
    };
    let full = ended_by_kubernetes("Evicted: Usage of EmptyDir volume \"work\" exceeds the limit \"1Gi\". ");
    assert_eq!(ends(&told(full)), "OutOfDisk");
    let short = ended_by_kubernetes("Evicted: The node was low on resource: memory.");
    assert_eq!(ends(&told(short)), "PodLost");
    for pod in [leaving(9), on_a_lost_node(9), pod(PodPhase::Failed)] {
        assert_eq!(ends(&told(pod)), POD_TERMINATED);
    }
    for job in [missing(true), deleting()] {
        let evidence = AttemptEvidence {
            job: job.job,
            ..told(pod(PodPhase::Running))
        };
        assert_eq!(ends(&evidence), POD_TERMINATED);
    }
    let mut silent = told(pod(PodPhase::Running));
    assert_eq!(verdict(10, &silent), Verdict::Look);
    silent.live = true;
    match verdict(10, &silent) {
        Verdict::Running { trouble, until } => {
            assert!(trouble.unwrap_or_default().contains("to say which"));
            assert_eq!(until, at(11));
        }
        other => panic!("{other:?}"),
    }
    match verdict(LAST_CALL, &silent) {
        Verdict::Failed(error) => assert_eq!(error.code, POD_TERMINATED),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_that_does_not_start_is_looked_at_again_soon() {
    let after = |seconds| match verdict(seconds, &live(with_pod(present(), pod(PodPhase::Pending)))) {
        Verdict::Running { until, .. } => until,
        other => panic!("{other:?}"),
    };
    assert_eq!(after(0), at(2));
    assert_eq!(after(6), at(9));
    assert_eq!(after(60), at(65));
    assert_eq!(after(LAST_CALL - 1), at(LAST_CALL));
}

#[test]
fn a_pod_on_its_way_out_may_still_report() {
    waits(10, with_pod(present(), leaving(9)), "it counts as lost at");
    waits(
        9 + LOST - 1,
        with_pod(present(), leaving(9)),
        "it counts as lost at",
    );
    fails(
        9 + LOST,
        with_pod(present(), leaving(9)),
        "PodDeleted",
        Category::Network,
    );
}

#[test]
fn a_node_that_does_not_answer_is_given_its_time() {
    waits(10, with_pod(present(), on_a_lost_node(9)), "does not answer");
    fails(
        9 + LOST,
        with_pod(present(), on_a_lost_node(9)),
        "NodeLost",
        Category::Network,
    );
}

#[test]
fn without_the_gateway_nothing_that_ended_is_judged() {
    for evidence in [
        missing(true),
        job_failed(),
        with_pod(present(), ended(137, "OOMKilled")),
    ] {
        let evidence = AttemptEvidence {
            result: ResultEvidence::Unavailable("connection refused".into()),
            ..live(evidence)
        };
        match verdict(GRACE, &evidence) {
            Verdict::Running {
                trouble: Some(trouble),
                until,
            } => {
                assert!(trouble.contains("waiting for the gateway"), "{trouble}");
                assert!(trouble.ends_with("connection refused"), "{trouble}");
                assert!(until > at(GRACE));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn silence_never_judges_and_no_evidence_is_a_busy_loop() {
    let jobs = [
        present(),
        missing(true),
        missing(false),
        deleting(),
        job_failed(),
        job_complete(),
        job_without_pod("quota"),
    ];
    let pods = [
        None,
        Some(pod(PodPhase::Pending)),
        Some(pod(PodPhase::Running)),
        Some(leaving(5)),
        Some(on_a_lost_node(5)),
        Some(ended(1, "Error")),
    ];
    for job in &jobs {
        for pod in &pods {
            let evidence = AttemptEvidence {
                pod: pod.clone(),
                ..job.clone()
            };
            for seconds in [0, 1, GRACE, LAST_CALL - 1, LAST_CALL, LAST_CALL + LOST, 86_400] {
                match verdict(seconds, &evidence) {
                    Verdict::Look => {}
                    Verdict::Running { until, .. } => assert!(until > at(seconds), "{evidence:?}"),
                    other => panic!("{other:?} from memory, of {evidence:?}"),
                }
                match verdict(seconds, &live(evidence.clone())) {
                    Verdict::Look => panic!("a look asks for a look: {evidence:?} at {seconds}"),
                    Verdict::Running { until, .. } | Verdict::Close { until, .. } => {
                        assert!(until > at(seconds), "{evidence:?}");
                    }
                    Verdict::Succeeded(_) => panic!("nobody said so: {evidence:?}"),
                    Verdict::Failed(_) => {}
                }
            }
        }
    }
}
