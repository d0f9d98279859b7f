//! Each way in which the echo agent misbehaves ends in the right error.

use std::path::PathBuf;

use serde_json::json;
use stagecraft_api::Category;
use stagecraft_api::result::Outcome;

use crate::gateway::Gateway;
use crate::pod::{self, AGENT, Pod};
use crate::task::{task, task_within};

async fn check(fault: &str, code: &str, category: Category, part: &str) {
    let (gateway, pod, status) = pod::run_echo(&json!({"fault": fault})).await;
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("{fault} succeeded");
    };
    assert_eq!(
        (error.code.as_str(), error.category),
        (code, category),
        "{error:?}"
    );
    assert!(error.message.contains(part), "{}", error.message);
    assert_eq!(status.code(), Some(1));
    assert!(pod.end().await.success());
}

async fn check_success(fault: &str) -> (Gateway, Pod) {
    let (gateway, pod, status) = pod::run_echo(&json!({"fault": fault})).await;
    let outcome = gateway.result().await.outcome;
    assert!(matches!(outcome, Outcome::Succeeded { .. }), "{outcome:?}");
    assert_eq!(status.code(), Some(0));
    (gateway, pod)
}

#[tokio::test]
async fn exit_is_an_execution_error_with_the_output() {
    check(
        "exit",
        "AgentExited",
        Category::Execution,
        "committing the fault Exit",
    )
    .await;
}

#[tokio::test]
async fn a_reported_failure_is_the_agents_own() {
    check("report", "EchoFault", Category::Execution, "asked for a failure").await;
}

#[tokio::test]
async fn no_result_is_noticed() {
    check("noResult", "ResultMissing", Category::Validation, "no result").await;
}

#[tokio::test]
async fn a_malformed_result_comes_with_the_parsers_message() {
    check(
        "malformedResult",
        "ResultMalformed",
        Category::Validation,
        "line 1 column",
    )
    .await;
}

#[tokio::test]
async fn a_huge_result_is_named_with_size_and_limit() {
    check(
        "hugeResult",
        "ResultTooLarge",
        Category::Validation,
        "52428815 bytes, over the limit of 262144",
    )
    .await;
}

#[tokio::test]
async fn huge_outputs_are_refused() {
    check("hugeOutputs", "OutputsTooLarge", Category::Validation, "8192").await;
}

#[tokio::test]
async fn a_signal_is_named() {
    check("killSelf", "AgentExited", Category::Execution, "signal 9").await;
}

#[tokio::test]
async fn a_child_that_stays_is_killed_and_the_result_counts() {
    let (_gateway, pod) = check_success("forkChild").await;
    assert_eq!(pod.processes(), []);
}

#[tokio::test]
async fn nothing_escapes_through_links_or_a_git_directory() {
    let (gateway, _pod) = check_success("escape").await;
    let clone = crate::git::clone_result(&gateway.result().await, &gateway);
    let files = crate::git::git(clone.path(), &["ls-tree", "-r", "HEAD"]);
    let names: Vec<&str> = files
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["escape-passwd", "escape-up", "stages/scaffold.md"]);
    assert_eq!(
        files.lines().filter(|line| line.starts_with("120000 ")).count(),
        2
    );
    assert_eq!(
        crate::git::git(clone.path(), &["show", "HEAD:escape-passwd"]),
        "/etc/passwd"
    );
}

#[tokio::test]
async fn a_hanging_agent_ends_at_the_deadline() {
    let gateway = Gateway::start(task_within(&json!({"fault": "hang"}), 4000));
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(&[AGENT, "echo"]).await;
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(
        (error.code.as_str(), error.category),
        ("StageTimeout", Category::Timeout)
    );
    assert!(error.message.contains("60 seconds"), "{}", error.message);
    assert!(
        error
            .message
            .contains("spec.stages[name=scaffold].timeoutSeconds"),
        "{}",
        error.message
    );
    assert_eq!(agent.try_wait().unwrap(), None, "the report waits for nobody");
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
}

#[tokio::test]
async fn a_leak_is_out_of_memory() {
    let gateway = Gateway::start(task(&json!({"fault": "leakMemory"})));
    let pod = Pod::start(&gateway);
    let group = MemoryGroup::new(&pod);
    pod.ready().await;
    let mut command = pod.command(&["/bin/sh", "-c", &group.script]);
    let mut agent = command
        .env("STAGECRAFT_CGROUP", &group.directory)
        .spawn()
        .unwrap();
    assert_eq!(pod::wait(&mut agent).await.code(), Some(1));
    let Outcome::Failed { error } = gateway.result().await.outcome else {
        panic!("it succeeded");
    };
    assert_eq!(
        (error.code.as_str(), error.category),
        ("OutOfMemory", Category::Resource)
    );
    assert!(
        error
            .suggested_action
            .unwrap()
            .contains("resources.limits.memory")
    );
}

/// A control group with 64 MB for the agent. Where none can be made, a limit of the address space and a file that a shell
/// writes stand in for the kernel.
struct MemoryGroup {
    directory: PathBuf,
    script: String,
    real: bool,
}

impl MemoryGroup {
    fn new(pod: &Pod) -> Self {
        let directory = PathBuf::from(format!(
            "/sys/fs/cgroup/memory/stagecraft-test-{}",
            std::process::id()
        ));
        let limit = directory.join("memory.limit_in_bytes");
        let real = std::fs::create_dir(&directory).is_ok() && std::fs::write(limit, "67108864").is_ok();
        if real {
            let procs = directory.join("cgroup.procs");
            let script = format!("echo $$ > {} && exec {AGENT} echo", procs.display());
            return Self {
                directory,
                script,
                real,
            };
        }
        let directory = pod.path("cgroup");
        std::fs::create_dir(&directory).unwrap();
        let events = directory.join("memory.events");
        std::fs::write(&events, "oom_kill 0\n").unwrap();
        let script = format!(
            "ulimit -v 400000; {AGENT} echo || echo 'oom_kill 1' > {}; kill -9 $$",
            events.display()
        );
        Self {
            directory,
            script,
            real,
        }
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if self.real {
            let _ = std::fs::remove_dir(&self.directory);
        }
    }
}
