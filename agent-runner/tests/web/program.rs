//! The program itself: how it starts, what it says, and how it ends.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes of a file that the buffers of a connection cannot hold, so that sending it lasts as long as the reader wants.
const LARGE: u64 = 64 * 1024 * 1024;

struct Program {
    _directory: TempDir,
    child: Child,
    host: String,
}

impl Program {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("index.html"), "<title>home</title>").unwrap();
        let large = File::create(directory.path().join("large.bin")).unwrap();
        large.set_len(LARGE).unwrap();
        let mut child = command(directory.path())
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let start = format!("serving {} on http://", directory.path().display());
        let host = line
            .trim()
            .strip_prefix(&start)
            .unwrap_or_else(|| panic!("{line}"));
        Self {
            host: host.to_owned(),
            _directory: directory,
            child,
        }
    }

    fn tell(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// A connection on which the large file has begun to come.
    async fn begin_large(&self) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).await.unwrap();
        stream
            .write_all(b"GET /large.bin HTTP/1.1\r\nHost: site\r\n\r\n")
            .await
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "));
        stream
    }

    async fn refuses_connections(&self) {
        let refused = async {
            while TcpStream::connect(&self.host).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), refused)
            .await
            .unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it has not ended within 10 s");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended, or its test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(root: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stagecraft-web"));
    command.env_remove("PORT").arg("--root").arg(root);
    command
}

#[test]
fn it_does_not_start_without_something_to_serve() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for (name, reason) in [
        ("absent", "there is no such directory"),
        ("", "it has no file index.html"),
    ] {
        let refused = command(&root.join(name)).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        let expected = format!(
            "--root {}: {reason}; name the directory",
            root.join(name).display()
        );
        assert!(!refused.status.success() && said.contains(&expected), "{said}");
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn it_says_which_setting_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("index.html"), "<title>home</title>").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_by_another = taken.local_addr().unwrap().to_string();
    let mut wrong_port = command(directory.path());
    wrong_port.env("PORT", "http");
    let mut wrong_address = command(directory.path());
    wrong_address.args(["--listen", &taken_by_another]);
    for (command, expected) in [
        (&mut wrong_port, "PORT is \"http\": set it to".to_owned()),
        (
            &mut wrong_address,
            format!("cannot listen on {taken_by_another}: name another address by --listen"),
        ),
    ] {
        let refused = command.output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(&expected), "{said}");
    }
}

#[tokio::test]
async fn it_serves_until_it_is_told_to_end() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::start();
        let url = format!("http://{}/", program.host);
        let client = super::client();
        assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
        // Kept by the client and by a browser that connects ahead of its need: neither may delay the end.
        let _idle = TcpStream::connect(&program.host).await.unwrap();
        let told = Instant::now();
        program.tell(signal);
        let status = program.ended().await;
        assert!(status.success(), "{status}");
        assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    }
}

#[tokio::test]
async fn what_is_being_sent_is_sent_to_its_end() {
    let mut program = Program::start();
    let mut stream = program.begin_large().await;
    program.tell(Signal::TERM);
    program.refuses_connections().await;
    let mut body = Vec::new();
    stream.read_to_end(&mut body).await.unwrap();
    assert_eq!(u64::try_from(body.len()).unwrap(), LARGE);
    assert!(program.ended().await.success());
}

#[tokio::test]
async fn a_visitor_who_reads_nothing_does_not_keep_it() {
    let mut program = Program::start();
    let _stream = program.begin_large().await;
    program.tell(Signal::TERM);
    let status = program.ended().await;
    assert!(status.success(), "{status}");
}
