use serde_json::{Value, json};
use stagecraft_api::digest::Digest;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::limit;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::RunStage;
use stagecraft_api::status::{Artifact, Changes, WorkspaceRef};
use stagecraft_core::outcome::judge_result;

use crate::fixture::{object, result, run, success};

fn stage() -> RunStage {
    run("a").stages.remove(0)
}

fn judged(outcome: Outcome) -> Result<AttemptResult, StructuredError> {
    judge_result(&result("a", 1, outcome), &stage())
}

#[track_caller]
fn check(outcome: Outcome, code: &str, text: &str) {
    let error = judged(outcome).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.category),
        (code, Category::Validation)
    );
    assert!(error.message.contains(text), "{}", error.message);
}

fn with(workspace: Option<WorkspaceRef>, artifacts: Vec<Artifact>) -> Outcome {
    Outcome::Succeeded {
        summary: String::new(),
        outputs: object(json!({})),
        workspace,
        artifacts,
        metrics: std::collections::BTreeMap::new(),
    }
}

fn artifact(name: &str) -> Artifact {
    Artifact {
        name: name.to_owned(),
        digest: Digest::of(b""),
        bytes: 0,
        media_type: "text/plain".to_owned(),
    }
}

#[test]
fn outputs_are_bounded_as_they_are_stored() {
    let fits = "x".repeat(limit::OUTPUTS_BYTES - r#"{"a":""}"#.len());
    assert!(judged(success(json!({"a": fits}))).is_ok());
    check(
        success(json!({"a": format!("{fits}x")})),
        "OutputsTooLarge",
        "8193 bytes",
    );
    let tags = "<".repeat(limit::OUTPUTS_BYTES / 4);
    check(
        success(json!({"a": tags})),
        "OutputsTooLarge",
        "the limit is 8192",
    );
}

#[test]
fn outputs_match_the_schema_of_the_agent() {
    let mut stage = stage();
    let schema: Value = json!({"required": ["url"], "properties": {"port": {"type": "integer"}}});
    stage.agent.outputs_schema = Some(object(schema));
    let judged = |outputs: Value, stage: &RunStage| judge_result(&result("a", 1, success(outputs)), stage);
    let error = judged(json!({"port": "http"}), &stage).unwrap_err();
    assert_eq!(error.code, "OutputsInvalid");
    assert!(
        error.message.contains("outputs/port: ") && error.message.contains("\"url\" is a required"),
        "every violation at once: {}",
        error.message
    );
    assert!(error.retryable);
    assert!(judged(json!({"url": "x", "port": 1}), &stage).is_ok());
    stage.agent.outputs_schema = Some(object(json!({"type": "sausage"})));
    let error = judged(json!({}), &stage).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.category, error.retryable),
        ("OutputsSchemaInvalid", Category::Configuration, false)
    );
}

#[test]
fn what_the_status_cannot_hold_fails_the_attempt_instead_of_every_patch() {
    let workspace = |commit: &str, bytes| WorkspaceRef {
        commit: commit.to_owned(),
        bundle: Digest::of(b""),
        bytes,
        changes: None,
    };
    let commit = "0123456789abcdef0123456789abcdef01234567";
    assert!(judged(with(Some(workspace(commit, 1)), vec![artifact("a")])).is_ok());
    check(
        with(Some(workspace("HEAD", 1)), vec![]),
        "ResultInvalid",
        "is not a commit",
    );
    check(
        with(Some(workspace(&commit.to_uppercase(), 1)), vec![]),
        "ResultInvalid",
        "is not a commit",
    );
    check(
        with(Some(workspace(commit, u64::MAX)), vec![]),
        "ResultInvalid",
        "the limit is",
    );
    let changed = |change: fn(&mut Changes)| {
        let mut changes = Changes {
            base: None,
            files: 1,
            insertions: 1,
            deletions: 0,
            stat: "A a +1 -0".to_owned(),
        };
        change(&mut changes);
        let mut workspace = workspace(commit, 1);
        workspace.changes = Some(changes);
        with(Some(workspace), vec![])
    };
    assert!(judged(changed(|_| {})).is_ok());
    check(
        changed(|changes| changes.base = Some("main".to_owned())),
        "ResultInvalid",
        "workspace.changes.base \"main\" is not a commit",
    );
    check(
        changed(|changes| changes.deletions = u64::MAX),
        "ResultInvalid",
        "workspace.changes counts",
    );
    check(
        changed(|changes| changes.stat = "x".repeat(513)),
        "ResultInvalid",
        "workspace.changes.stat has 515 bytes; the limit is 512",
    );
    check(with(None, vec![artifact("")]), "ResultInvalid", "has 0 bytes");
    check(
        with(None, vec![artifact(&"n".repeat(256))]),
        "ResultInvalid",
        "has 256 bytes; it needs 1 to 255",
    );
    let mut typed = artifact("a");
    typed.media_type = "m".repeat(128);
    check(with(None, vec![typed]), "ResultInvalid", "media type");
    check(
        with(None, vec![artifact("a"); 33]),
        "ArtifactsTooLarge",
        "there are 33 artifacts; the limit is 32",
    );
    check(
        with(None, vec![artifact(&"n".repeat(255)); 32]),
        "ArtifactsTooLarge",
        "the limit is 6144",
    );
    assert!(
        judged(with(None, vec![artifact("reports/coverage/index.html"); 32])).is_ok(),
        "ordinary names leave room for as many as may be"
    );
}

#[test]
fn the_error_of_an_agent_is_cut_to_what_the_status_holds() {
    let error = StructuredError {
        code: "C".repeat(100),
        message: "m".repeat(5_000),
        suggested_action: Some("s".repeat(5_000)),
        retry_after: Some(u32::MAX),
        ..StructuredError::new("", Category::Execution, "")
    };
    let error = judged(Outcome::Failed { error }).unwrap_err();
    assert!(error.code.len() <= 63);
    assert!(error.message.len() <= 1024 && error.suggested_action.unwrap().len() <= 1024);
    assert_eq!(error.retry_after, Some(86_400));
}
