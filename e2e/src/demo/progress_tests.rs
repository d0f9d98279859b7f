use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use stagecraft_api::{Category, WorkflowPhase};

use super::*;

fn moment(millis: u64) -> Moment {
    Moment::new("2026-11-01T10:00:00Z".parse().unwrap()).plus_millis(millis)
}

fn stage(name: &str, phase: StagePhase, attempt: u32) -> StageStatus {
    StageStatus {
        name: name.into(),
        phase,
        agent: "echo".into(),
        attempt,
        message: if phase == StagePhase::Running {
            format!("attempt {attempt} by agent echo")
        } else {
            String::new()
        },
        attempt_started_at: (attempt > 0).then(|| moment(0)),
        ..StageStatus::default()
    }
}

fn status(phase: WorkflowPhase, stages: Vec<StageStatus>) -> WorkflowStatus {
    WorkflowStatus {
        phase,
        stages,
        ..WorkflowStatus::default()
    }
}

fn told(before: &WorkflowStatus, after: &WorkflowStatus) -> Vec<String> {
    let steps = steps(before, after, moment(9_000));
    steps
        .iter()
        .map(|step| format!("{}: {}", step.subject, text(step, Style::plain())))
        .collect()
}

#[test]
fn what_succeeded_is_told_before_what_started_with_it() {
    let before = status(
        WorkflowPhase::Scaffolding,
        vec![
            stage("scaffold", StagePhase::Running, 1),
            stage("validate", StagePhase::Pending, 0),
        ],
    );
    let mut done = stage("scaffold", StagePhase::Succeeded, 1);
    done.finished_at = Some(moment(1_500));
    done.summary = "wrote\n2 files".into();
    let mut next = stage("validate", StagePhase::Running, 1);
    next.attempt_started_at = Some(moment(1_500));
    let after = status(WorkflowPhase::Validating, vec![done, next]);
    assert_eq!(
        told(&before, &after),
        [
            "scaffold: succeeded in 1.5 s: wrote 2 files",
            "workflow: is now Validating",
            "validate: started: agent echo, attempt 1",
        ]
    );
    assert!(told(&after, &after).is_empty());
}

#[test]
fn a_failure_is_told_with_its_category_code_message_and_remedy() {
    let before = status(
        WorkflowPhase::Scaffolding,
        vec![stage("scaffold", StagePhase::Running, 1)],
    );
    let error =
        StructuredError::new("AgentExited", Category::Execution, "status 3").suggest("read its output");
    let mut failed = stage("scaffold", StagePhase::Waiting, 1);
    failed.next_attempt_at = Some(moment(3_200));
    failed.history.push(AttemptSummary {
        attempt: 1,
        started_at: Some(moment(0)),
        finished_at: moment(2_000),
        code: error.code.clone(),
        category: error.category,
        message: error.message.clone(),
    });
    failed.error = Some(error);
    let after = status(WorkflowPhase::Scaffolding, vec![failed]);
    assert_eq!(
        told(&before, &after),
        [
            "scaffold: attempt 1 failed (execution, AgentExited): status 3\nto do: read its output",
            "scaffold: next attempt in 1.2 s",
        ]
    );
}

#[test]
fn a_loss_with_an_immediate_retry_is_not_swallowed() {
    let before = status(
        WorkflowPhase::Scaffolding,
        vec![stage("scaffold", StagePhase::Running, 1)],
    );
    let mut again = stage("scaffold", StagePhase::Running, 2);
    again.attempt_started_at = Some(moment(2_000));
    again.history.push(AttemptSummary {
        attempt: 1,
        started_at: Some(moment(0)),
        finished_at: moment(2_000),
        code: "PodGone".into(),
        category: Category::Network,
        message: "the Pod was deleted".into(),
    });
    let after = status(WorkflowPhase::Scaffolding, vec![again]);
    assert_eq!(
        told(&before, &after),
        [
            "scaffold: attempt 1 failed (network, PodGone): the Pod was deleted",
            "scaffold: started: agent echo, attempt 2",
        ]
    );
}

#[test]
fn waits_and_refusals_are_told_once() {
    let mut held_up = stage("scaffold", StagePhase::Running, 1);
    held_up.message = "image x cannot be pulled".into();
    let running = status(
        WorkflowPhase::Scaffolding,
        vec![stage("scaffold", StagePhase::Running, 1)],
    );
    let waiting = status(WorkflowPhase::Scaffolding, vec![held_up]);
    assert_eq!(
        told(&running, &waiting),
        ["scaffold: waits: image x cannot be pulled"]
    );
    assert!(told(&waiting, &waiting).is_empty());

    let mut refused = WorkflowStatus::default();
    refused.conditions.push(Condition {
        type_: ACCEPTED.into(),
        status: "False".into(),
        reason: "Invalid".into(),
        message: "spec.type: \"app\": no such template".into(),
        observed_generation: None,
        last_transition_time: Time(moment(0).timestamp()),
    });
    let lines = told(&WorkflowStatus::default(), &refused);
    assert_eq!(
        lines,
        ["workflow: not accepted\nspec.type: \"app\": no such template"]
    );
    assert!(told(&refused, &refused).is_empty());
}
