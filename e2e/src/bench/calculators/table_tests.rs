use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use stagecraft_api::condition::ACCEPTED;
use stagecraft_api::status::Usage;
use stagecraft_api::{Category, Moment, StructuredError};

use super::*;

fn moment(millis: u64) -> Moment {
    Moment::new("2026-11-01T10:00:00Z".parse().unwrap()).plus_millis(millis)
}

fn stage(name: &str, millis: u64, usage: Option<(u64, u64)>) -> StageStatus {
    StageStatus {
        name: name.into(),
        phase: StagePhase::Succeeded,
        attempt: 1,
        started_at: Some(moment(500)),
        finished_at: Some(moment(500 + millis)),
        usage: usage.map(|(cpu_millis, mebibytes)| Usage {
            cpu_millis,
            peak_memory_bytes: mebibytes << 20,
        }),
        ..StageStatus::default()
    }
}

fn run(name: &str, seconds: u64, stages: Vec<StageStatus>) -> Run {
    let status = WorkflowStatus {
        stages,
        ..WorkflowStatus::default()
    };
    Run::of(name, Duration::from_secs(seconds), &status)
}

const LIMIT: Target = Target { seconds: 90.0 };

#[test]
fn the_table_has_least_mean_and_most_of_each_stage_and_of_the_whole() {
    let mut retried = stage("validate", 40_000, Some((31_000, 700)));
    retried.attempt = 2;
    let runs = [
        run(
            "calculator-0",
            60,
            vec![
                stage("initialize", 10, None),
                stage("scaffold", 1_000, Some((200, 20))),
                stage("validate", 20_000, Some((10_000, 500))),
            ],
        ),
        run(
            "calculator-1",
            90,
            vec![
                stage("initialize", 30, None),
                stage("scaffold", 2_000, Some((400, 0))),
                retried,
            ],
        ),
    ];
    assert_eq!(
        report("Calculators", LIMIT, &runs),
        "Calculators: 2 measured\n\
         \x20 stage           wall min [s]  mean [s]  max [s]  CPU mean [s]  peak memory max [MiB]\n\
         \x20 initialize              0.01      0.02     0.03             -                      -\n\
         \x20 scaffold                1.00      1.50     2.00          0.30                   20.0\n\
         \x20 validate               20.00     30.00    40.00         20.50                  700.0\n\
         \x20 whole Workflow         60.00     75.00    90.00         20.80                  700.0\n\
         \x20 calculator-1: stage validate took 2 attempts\n\
         \x20 longest 90.0 s (target: under 90): MISSED\n"
    );
    assert!(report("Calculators", LIMIT, &runs[..1]).ends_with("longest 60.0 s (target: under 90): met\n"));
}

#[test]
fn what_nobody_measured_is_no_number() {
    let mut stage = stage("work", 1_000, None);
    stage.finished_at = None;
    let table = report("Calculators", LIMIT, &[run("a", 1, vec![stage])]);
    let row = table.lines().find(|line| line.contains("work ")).unwrap();
    assert_eq!(
        row.split_whitespace().collect::<Vec<_>>(),
        ["work", "-", "-", "-", "-", "-"]
    );
}

#[test]
fn a_workflow_that_failed_says_in_which_stage_and_why() {
    let mut failed = stage("validate", 1_000, None);
    failed.phase = StagePhase::Failed;
    failed.attempt = 2;
    failed.error = Some(
        StructuredError::new("GateFailed", Category::Validation, "testsFailed is 1,\nnot 0")
            .suggest("read the findings"),
    );
    let mut status = WorkflowStatus {
        phase: WorkflowPhase::Failed,
        stage: "scaffold".into(),
        message: "stage validate failed".into(),
        stages: vec![stage("scaffold", 10, None), failed],
        ..WorkflowStatus::default()
    };
    assert_eq!(
        shortcoming(&status).unwrap(),
        "Failed, stage validate Failed with attempt 2, GateFailed: testsFailed is 1, not 0; read the findings"
    );
    status.phase = WorkflowPhase::Completed;
    assert_eq!(shortcoming(&status), None);
}

#[test]
fn a_workflow_that_does_not_get_on_says_where_it_stands() {
    let mut held_up = stage("deploy", 0, None);
    held_up.phase = StagePhase::Running;
    held_up.message = "image x cannot be pulled".into();
    let mut status = WorkflowStatus {
        phase: WorkflowPhase::Deploying,
        stage: "deploy".into(),
        stages: vec![stage("scaffold", 10, None), held_up],
        ..WorkflowStatus::default()
    };
    assert_eq!(
        standing(&status),
        "Deploying, stage deploy Running with attempt 1: image x cannot be pulled"
    );

    status = WorkflowStatus::default();
    assert_eq!(standing(&status), "Pending, without a word from the operator");
    status.conditions.push(Condition {
        type_: ACCEPTED.into(),
        status: "False".into(),
        reason: "Invalid".into(),
        message: "spec.type: \"app\": no such template".into(),
        observed_generation: None,
        last_transition_time: Time(moment(0).timestamp()),
    });
    assert_eq!(standing(&status), "Pending: spec.type: \"app\": no such template");
}
