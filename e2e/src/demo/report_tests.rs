use serde_json::json;
use stagecraft_api::status::Usage;
use stagecraft_api::{Category, Moment, StructuredError};

use super::*;

fn stage(name: &str, phase: StagePhase) -> StageStatus {
    StageStatus {
        name: name.into(),
        phase,
        ..StageStatus::default()
    }
}

fn told(stages: Vec<StageStatus>) -> String {
    let status = WorkflowStatus {
        stages,
        ..WorkflowStatus::default()
    };
    outputs(&status, Style::plain())
}

fn ran(application: Option<&str>, dev_cluster: bool) -> String {
    let ran = Ran {
        // In no directory, so that no other sample stands beside it.
        file: Path::new("nowhere/calculator.yaml"),
        namespace: "stagecraft-demo",
        name: "calculator",
        application: application.map(str::to_owned),
        dev_cluster,
    };
    what_next(&ran, Style::plain())
}

#[test]
fn the_table_has_a_row_for_each_stage_in_columns_and_what_they_produced_follows() {
    let start = Moment::new("2026-11-01T10:00:00Z".parse().unwrap());
    let mut scaffold = StageStatus {
        attempt: 2,
        started_at: Some(start),
        finished_at: Some(start.plus_millis(1_520)),
        usage: Some(Usage {
            cpu_millis: 310,
            peak_memory_bytes: 20 << 20,
        }),
        ..stage("scaffold", StagePhase::Succeeded)
    };
    scaffold.outputs.insert("lines".into(), 90.into());
    scaffold.outputs.insert("files".into(), 2.into());
    let mut validate = stage("validate", StagePhase::Failed);
    validate.outputs.insert("findingsTotal".into(), 1.into());
    validate.error = Some(StructuredError::new(
        "GateFailed",
        Category::Validation,
        "testsFailed is 1,\nnot 0",
    ));
    assert_eq!(
        told(vec![scaffold, validate, stage("e2e", StagePhase::Pending)]),
        "\nSTAGE     PHASE      ATTEMPTS  DURATION  CPU    MEMORY\n\
         scaffold  Succeeded  2         1.5 s     0.3 s  20 MiB\n\
         validate  Failed     -         -         -      -\n\
         e2e       Pending    -         -         -      -\n\
         \nWhat the stages produced\n\
         \x20 scaffold  files 2, lines 90\n\
         \x20 validate  GateFailed: testsFailed is 1, not 0\n\
         \x20 e2e       -\n"
    );
}

#[test]
fn no_line_is_longer_than_a_screen_is_wide() {
    let mut long = stage(&"s".repeat(63), StagePhase::Succeeded);
    for index in 0..9 {
        long.outputs
            .insert(format!("field{index}"), json!("x".repeat(300)));
    }
    let mut failed = stage("failed", StagePhase::Failed);
    failed.error = Some(StructuredError::new(
        "Broken",
        Category::Execution,
        "y".repeat(900),
    ));
    let text = told(vec![long, failed]);
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert_eq!(longest, WIDTH, "{text}");
}

#[test]
fn after_an_application_its_address_comes_first() {
    assert_eq!(
        ran(Some("http://10.96.3.4/"), true),
        "\nWhat to try next
  export KUBECONFIG=$(make -s kubeconfig) PATH=${XDG_CACHE_HOME:-$HOME/.cache}/stagecraft/bin:$PATH
  http://10.96.3.4/                                                # the application: open it in a browser
  make artifacts WORKFLOW=stagecraft-demo/calculator               # its source with all commits, reports of the checks, the build
  kubectl -n stagecraft-demo get workflow calculator -o yaml       # everything that was decided, measured and judged
  cp nowhere/calculator.yaml mine.yaml && ${EDITOR:-vi} mine.yaml  # other requirements, with another name for Workflow and project
  kubectl -n stagecraft-demo apply -f mine.yaml                    # make that one too
  kubectl -n stagecraft-demo get workflows -w                      # watch the next one while it runs
  make down                                                        # stop the cluster; what was built stays in the cache"
    );
}

#[test]
fn on_another_cluster_nothing_is_said_about_ours() {
    let text = ran(Some("http://127.0.0.1:8080/ after kubectl port-forward"), false);
    assert!(
        text.contains("make artifacts WORKFLOW=stagecraft-demo/calculator CLUSTER=current "),
        "{text}"
    );
    assert!(
        !text.contains("make down") && !text.contains("KUBECONFIG"),
        "{text}"
    );
}

#[test]
fn without_an_application_the_workflow_itself_is_what_there_is_to_look_at() {
    assert_eq!(
        ran(None, false),
        "\nWhat to try next
  kubectl -n stagecraft-demo get swf calculator -o yaml  # everything that it left behind
  kubectl -n stagecraft-demo describe swf calculator     # the same as a story, with its Events
  kubectl explain workflow.spec                          # what else a Workflow can say
  kubectl -n stagecraft-demo get workflows -w            # watch the next one while it runs"
    );
    assert!(ran(None, true).ends_with("# stop the cluster; what was built stays in the cache"));
}
