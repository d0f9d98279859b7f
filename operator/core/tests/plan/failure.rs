//! What follows when something goes wrong.

use serde_json::json;
use stagecraft_api::condition::SUCCEEDED;
use stagecraft_api::error::Category;
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{StagePhase, WorkflowPhase};
use stagecraft_core::observation::{JobEvidence, PodPhase, RunEvidence};

use crate::evidence::{ended, live, missing, pod, present, with_pod};
use crate::fixture::{Scene, TIMEOUT, actions, at, failure, key, open_job, quiet, started, success};

#[test]
fn a_failed_attempt_waits_for_its_backoff_and_goes_on_with_the_next_number() {
    let mut scene = Scene::running("a, b");
    scene.at(3).result("a", failure(Category::Execution));
    let planned = scene.act();
    assert_eq!(actions(&planned), ["store", "acknowledge a 1"]);
    assert_eq!(scene.stages(), "a Waiting 1, b Pending 0");
    let due = scene.stage("a").next_attempt_at.unwrap();
    assert_eq!(planned.wake_at, Some(due));
    assert!(due > at(3));
    assert!(quiet(&scene.plan()) && scene.plan().wake_at == Some(due));
    scene.observation.now = due;
    let planned = scene.act();
    assert_eq!(actions(&planned), ["store", "start a 2"]);
    assert_eq!(started(&planned)[0].retry_count, 1);
    let stage = scene.stage("a");
    assert_eq!((stage.failures, stage.losses, stage.history.len()), (1, 0, 1));
    assert_eq!(stage.error, None, "the new attempt has not failed");
}

#[test]
fn a_loss_goes_on_at_once_and_costs_no_retry() {
    let mut scene = Scene::running("a");
    scene.at(3).see("a", live(missing(true)));
    assert_eq!(actions(&scene.act()), ["store", "start a 2", "acknowledge a 1"]);
    let stage = scene.stage("a");
    assert_eq!(
        (stage.failures, stage.losses, stage.history[0].code.as_str()),
        (0, 1, "JobDeleted")
    );
}

#[test]
fn a_stage_that_used_up_its_attempts_fails_the_workflow() {
    let mut scene = Scene::running("a, b");
    scene.at(3).result("a", failure(Category::Execution));
    scene.act();
    scene.at(60);
    scene.act();
    scene.at(61).result("a", failure(Category::Execution));
    scene.act();
    let status = &scene.observation.status;
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert_eq!(
        status.message,
        "stage a failed: attempt 2 failed (execution): it broke"
    );
    assert_eq!(scene.stages(), "a Failed 2, b Pending 0");
    assert_eq!(scene.stage("b").message, "not started: stage a failed");
    assert_eq!(scene.condition(SUCCEEDED), "False Failed");
}

#[test]
fn losses_without_end_fail_the_workflow_too() {
    let mut scene = Scene::running("a");
    scene.settings.max_losses = 2;
    for round in 1..=3 {
        scene.at(round * 100).see("a", live(missing(true)));
        scene.act();
        scene.at(round * 100 + 90);
        scene.act();
    }
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
    assert_eq!(scene.stages(), "a Failed 3");
}

#[test]
fn history_is_bounded_and_numbers_are_not() {
    let mut scene = Scene::running("a");
    for round in 1..=8 {
        scene.at(round * 1_000).see("a", live(missing(true)));
        scene.act();
        scene.at(round * 1_000 + 500);
        scene.act();
    }
    let numbers: Vec<u32> = scene.stage("a").history.iter().map(|past| past.attempt).collect();
    assert_eq!(numbers, [4, 5, 6, 7, 8]);
    assert_eq!(scene.stage("a").attempt, 9);
}

#[test]
fn a_branch_that_fails_lets_the_others_end_and_starts_nothing() {
    let mut scene = Scene::running("a:, b:, c: a");
    let fatal = stagecraft_api::StructuredError::new("Wrong", Category::Configuration, "no key").fatal();
    scene.at(1).result("b", Outcome::Failed { error: fatal });
    assert_eq!(actions(&scene.act()), ["store", "acknowledge b 1"]);
    assert_eq!(scene.stages(), "a Running 1, b Failed 1, c Pending 0");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Running);
    scene.at(2).result("a", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge a 1"]);
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
    assert!(
        scene.observation.status.message.starts_with("stage b failed"),
        "{}",
        scene.observation.status.message
    );
}

#[test]
fn a_branch_that_waits_is_given_up_and_not_blamed() {
    let mut scene = Scene::running("a:, b:");
    scene.at(1).result("a", failure(Category::Execution));
    scene.act();
    let fatal = stagecraft_api::StructuredError::new("Wrong", Category::Configuration, "no key").fatal();
    scene.result("b", Outcome::Failed { error: fatal });
    scene.act();
    assert_eq!(scene.stages(), "a Failed 1, b Failed 1");
    assert_eq!(
        scene.stage("a").message,
        "no further attempt, since stage b failed; attempt 1 failed (execution): it broke"
    );
    assert_eq!(
        scene.observation.status.message,
        "stage b failed: attempt 1 failed (configuration): no key"
    );
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
}

#[test]
fn an_attempt_past_its_time_is_recorded_closed_and_then_judged_for_it() {
    let mut scene = Scene::running("a");
    let job = scene.stage("a").job.clone();
    let unscheduled = stagecraft_core::observation::PodEvidence {
        trouble: Some("no node takes the Pod".into()),
        ..pod(PodPhase::Pending)
    };
    scene
        .at(TIMEOUT + 20)
        .see("a", live(with_pod(present(), unscheduled)));
    assert_eq!(
        actions(&scene.act()),
        ["store".to_owned(), format!("close {job}")]
    );
    assert_eq!(scene.stages(), "a Running 1");
    assert_eq!(
        actions(&scene.act()),
        [format!("close {job}")],
        "a crash may have come before the deletion"
    );
    scene.at(TIMEOUT + 21).see("a", live(missing(true)));
    scene.act();
    let stage = scene.stage("a");
    // The first loss waits for nothing, and costs none of the retries.
    assert_eq!(
        (stage.phase, stage.attempt, stage.failures, stage.losses),
        (StagePhase::Running, 2, 0, 1)
    );
    let past = stage.history.last().unwrap();
    assert_eq!(past.code, "PodNotStarted");
    assert!(
        past.message
            .ends_with("did not start within its limit of 100 s: no node takes the Pod")
    );
}

#[test]
fn a_result_that_comes_while_the_attempt_is_closed_still_counts() {
    let mut scene = Scene::running("a");
    scene
        .at(TIMEOUT + 20)
        .see("a", live(with_pod(present(), pod(PodPhase::Running))));
    scene.act();
    assert!(scene.stage("a").error.is_some());
    scene.result("a", success(json!({})));
    scene.act();
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    assert_eq!(scene.stage("a").error, None);
}

#[test]
fn a_lost_run_ends_the_workflow_and_what_runs_of_it() {
    let mut scene = Scene::running("a:, b:, c: a");
    scene.at(1).result("b", failure(Category::Execution));
    scene.act();
    scene.observation.run = RunEvidence::Lost("ConfigMap flow-run was deleted".into());
    assert_eq!(actions(&scene.act()), ["store"]);
    let status = &scene.observation.status;
    assert_eq!(status.phase, WorkflowPhase::Failed);
    assert_eq!(
        status.message,
        "what this Workflow runs is lost: ConfigMap flow-run was deleted; create the Workflow anew"
    );
    assert_eq!(scene.stages(), "a Failed 1, b Failed 1, c Pending 0");
    scene.observation.open_jobs = vec![open_job("a", 1)];
    scene.observation.announced = vec![key("a", 1)];
    scene.at(31);
    assert_eq!(actions(&scene.plan()), ["acknowledge a 1", "close a-1"]);
}

#[test]
fn a_foreign_job_ends_the_stage_without_another_attempt() {
    let mut scene = Scene::running("a");
    let mut foreign = live(present());
    foreign.job = JobEvidence::Foreign;
    scene.see("a", foreign);
    scene.act();
    assert_eq!(scene.stages(), "a Failed 1");
    assert!(scene.stage("a").message.contains("rename the Workflow"));
}

#[test]
fn an_oom_kill_costs_a_retry() {
    let mut scene = Scene::running("a");
    scene.see("a", live(with_pod(present(), ended(137, "OOMKilled"))));
    scene.act();
    assert_eq!(scene.stage("a").failures, 1);
    assert_eq!(scene.stage("a").history[0].category, Category::Resource);
}

#[test]
fn a_full_quota_is_waited_for_and_costs_no_retry() {
    let mut scene = Scene::running("a");
    for attempt in 1..=5 {
        assert_eq!(scene.stages(), format!("a Running {attempt}"));
        let mut evidence = live(present());
        evidence.job = JobEvidence::Refused("jobs.batch is forbidden: exceeded quota: jobs".into());
        scene.see("a", evidence);
        scene.act();
        let stage = scene.stage("a");
        assert_eq!((stage.failures, stage.losses), (0, attempt));
        if let Some(due) = stage.next_attempt_at {
            assert!(stage.message.contains("exceeded quota"), "{}", stage.message);
            scene.observation.now = due;
            scene.act();
        }
    }
}

#[test]
fn a_job_that_kubernetes_refuses_costs_a_retry_and_says_what_the_answer_was() {
    let refused = |answer: &str| {
        let mut evidence = live(present());
        evidence.job = JobEvidence::Refused(answer.into());
        evidence
    };
    let mut scene = Scene::running("a");
    scene.see("a", refused("admission webhook policy denied the request"));
    scene.act();
    let stage = scene.stage("a");
    assert_eq!((stage.phase, stage.failures), (StagePhase::Waiting, 1));
    assert!(stage.message.contains("webhook policy"), "{}", stage.message);

    let mut scene = Scene::running("a");
    scene.see(
        "a",
        refused("jobs.batch is forbidden: namespace here is being terminated"),
    );
    scene.act();
    assert_eq!(scene.stages(), "a Failed 1", "nothing is tried again there");
}
