//! The launcher as a process, with a runner that only listens.

use std::net::TcpListener as StdListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use stagecraft_agent_runner::loopback::{Action, ExitReport, Instruction};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::pod::{self, LAUNCHER, PATIENCE};

struct Listening {
    report: Option<ExitReport>,
    started: usize,
    /// Exit reports that are answered with an error first.
    deaf: usize,
    instruction: Instruction,
}

struct Runner {
    root: TempDir,
    port: u16,
    heard: watch::Sender<Listening>,
}

impl Runner {
    /// A runner that is not there yet.
    fn away() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("workspace")).unwrap();
        Self {
            root,
            port: StdListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
                .port(),
            heard: watch::Sender::new(Listening {
                report: None,
                started: 0,
                deaf: 0,
                instruction: instruction(Action::Continue, 0),
            }),
        }
    }

    async fn start() -> Self {
        let runner = Self::away();
        runner.come().await;
        runner
    }

    async fn come(&self) {
        let router = Router::new()
            .route("/launcher/started", post(started))
            .route("/launcher/exited", post(exited))
            .route("/launcher/instruction", get(instruct))
            .with_state(self.heard.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", self.port))
            .await
            .unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    fn launch(&self, command: &[&str]) -> Child {
        self.command(LAUNCHER, &[&["--"], command].concat())
            .spawn()
            .unwrap()
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut launcher = Command::new(program);
        launcher
            .args(arguments)
            .current_dir(self.root.path().join("workspace"))
            .env("STAGECRAFT_RUNNER_URL", format!("http://127.0.0.1:{}", self.port))
            .env("STAGECRAFT_WORKSPACE", self.root.path().join("workspace"))
            .env("STAGECRAFT_RESULT", self.root.path().join("result.json"))
            .env("STAGECRAFT_CGROUP", self.root.path())
            .env("http_proxy", "http://127.0.0.1:1")
            .env("ALL_PROXY", "http://127.0.0.1:1")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .kill_on_drop(true);
        launcher
    }

    fn instruct(&self, action: Action, exit_code: i32) {
        self.heard
            .send_modify(|heard| heard.instruction = instruction(action, exit_code));
    }

    async fn wait<T>(&self, mut found: impl FnMut(&Listening) -> Option<T>) -> T {
        let mut receiver = self.heard.subscribe();
        let waiting = async {
            loop {
                if let Some(value) = found(&receiver.borrow_and_update()) {
                    return value;
                }
                receiver.changed().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .expect("never heard")
    }

    async fn report(&self) -> ExitReport {
        self.wait(|heard| heard.report.clone()).await
    }

    /// The report of a command, after which the launcher is released with status 7.
    async fn report_of(&self, command: &[&str]) -> ExitReport {
        let mut launcher = self.launch(command);
        let report = self.report().await;
        self.instruct(Action::Release, 7);
        assert_eq!(pod::wait(&mut launcher).await.code(), Some(7));
        report
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.path().join("workspace").join(name)
    }

    async fn file_there(&self, name: &str) -> String {
        pod::until(name, || {
            std::fs::read_to_string(self.file(name))
                .ok()
                .filter(|text| text.ends_with('\n'))
        })
        .await
    }
}

fn instruction(action: Action, exit_code: i32) -> Instruction {
    Instruction { action, exit_code }
}

async fn started(State(heard): State<watch::Sender<Listening>>) {
    heard.send_modify(|heard| heard.started += 1);
}

async fn exited(State(heard): State<watch::Sender<Listening>>, Json(report): Json<ExitReport>) -> StatusCode {
    let mut status = StatusCode::NO_CONTENT;
    heard.send_modify(|heard| {
        if heard.deaf > 0 {
            heard.deaf -= 1;
            status = StatusCode::INTERNAL_SERVER_ERROR;
        } else {
            heard.report = Some(report);
        }
    });
    status
}

async fn instruct(State(heard): State<watch::Sender<Listening>>) -> Json<Instruction> {
    let mut receiver = heard.subscribe();
    let changed = receiver.wait_for(|heard| heard.instruction.action != Action::Continue);
    let heard = tokio::time::timeout(Duration::from_secs(20), changed)
        .await
        .unwrap()
        .unwrap();
    Json(heard.instruction)
}

#[tokio::test]
async fn the_exit_status_is_reported_and_the_start_too() {
    let runner = Runner::start().await;
    // A command that ends at once may be over before its start is told; its end says as much.
    let mut launcher = runner.launch(&["/bin/sh", "-c", "until [ -e go ]; do sleep 0.02; done; exit 3"]);
    runner.wait(|heard| (heard.started == 1).then_some(())).await;
    std::fs::write(runner.file("go"), "").unwrap();
    assert_eq!(
        runner.report().await,
        ExitReport {
            exit_code: 3,
            ..ExitReport::default()
        }
    );
    runner.instruct(Action::Release, 7);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(7));
}

#[tokio::test]
async fn a_signal_is_reported_as_shells_do() {
    let runner = Runner::start().await;
    let report = runner.report_of(&["sh", "-c", "kill -9 $$"]).await;
    assert_eq!((report.exit_code, report.signal), (137, Some(9)));
}

#[tokio::test]
async fn the_end_of_the_output_is_kept() {
    let runner = Runner::start().await;
    let script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo oops >&2; exit 1";
    let report = runner.report_of(&["sh", "-c", script]).await;
    assert!(report.output_tail.contains("line 1999"), "{}", report.output_tail);
    assert!(report.output_tail.contains("oops"), "{}", report.output_tail);
    assert!(report.output_tail.len() <= 2048 && !report.output_tail.contains("line 1000\n"));
}

#[tokio::test]
async fn a_command_that_is_not_there_is_named_with_the_path() {
    let runner = Runner::start().await;
    let mut launcher = runner.command(LAUNCHER, &["--", "no-such-agent", "now"]);
    let mut launcher = launcher.env("PATH", "/opt/bin:/bin").spawn().unwrap();
    let report = runner.report().await;
    assert_eq!(report.exit_code, 127);
    for part in ["no-such-agent", "/opt/bin:/bin"] {
        assert!(report.output_tail.contains(part), "{}", report.output_tail);
    }
    runner.instruct(Action::Release, 1);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(1));
}

#[tokio::test]
async fn what_cannot_run_is_told_apart_from_what_is_not_there() {
    use std::os::unix::fs::PermissionsExt as _;

    let runner = Runner::start().await;
    std::fs::write(runner.file("script"), "#!/no/such/shell\n").unwrap();
    std::fs::set_permissions(runner.file("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let report = runner.report_of(&["./script"]).await;
    assert_eq!(report.exit_code, 127);
    assert!(
        report.output_tail.contains("interpreter"),
        "{}",
        report.output_tail
    );

    let runner = Runner::start().await;
    std::fs::write(runner.file("plain"), "#!/bin/sh\n").unwrap();
    let report = runner.report_of(&["./plain"]).await;
    assert_eq!(report.exit_code, 126);
}

#[tokio::test]
async fn a_child_that_stays_is_killed_before_the_report() {
    let runner = Runner::start().await;
    let script =
        "(trap '' TERM; echo $$ > child; while :; do sleep 1; done) & while [ ! -s child ]; do :; done";
    let begun = Instant::now();
    let report = runner.report_of(&["sh", "-c", script]).await;
    assert_eq!(report.exit_code, 0);
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "its output was waited for"
    );
    let left = pod::processes_with(runner.root.path());
    assert_eq!(left, []);
}

/// Only the first process of a container can kill what made itself a session of its own.
#[tokio::test]
async fn as_first_process_it_kills_and_reaps_everything() {
    // Root needs no user namespace for it, and cannot have one everywhere.
    let root = rustix::process::geteuid().is_root();
    let user = if root {
        &[][..]
    } else {
        &["--user", "--map-root-user"]
    };
    let namespace = [user, &["--pid", "--fork", "--mount-proc", "--kill-child"][..]].concat();
    let runner = Runner::start().await;
    let script = "setsid sh -c 'trap \"\" TERM; echo x > child; while :; do sleep 1; done' & \
        while [ ! -s child ]; do :; done; exit 5";
    let mut arguments = namespace;
    arguments.extend([LAUNCHER, "--", "sh", "-c", script]);
    let mut launcher = runner.command("unshare", &arguments).spawn().unwrap();
    let report = runner.report().await;
    assert_eq!(report.exit_code, 5);
    let left = pod::processes_with(runner.root.path());
    let sleeping = left.iter().filter(|process| {
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", process.as_raw_pid()));
        command.is_ok_and(|command| command.starts_with("sh") || command.starts_with("sleep"))
    });
    assert_eq!(sleeping.count(), 0);
    runner.instruct(Action::Release, 0);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(0));
}

#[tokio::test]
async fn stop_terminates_and_then_kills() {
    let runner = Runner::start().await;
    let mut launcher = runner.launch(&[
        "sh",
        "-c",
        "trap 'echo gentle > word; exit 4' TERM; echo x > ready; while :; do sleep 0.02; done",
    ]);
    runner.file_there("ready").await;
    runner.instruct(Action::Stop, 0);
    let report = runner.report().await;
    assert_eq!((report.exit_code, report.terminating), (4, false));
    assert_eq!(runner.file_there("word").await, "gentle\n");
    runner.instruct(Action::Release, 1);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(1));

    let runner = Runner::start().await;
    let _launcher = runner.launch(&[
        "sh",
        "-c",
        "trap '' TERM; echo x > ready; while :; do sleep 0.02; done",
    ]);
    runner.file_there("ready").await;
    let begun = Instant::now();
    runner.instruct(Action::Stop, 0);
    let report = runner.report().await;
    assert_eq!(report.signal, Some(9));
    assert!(begun.elapsed() >= Duration::from_secs(4));
}

#[tokio::test]
async fn its_own_termination_is_passed_on_and_told() {
    let runner = Runner::start().await;
    let mut launcher = runner.launch(&[
        "sh",
        "-c",
        "trap 'exit 6' TERM; echo x > ready; while :; do sleep 0.02; done",
    ]);
    runner.file_there("ready").await;
    pod::terminate(&launcher);
    let report = runner.report().await;
    assert_eq!((report.exit_code, report.terminating), (6, true));
    runner.instruct(Action::Release, 1);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(1));
}

#[tokio::test]
async fn a_runner_that_is_away_is_waited_for() {
    let runner = Runner::away();
    let mut launcher = runner.launch(&["sh", "-c", "echo x > done"]);
    runner.file_there("done").await;
    runner.heard.send_modify(|heard| heard.deaf = 2);
    runner.come().await;
    assert_eq!(runner.report().await.exit_code, 0);
    runner.instruct(Action::Release, 0);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(0));
}

#[tokio::test]
async fn a_release_before_the_end_kills() {
    let runner = Runner::start().await;
    let mut launcher = runner.launch(&[
        "sh",
        "-c",
        "trap '' TERM; echo x > ready; while :; do sleep 0.02; done",
    ]);
    runner.file_there("ready").await;
    runner.instruct(Action::Release, 9);
    assert_eq!(pod::wait(&mut launcher).await.code(), Some(9));
    assert_eq!(runner.heard.borrow().report, None);
}

#[tokio::test]
async fn memory_kills_are_seen() {
    let runner = Runner::start().await;
    std::fs::write(runner.root.path().join("memory.events"), "oom_kill 4\n").unwrap();
    let report = runner
        .report_of(&["sh", "-c", "echo 'oom_kill 5' > ../memory.events; exit 1"])
        .await;
    assert!(report.oom_killed);
}

#[tokio::test]
async fn what_the_agent_wrote_is_shared_with_the_runner() {
    use std::os::unix::fs::PermissionsExt as _;

    let runner = Runner::start().await;
    runner
        .report_of(&[
            "sh",
            "-c",
            "umask 077; mkdir d; echo x > d/f; echo '{}' > $STAGECRAFT_RESULT; umask 002; echo x > g",
        ])
        .await;
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(runner.file("d")), 0o770);
    assert_eq!(mode(runner.file("d/f")), 0o660);
    assert_eq!(mode(runner.root.path().join("result.json")), 0o660);
}
