//! Whole attempts that end as they should.

use serde_json::json;
use stagecraft_api::Digest;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::result::Outcome;

use crate::gateway::{Call, Fault, Gateway};
use crate::git;
use crate::pod::{self, AGENT, Pod};
use crate::task::task;

#[tokio::test]
async fn a_task_becomes_a_commit_and_outputs() {
    let payload = json!({"files": {"src/main.ts": "export {};\n"}, "outputs": {"ok": true}});
    let (gateway, pod, status) = pod::run_echo(&payload).await;
    assert_eq!(status.code(), Some(0));
    let result = gateway.result().await;
    let Outcome::Succeeded {
        outputs, workspace, ..
    } = &result.outcome
    else {
        panic!("{result:?}");
    };
    let expected = json!({"echo": "shop", "stage": "scaffold", "attempt": 1, "requirements": 2,
        "files": ["src/main.ts"], "previous": ["initialize"], "ok": true});
    assert_eq!(json!(outputs), expected);
    let clone = git::clone_result(&result, &gateway);
    assert_eq!(
        std::fs::read_to_string(clone.path().join("src/main.ts")).unwrap(),
        "export {};\n"
    );
    let log = git::git(clone.path(), &["log", "--format=%H%n%an <%ae>%n%cI%n%B"]);
    let key = "Stagecraft-Attempt: 0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11/scaffold/1";
    let commit = &workspace.as_ref().unwrap().commit;
    assert_eq!(
        log.trim_end(),
        format!(
            "{commit}\nStagecraft <stagecraft@stagecraft.dev>\n2026-11-01T10:00:00+00:00\nStage scaffold by agent echo\n\n{key}"
        )
    );
    gateway
        .wait("the agent's progress", |seen| {
            seen.events
                .iter()
                .any(|event| event.message == "wrote 1 files")
                .then_some(())
        })
        .await;
    let log = pod.runner_log();
    let line = log
        .lines()
        .find(|line| line.contains("the agent's command ended"))
        .unwrap();
    for part in [
        "\"workflow\":\"shop\"",
        "\"stage\":\"scaffold\"",
        "\"attempt\":1",
        "\"trace_id\":\"0f8f",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(pod.end().await.success());
}

/// As in a cluster: two users, one group that owns the volumes, and an agent that keeps its files to itself.
#[tokio::test]
async fn runner_and_agent_are_different_users() {
    assert!(
        rustix::process::geteuid().is_root(),
        "only root can be two users: run the tests as root, or leave this one out with --skip"
    );
    let (first, _pod, _) = pod::run_echo(&json!({"files": {"given": "1", "deep/given": "1"}})).await;
    let mut later = task(&json!({}));
    later.workspace = Some(workspace_of(&first).await);
    let gateway = Gateway::start(later);
    let blobs = first.seen().blobs.clone();
    gateway.change(|seen| seen.blobs = blobs);
    let pod = Pod::start_as_users(&gateway);
    let script = "umask 077; set -e; id -u > mine; echo 2 >> given; echo 2 >> deep/given; mkdir own; echo x > own/x; \
        rm -r deep; echo x > $HOME/x; echo '{}' > $STAGECRAFT_RESULT";
    let mut agent = pod.agent(&["/bin/sh", "-c", script]).await;
    assert_eq!(
        pod::wait(&mut agent).await.code(),
        Some(0),
        "{}",
        pod.runner_log()
    );
    let clone = git::clone_result(&gateway.result().await, &gateway);
    assert_eq!(
        git::git(clone.path(), &["ls-tree", "-r", "--name-only", "HEAD"]),
        "given\nmine\nown/x\n"
    );
    assert_eq!(
        std::fs::read_to_string(clone.path().join("mine")).unwrap(),
        "65533\n"
    );
}

#[tokio::test]
async fn a_later_stage_builds_upon_the_commit_of_an_earlier_one() {
    let (first, _pod, _) = pod::run_echo(&json!({"files": {"one": "1", "bin/run": "#!/bin/sh\n"}})).await;
    let input = workspace_of(&first).await;
    let mut later = task(&json!({"files": {"two": "2"}}));
    later.attempt.stage = "validate".to_owned();
    let (second, _pod, status) = run_upon(&first, later, &input, "test $(cat one) = 1 && exec $0 echo").await;
    assert_eq!(status, Some(0));
    let clone = git::clone_result(&second.result().await, &second);
    assert_eq!(
        git::git(clone.path(), &["ls-tree", "-r", "--name-only", "HEAD"]),
        "bin/run\none\ntwo\n"
    );
    assert_eq!(
        git::git(clone.path(), &["rev-parse", "HEAD^"]).trim(),
        input.commit
    );
    // What a person decides about is all that came since the Workflow began.
    let changes = workspace_of(&second).await.changes.unwrap();
    assert_eq!((changes.base, changes.files), (None, 3));
    assert_eq!(changes.stat, "A bin/run +1 -0\nA one +1 -0\nA two +1 -0");
}

#[tokio::test]
async fn an_attempt_that_changes_nothing_keeps_its_commit_and_uploads_nothing() {
    let (first, _pod, _) = pod::run_echo(&json!({})).await;
    let input = workspace_of(&first).await;
    let (second, _pod, status) =
        run_upon(&first, task(&json!({})), &input, "echo '{}' > $STAGECRAFT_RESULT").await;
    assert_eq!(status, Some(0));
    assert_eq!(workspace_of(&second).await, input);
    assert_eq!(second.seen().called(Call::Upload), 0);
}

#[tokio::test]
async fn an_empty_workspace_gives_no_commit_and_an_artifact_is_kept() {
    let script = "echo report > ../home/r; mkdir deep; \
        echo '{\"artifacts\": [{\"name\": \"r\", \"path\": \"deep/r\", \"mediaType\": \"text/plain\"}]}' > $STAGECRAFT_RESULT; \
        echo report > deep/r";
    let (gateway, _pod, status) = pod::run(task(&json!({})), &["/bin/sh", "-c", script]).await;
    assert_eq!(status.code(), Some(0));
    let Outcome::Succeeded {
        artifacts, workspace, ..
    } = gateway.result().await.outcome
    else {
        panic!("it failed");
    };
    assert!(workspace.is_some());
    assert_eq!(artifacts[0].digest, Digest::of(b"report\n"));
    assert_eq!(
        (artifacts[0].bytes, artifacts[0].media_type.as_str()),
        (7, "text/plain")
    );
    assert_eq!(gateway.seen().blobs[&artifacts[0].digest], b"report\n");

    let (gateway, _pod, _) = pod::run(
        task(&json!({})),
        &["/bin/sh", "-c", "mkdir empty; echo '{}' > $STAGECRAFT_RESULT"],
    )
    .await;
    let Outcome::Succeeded { workspace, .. } = gateway.result().await.outcome else {
        panic!("it failed");
    };
    assert_eq!(workspace, None);
}

#[tokio::test]
async fn artifacts_never_leave_the_workspace() {
    for path in [
        "link",
        "up/passwd",
        "/etc/passwd",
        "../result.json",
        "pipe",
        "",
        "missing",
    ] {
        let script = format!(
            "ln -s /etc/passwd link; ln -s /etc up; mkfifo pipe; \
             echo '{{\"artifacts\": [{{\"name\": \"a\", \"path\": \"{path}\"}}]}}' > $STAGECRAFT_RESULT"
        );
        let (gateway, _pod, _) = pod::run(task(&json!({})), &["/bin/sh", "-c", &script]).await;
        let Outcome::Failed { error } = gateway.result().await.outcome else {
            panic!("{path:?} was taken");
        };
        assert_eq!(error.code, "ArtifactInvalid", "{path}");
    }
}

#[tokio::test]
async fn a_result_that_is_a_link_or_a_pipe_is_not_read() {
    for script in [
        "ln -s /etc/passwd $STAGECRAFT_RESULT",
        "mkfifo $STAGECRAFT_RESULT",
        "mkdir $STAGECRAFT_RESULT",
    ] {
        let (gateway, _pod, _) = pod::run(task(&json!({})), &["/bin/sh", "-c", script]).await;
        let Outcome::Failed { error } = gateway.result().await.outcome else {
            panic!("{script:?} was taken");
        };
        assert_eq!(error.code, "ResultMalformed", "{script}");
    }
    // The workspace itself may be exchanged as well.
    let script = "cd ..; rm -r workspace; ln -s /etc workspace; echo '{}' > $STAGECRAFT_RESULT";
    let (gateway, _pod, _) = pod::run(task(&json!({})), &["/bin/sh", "-c", script]).await;
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("/etc was taken");
    };
    assert_eq!(error.code, "WorkspaceUnreadable");
}

#[tokio::test]
async fn what_git_cannot_keep_is_left_out_and_told() {
    let script = "mkfifo pipe; echo x > kept; echo '{}' > $STAGECRAFT_RESULT";
    let (gateway, _pod, _) = pod::run(task(&json!({})), &["/bin/sh", "-c", script]).await;
    gateway
        .wait("the warning", |seen| {
            seen.events
                .iter()
                .any(|event| event.message.contains("left out of the commit: pipe"))
                .then_some(())
        })
        .await;
}

#[tokio::test]
async fn a_cancelled_attempt_stops_and_reports_nothing() {
    let gateway = Gateway::start(task(&json!({"sleepMillis": 3_600_000})));
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    gateway
        .wait("work", |seen| {
            seen.states.iter().any(|state| state == "working").then_some(())
        })
        .await;
    gateway.change(|seen| seen.cancel = Some("the Workflow is gone".to_owned()));
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
    assert!(pod.end().await.success());
    assert_eq!(gateway.seen().called(Call::Result), 0);
}

#[tokio::test]
async fn a_corrupt_or_missing_workspace_fails_before_the_agent_starts() {
    let (first, _pod, _) = pod::run_echo(&json!({})).await;
    let input = workspace_of(&first).await;
    // As long as the right one, and git would take it.
    let whole = first.seen().blobs[&input.bundle].clone();
    let other = String::from_utf8_lossy(&whole[..80])
        .replace("heads/main", "heads/evil")
        .into_bytes();
    let other = [&other[..], &whole[80..]].concat();
    assert_ne!(whole, other);
    for (blob, code) in [
        (Some(b"junk".to_vec()), "WorkspaceCorrupt"),
        (Some(other), "WorkspaceCorrupt"),
        (None, "WorkspaceUnavailable"),
    ] {
        let mut later = task(&json!({}));
        later.workspace = Some(input.clone());
        let gateway = Gateway::start(later);
        gateway.change(|seen| {
            seen.blobs.extend(blob.map(|blob| (input.bundle.clone(), blob)));
        });
        let pod = Pod::start(&gateway);
        let Outcome::Failed { error } = gateway.result().await.outcome else {
            panic!("it succeeded");
        };
        assert_eq!(error.code, code);
        pod.ready().await;
        assert!(
            !pod.path("stagecraft/bin/stagecraft-launcher").exists(),
            "an agent could start"
        );
        assert!(pod.end().await.success());
    }
}

#[tokio::test]
async fn a_refused_result_is_replaced_by_the_refusal() {
    let gateway = Gateway::start(task(&json!({})));
    gateway.fault(Call::Result, Fault::Status(422), 1);
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(error.code, "ResultRefused");
    assert!(
        error.message.contains("the test wants it so"),
        "{}",
        error.message
    );
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
}

#[tokio::test]
async fn an_attempt_that_is_not_current_ends_without_a_result() {
    let gateway = Gateway::start(task(&json!({})));
    gateway.fault(Call::Result, Fault::Status(409), usize::MAX);
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
    assert_eq!(gateway.seen().called(Call::Result), 1);
}

async fn workspace_of(gateway: &Gateway) -> stagecraft_api::status::WorkspaceRef {
    let Outcome::Succeeded { workspace, .. } = gateway.result().await.outcome else {
        panic!("it failed");
    };
    workspace.unwrap()
}

/// Runs a script upon a commit that an earlier gateway has. `$0` is the agent.
async fn run_upon(
    earlier: &Gateway,
    mut task: TaskEnvelope,
    input: &stagecraft_api::status::WorkspaceRef,
    script: &str,
) -> (Gateway, Pod, Option<i32>) {
    task.workspace = Some(input.clone());
    let gateway = Gateway::start(task);
    let blobs = earlier.seen().blobs.clone();
    gateway.change(|seen| seen.blobs = blobs);
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&["/bin/sh", "-c", script, AGENT]).await;
    let status = pod::wait(&mut agent).await;
    (gateway, pod, status.code())
}
