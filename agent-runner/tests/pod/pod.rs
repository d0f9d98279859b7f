//! A Pod: temporary directories for volumes, processes for containers.

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stagecraft_api::envelope::TaskEnvelope;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::gateway::{self, Gateway};

pub const RUNNER: &str = env!("CARGO_BIN_EXE_stagecraft-runner");
pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_stagecraft-launcher");
pub const AGENT: &str = env!("CARGO_BIN_EXE_stagecraft-agent");
/// Longer than anything takes: only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_mins(1);

pub struct Pod {
    volumes: TempDir,
    port: u16,
    pub runner: Child,
    gateway: String,
    certificate: String,
    users: Users,
}

/// As whom the containers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Users {
    One,
    /// UIDs and group of a cluster. Needs root.
    Two,
}

const GROUP: u32 = 65_531;
const RUNNER_USER: u32 = 65_532;
const AGENT_USER: u32 = 65_533;

impl Users {
    fn command(self, user: u32, program: &Path) -> Command {
        match self {
            Self::One => Command::new(program),
            Self::Two => {
                let mut command = Command::new("/usr/bin/setpriv");
                command
                    .args([
                        format!("--reuid={user}"),
                        format!("--regid={user}"),
                        format!("--groups={GROUP}"),
                    ])
                    .args(["--bounding-set=-all", "--no-new-privs", "--"])
                    .arg(program);
                command
            }
        }
    }
}

impl Pod {
    /// Starts the runner's container.
    pub fn start(gateway: &Gateway) -> Self {
        let volumes = tempfile::tempdir().unwrap();
        Self::start_in(gateway, volumes, Users::One)
    }

    /// The same with runner and agent as the users that they are in a cluster.
    pub fn start_as_users(gateway: &Gateway) -> Self {
        let volumes = tempfile::tempdir().unwrap();
        std::fs::set_permissions(volumes.path(), Permissions::from_mode(0o777)).unwrap();
        std::fs::create_dir(volumes.path().join("bin")).unwrap();
        for program in [RUNNER, LAUNCHER] {
            let name = Path::new(program).file_name().unwrap();
            std::fs::copy(program, volumes.path().join("bin").join(name)).unwrap();
        }
        Self::start_in(gateway, volumes, Users::Two)
    }

    fn start_in(gateway: &Gateway, volumes: TempDir, users: Users) -> Self {
        for volume in ["stagecraft", "work", "state", "tmp"] {
            let volume = volumes.path().join(volume);
            std::fs::create_dir(&volume).unwrap();
            if users == Users::Two {
                std::os::unix::fs::chown(&volume, None, Some(GROUP)).unwrap();
                std::fs::set_permissions(&volume, Permissions::from_mode(0o2777)).unwrap();
            }
        }
        std::fs::write(volumes.path().join("token"), format!("{}\n", gateway::TOKEN)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (address, certificate) = (gateway.address.to_string(), gateway.certificate.clone());
        let runner = run_runner(volumes.path(), port, &address, &certificate, users);
        Self {
            volumes,
            port,
            runner,
            gateway: address,
            certificate,
            users,
        }
    }

    /// Kills the runner without warning and starts it again, as the kubelet does.
    pub async fn restart_runner(&mut self) {
        self.runner.kill().await.unwrap();
        self.runner = run_runner(
            self.volumes.path(),
            self.port,
            &self.gateway,
            &self.certificate,
            self.users,
        );
    }

    /// What the kubelet does when the agent's container has ended.
    pub async fn end(mut self) -> ExitStatus {
        terminate(&self.runner);
        wait(&mut self.runner).await
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.volumes.path().join(path)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Runs `postStart`.
    pub async fn ready(&self) {
        let mut command = Command::new(RUNNER);
        command
            .arg("await-ready")
            .env_clear()
            .env("STAGECRAFT_ROOT", self.volumes.path());
        let status = wait(&mut command.kill_on_drop(true).spawn().unwrap()).await;
        assert!(status.success(), "{status}");
    }

    /// Starts the agent's container once the volumes are prepared.
    pub async fn agent(&self, command: &[&str]) -> Child {
        self.ready().await;
        self.agent_now(command)
    }

    pub fn agent_now(&self, command: &[&str]) -> Child {
        self.command(command).spawn().expect("the launcher is installed")
    }

    pub fn command(&self, command: &[&str]) -> Command {
        let mut launcher = self
            .users
            .command(AGENT_USER, &self.path("stagecraft/bin/stagecraft-launcher"));
        launcher
            .arg("--")
            .args(command)
            .current_dir(self.path("work/workspace"))
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("STAGECRAFT_TASK", self.path("stagecraft/task.json"))
            .env("STAGECRAFT_WORKSPACE", self.path("work/workspace"))
            .env("STAGECRAFT_RESULT", self.path("work/result.json"))
            .env("STAGECRAFT_ARTIFACTS", self.path("work/artifacts"))
            .env("STAGECRAFT_TOOLCHAIN", self.path("toolchain"))
            .env("STAGECRAFT_RUNNER_URL", self.url())
            .env("STAGECRAFT_CGROUP", self.path("cgroup"))
            .env("HOME", self.path("work/home"))
            .env("TMPDIR", self.path("tmp"))
            .kill_on_drop(true);
        launcher
    }

    /// Processes of the agent's container.
    pub fn processes(&self) -> Vec<Pid> {
        processes_with(&self.path("work/workspace"))
    }

    pub fn runner_log(&self) -> String {
        std::fs::read_to_string(self.path("runner.log")).unwrap()
    }
}

impl Drop for Pod {
    /// A launcher that a test killed could not clean up.
    fn drop(&mut self) {
        for process in self.processes() {
            let _ = kill_process(process, Signal::KILL);
        }
    }
}

/// Processes whose environment names a path.
pub fn processes_with(path: &Path) -> Vec<Pid> {
    let path = path.to_str().unwrap();
    let names = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| Pid::from_raw(name.parse().ok()?))
        .filter(|process| {
            std::fs::read(format!("/proc/{}/environ", process.as_raw_pid()))
                .is_ok_and(|environment| String::from_utf8_lossy(&environment).contains(path))
        })
        .collect()
}

fn run_runner(root: &Path, port: u16, gateway: &str, certificate: &str, users: Users) -> Child {
    let log = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(root.join("runner.log"))
        .unwrap();
    let host = gateway.rsplit_once(':').unwrap().1;
    let program = match users {
        Users::One => PathBuf::from(RUNNER),
        Users::Two => root.join("bin/stagecraft-runner"),
    };
    users
        .command(RUNNER_USER, &program)
        .arg("serve")
        .env_clear()
        .env("STAGECRAFT_ROOT", root)
        .env("STAGECRAFT_LISTEN", format!("127.0.0.1:{port}"))
        .env(
            "STAGECRAFT_GATEWAY_URL",
            format!("https://{}:{host}", gateway::NAME),
        )
        .env("STAGECRAFT_GATEWAY_ADDRESS", gateway)
        .env("STAGECRAFT_GATEWAY_CA", certificate)
        .env("STAGECRAFT_TOKEN_FILE", root.join("token"))
        .env("STAGECRAFT_LOG_FORMAT", "json")
        // A proxy for the outside must not be asked.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .stderr(Stdio::from(log))
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// A Pod and its gateway in which a command ran to its end. Answers the exit status of the agent's container.
pub async fn run(task: TaskEnvelope, command: &[&str]) -> (Gateway, Pod, ExitStatus) {
    let gateway = Gateway::start(task);
    let pod = Pod::start(&gateway);
    let mut agent = pod.agent(command).await;
    let status = wait(&mut agent).await;
    (gateway, pod, status)
}

pub async fn run_echo(payload: &Value) -> (Gateway, Pod, ExitStatus) {
    run(crate::task::task(payload), &[AGENT, "echo"]).await
}

pub async fn wait(child: &mut Child) -> ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait())
        .await
        .expect("the process never ends")
        .unwrap()
}

pub fn terminate(child: &Child) {
    kill_process(pid(child), Signal::TERM).unwrap();
}

pub fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().unwrap().cast_signed()).unwrap()
}

/// Looks again and again until something is there.
pub async fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(value) = found() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(|_| panic!("never there: {what}"))
}
