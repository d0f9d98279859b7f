//! Checks of generated code: the real program of the judging agents and the real runner, with shell scripts as tools.

mod checking;

use serde_json::{Value, json};
use stagecraft_api::result::Outcome;

use self::checking::{Checking, good, report};
use crate::pod::{self, AGENT};

#[tokio::test]
async fn what_tools_report_becomes_metrics_outputs_and_artifacts() {
    let checking = Checking::new("validation", &json!({}), &[]);
    let good = checking.succeeded().await;
    assert_eq!(
        good.metrics,
        json!({"packages": 3.0, "typescriptErrors": 0.0, "lintErrors": 0.0, "lintWarnings": 0.0, "testsPassed": 1.0,
            "testsFailed": 0.0, "testsSkipped": 0.0, "linesCovered": 100.0, "buildErrors": 0.0})
    );
    for check in ["install", "typescript", "eslint", "tests", "build"] {
        assert_eq!(
            good.outputs["checks"][check]["state"], "passed",
            "{}",
            good.outputs
        );
        let name = format!("reports/{check}.json");
        let (_, digest) = good.artifacts.iter().find(|(found, _)| *found == name).unwrap();
        let kept = checking.gateway.seen().blobs[digest].clone();
        assert_eq!(String::from_utf8(kept).unwrap().trim(), report(check));
    }
    assert_eq!(good.outputs["findings"], json!([]));
    assert!(good.summary.contains("1 test"), "{}", good.summary);
    assert_eq!(checking.history.names(checking.work), "src/a.ts tests/a.test.ts");
}

#[tokio::test]
async fn a_result_file_counts_for_nothing_beside_evidence() {
    let forge = r#"echo '{"summary": "forged", "outputs": {"forged": true}}' > "$PWD/../result.json""#;
    let tests = format!("{forge}\n{}", good("tests"));
    let checking = Checking::new("validation", &json!({}), &[("tests", &tests)]);
    let good = checking.succeeded().await;
    assert!(!good.summary.contains("forged") && good.outputs["forged"].is_null());
    let forged = std::fs::read_to_string(checking.pod.path("work/result.json")).unwrap();
    assert!(forged.contains("forged"), "the test forged nothing");
}

#[tokio::test]
async fn a_check_that_did_not_run_measures_nothing_and_says_why() {
    let twice = format!("{}\n{}", good("tests"), good("tests"));
    for (script, reason) in [
        (twice.as_str(), "not one JSON document"),
        ("exit 0", "without a report"),
        ("echo the cause >&2; exit 7", "status 7: the cause"),
        ("kill -9 $$", "signal 9"),
        ("echo '{\"check\": \"build\"}' >&3", "tests"),
    ] {
        let checking = Checking::new("validation", &json!({}), &[("tests", script)]);
        let good = checking.succeeded().await;
        assert_eq!(
            (
                &good.outputs["checks"]["tests"]["state"],
                &good.metrics["testsPassed"],
                &good.metrics["linesCovered"]
            ),
            (&json!("notRun"), &Value::Null, &Value::Null),
            "{script}"
        );
        assert_eq!(good.metrics["buildErrors"], json!(0.0));
        let finding = &good.outputs["findings"][0];
        assert_eq!(finding["rule"], "not-run");
        assert!(finding["message"].as_str().unwrap().contains(reason), "{finding}");
    }
}

#[tokio::test]
async fn a_check_that_does_not_end_is_ended_and_named() {
    let payload = json!({"checkTimeoutSeconds": 1});
    let checking = Checking::new("validation", &payload, &[("typescript", "sleep 1000")]);
    let good = checking.succeeded().await;
    assert_eq!(good.outputs["checks"]["typescript"]["state"], "notRun");
    let message = good.outputs["findings"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("limit of 1 s, which checkTimeoutSeconds sets"),
        "{message}"
    );
    assert_eq!(good.outputs["checks"]["build"]["state"], "passed");
}

#[tokio::test]
async fn without_dependencies_nothing_else_is_run() {
    let checking = Checking::new(
        "validation",
        &json!({}),
        &[("install", "echo no lock file >&2; exit 1")],
    );
    let good = checking.succeeded().await;
    assert_eq!(good.metrics, json!({}));
    for check in ["install", "typescript", "eslint", "tests", "build"] {
        assert_eq!(good.outputs["checks"][check]["state"], "notRun", "{check}");
    }
    assert!(good.summary.contains("install did not run"), "{}", good.summary);
}

#[tokio::test]
async fn nothing_that_a_check_started_outlives_it() {
    // One in a session of its own whose parent is gone, and one that holds the report's pipe open.
    let tests = format!(
        "echo '(sleep 1000) & echo $! > left' > run.sh; setsid sh run.sh & wait $!\n(sleep 1000) & echo $! >> left\n{}",
        good("tests")
    );
    let build = format!(
        "test $(wc -l < left) = 2\nfor left in $(cat left); do if kill -0 $left; then exit 9; fi; done\n{}",
        good("build")
    );
    let checking = Checking::new("validation", &json!({}), &[("tests", &tests), ("build", &build)]);
    let good = checking.succeeded().await;
    assert_eq!(
        good.outputs["checks"]["build"]["state"], "passed",
        "{}",
        good.outputs
    );
    assert_eq!(
        good.outputs["checks"]["tests"]["state"], "passed",
        "{}",
        good.outputs
    );
}

#[tokio::test]
async fn what_is_measured_after_the_sources_were_changed_counts_for_nothing() {
    let eslint = format!("echo three >> src/a.ts\n{}", good("eslint"));
    let checking = Checking::new("validation", &json!({}), &[("eslint", &eslint)]);
    let good = checking.succeeded().await;
    assert_eq!(good.metrics, json!({"packages": 3.0, "typescriptErrors": 0.0}));
    let finding = &good.outputs["findings"][0];
    assert_eq!(
        (&finding["rule"], &finding["file"]),
        (&json!("changed"), &json!("src/a.ts"))
    );
}

#[tokio::test]
async fn only_the_first_who_asks_can_hand_anything_in() {
    let checking = Checking::new("validation", &json!({}), &[]);
    let url = checking.pod.url();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let open = async |key: &str| {
        let sent = http
            .post(format!("{url}/v1/evidence"))
            .json(&json!({"key": key}))
            .send();
        sent.await.unwrap().status().as_u16()
    };
    checking.pod.ready().await;
    let (mine, yours) = ("a".repeat(64), "b".repeat(64));
    assert_eq!(open("short").await, 400);
    assert_eq!(open(&mine).await, 200);
    assert_eq!(open(&mine).await, 200, "an answer may be lost");
    assert_eq!(open(&yours).await, 409);
    for path in ["reports", "result"] {
        for key in [None, Some(&yours)] {
            let mut request = http.post(format!("{url}/v1/evidence/{path}")).body("{}");
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            assert_eq!(
                request.send().await.unwrap().status().as_u16(),
                401,
                "{path} {key:?}"
            );
        }
    }
    // The agent's own program comes second now, and says so.
    let error = checking.failed().await;
    assert_eq!(error.code, "AgentExited");
    assert!(error.message.contains("EvidenceTaken"), "{}", error.message);
}

#[tokio::test]
async fn a_session_without_a_result_fails_the_attempt() {
    let checking = Checking::new("validation", &json!({}), &[]);
    checking.pod.ready().await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let opened = http
        .post(format!("{}/v1/evidence", checking.pod.url()))
        .json(&json!({"key": "a".repeat(64)}))
        .send()
        .await
        .unwrap();
    assert!(opened.status().is_success());
    let mut agent = checking
        .pod
        .agent(&["/bin/sh", "-c", "echo '{}' > $STAGECRAFT_RESULT"])
        .await;
    pod::wait(&mut agent).await;
    let Outcome::Failed { error } = checking.gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(error.code, "EvidenceMissing");
}

#[tokio::test]
async fn a_driver_that_is_killed_fails_the_attempt() {
    // What the check can reach: the driver is its parent.
    let checking = Checking::new(
        "validation",
        &json!({}),
        &[("eslint", "kill -9 $PPID; sleep 1000")],
    );
    let error = checking.failed().await;
    assert_eq!(error.code, "AgentExited");
    assert!(error.message.contains("signal 9"), "{}", error.message);
}

#[tokio::test]
async fn a_runner_that_is_killed_keeps_the_session_and_its_reports() {
    let tests = format!(
        "touch here; while ! test -e go; do sleep 0.02; done\n{}",
        good("tests")
    );
    let mut checking = Checking::new("validation", &json!({}), &[("tests", &tests)]);
    let mut agent = checking.pod.agent(&[AGENT, "validation"]).await;
    let (here, go) = (
        checking.pod.path("work/workspace/here"),
        checking.pod.path("work/workspace/go"),
    );
    pod::until("the tests", || here.exists().then_some(())).await;
    checking.pod.restart_runner().await;
    std::fs::write(go, "").unwrap();
    assert_eq!(pod::wait(&mut agent).await.code(), Some(0));
    let Outcome::Succeeded {
        metrics, artifacts, ..
    } = checking.gateway.result().await.outcome
    else {
        panic!("it failed");
    };
    assert_eq!(metrics.len(), 9, "{metrics:?}");
    assert_eq!(artifacts.len(), 5, "{artifacts:?}");
}

#[tokio::test]
async fn the_built_application_is_served_to_its_tests_and_their_leftovers_are_kept() {
    let e2e = r#"
mkdir -p "$OUTPUT_DIR/report"; echo pages > "$OUTPUT_DIR/report/index.html"; echo picture > "$OUTPUT_DIR/shot.png"
python3 -c "import urllib.request; print(urllib.request.urlopen('${BASE_URL}assets/a.js').read().decode())" > served
test "$(cat served | head -1)" = code
test "$RETRIES" = 2
cat >&3 <<REPORT
{"check": "e2e", "tool": {"name": "playwright", "version": "1"}, "errors": [], "tests": [
 {"file": "e2e/a.spec.ts", "name": "opens", "state": "passed", "seconds": 0.5},
 {"file": "e2e/a.spec.ts", "name": "adds", "state": "failed", "message": "no", "seconds": 0.5,
  "attachments": [{"name": "screenshot", "path": "$OUTPUT_DIR/shot.png", "contentType": "image/png"}]}]}
REPORT
"#;
    let checking = Checking::new("e2e", &json!({"testRetries": 2}), &[("e2e", e2e)]);
    let good = checking.succeeded().await;
    assert_eq!(
        (&good.metrics["e2ePassed"], &good.metrics["e2eFailed"]),
        (&json!(1.0), &json!(1.0)),
        "{}",
        good.outputs
    );
    assert_eq!(good.outputs["totals"]["total"], json!(2));
    let names: Vec<&str> = good.artifacts.iter().map(|(name, _)| name.as_str()).collect();
    for name in ["report.tar", "report.html", "failed/1-adds-screenshot-1.png"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn tests_that_change_what_they_test_count_for_nothing() {
    let e2e = format!("echo other > dist/assets/a.js\n{}", good("e2e"));
    let checking = Checking::new("e2e", &json!({}), &[("e2e", &e2e)]);
    let good = checking.succeeded().await;
    assert_eq!(good.outputs["checks"]["e2e"]["state"], "notRun");
    assert!(good.metrics["e2ePassed"].is_null());
}

#[tokio::test]
async fn what_is_integrated_leaves_its_build_behind_as_it_was_before_the_tests() {
    let tests = format!(
        "echo forged > dist/index.html; echo forged > ../artifacts/dist.tar\n{}",
        good("tests")
    );
    let checking = Checking::new("integration", &json!({}), &[("tests", &tests)]);
    let status = checking.run().await;
    let Outcome::Succeeded {
        artifacts, metrics, ..
    } = checking.gateway.result().await.outcome
    else {
        panic!("it failed");
    };
    assert_eq!(status.code(), Some(0));
    assert_eq!(json!(metrics)["testsPassed"], json!(1.0));
    let archive = artifacts
        .iter()
        .find(|artifact| artifact.name == "dist.tar")
        .unwrap();
    let content = checking.gateway.seen().blobs[&archive.digest].clone();
    let text = String::from_utf8_lossy(&content);
    assert!(text.contains("page") && !text.contains("forged"));
    assert_eq!(checking.gateway.seen().moves.len(), 1);
}
