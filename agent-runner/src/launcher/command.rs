//! Starts the agent's command.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;

use super::output::Output;

/// Exit status for a program that is there but cannot be run, as shells have it.
const CANNOT_RUN: i32 = 126;
/// Exit status for a program that is not there.
const NOT_FOUND: i32 = 127;

/// The command, and what it says.
pub struct Running {
    id: Pid,
    output: Output,
}

/// Why there is no command to wait for.
pub struct StartFailure {
    pub exit_code: i32,
    pub message: String,
}

impl Running {
    pub fn start(program: &OsStr, arguments: &[OsString]) -> Result<Self, StartFailure> {
        // One pipe for both, so that the last words are the last, whichever way they came.
        let start = || -> io::Result<Self> {
            let (from, stdout) = io::pipe()?;
            let stderr = stdout.try_clone()?;
            let child = Command::new(program)
                .args(arguments)
                .stdout(stdout)
                .stderr(stderr)
                .process_group(0)
                .spawn()?;
            Ok(Self {
                id: Pid::from_child(&child),
                output: Output::follow(from, io::stdout()),
            })
        };
        start().map_err(|error| describe(program, &error))
    }

    pub fn id(&self) -> Pid {
        self.id
    }

    /// The end of the output. Waits for the pipe to be closed, but no longer than `limit`.
    pub fn output_tail(&mut self, limit: Duration) -> String {
        self.output.tail(limit)
    }
}

fn describe(program: &OsStr, error: &io::Error) -> StartFailure {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = locate(program, &path);
    let program = program.display();
    let (exit_code, message) = match (error.kind(), found) {
        (ErrorKind::NotFound, None) => (
            NOT_FOUND,
            format!(
                "the command {program} is not in the agent's image, whose PATH is {}: correct the Agent's command or image",
                path.display()
            ),
        ),
        (ErrorKind::NotFound, Some(file)) => (
            NOT_FOUND,
            format!(
                "the command {} is there, but the interpreter or loader that it names is not in the agent's image",
                file.display()
            ),
        ),
        (ErrorKind::PermissionDenied, _) => (
            CANNOT_RUN,
            format!("the command {program} is not executable for the agent's user: {error}"),
        ),
        _ => (
            CANNOT_RUN,
            format!("the command {program} cannot be started: {error}"),
        ),
    };
    StartFailure { exit_code, message }
}

/// Where the program is, by the rules of `execvp`.
fn locate(program: &OsStr, path: &OsStr) -> Option<PathBuf> {
    let plain = Path::new(program);
    if plain.components().count() > 1 || plain.is_absolute() {
        return plain.exists().then(|| plain.to_owned());
    }
    std::env::split_paths(path)
        .map(|directory| directory.join(plain))
        .find(|file| file.exists())
}
