//! Starts a check and sees to it that nothing of it is left when it has ended.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{self, Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};

use crate::launcher::output::Output;
use crate::loopback::REPORT_BYTES;

/// Where a tool hands its report over.
const REPORT_DESCRIPTOR: i32 = 3;
/// How long the pipes of processes that are gone are waited for: what is in them has only to be read.
const DRAIN: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    pub how: How,
    /// What it wrote to descriptor 3, up to one byte more than is taken.
    pub report: Vec<u8>,
    /// The end of its other output.
    pub tail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    Status(i32),
    Signal(i32),
    TimedOut,
}

/// Makes this process the parent of all orphans below it, so that nothing that a check starts gets away, and one that others
/// of the same user can neither look into nor stop from inside.
pub fn isolate() -> io::Result<()> {
    process::set_dumpable_behavior(process::DumpableBehavior::NotDumpable)?;
    process::set_child_subreaper(Some(process::getpid()))?;
    Ok(())
}

/// Runs a program to its end, or to that of its time, and kills all that it started.
pub fn run(
    program: &Path,
    arguments: &[&OsStr],
    directory: &Path,
    environment: &[(OsString, OsString)],
    limit: Duration,
) -> io::Result<Ended> {
    let (report, report_end) = io::pipe()?;
    let (output, stdout) = io::pipe()?;
    let stderr = stdout.try_clone()?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .fd_mappings(vec![FdMapping {
            parent_fd: OwnedFd::from(report_end),
            child_fd: REPORT_DESCRIPTOR,
        }])
        .map_err(io::Error::other)?;
    let child = command.spawn()?;
    // It holds the ends of the pipes that only the child may hold.
    drop(command);
    let child = Pid::from_child(&child);
    let report = read_report(report);
    let mut output = Output::follow(output, io::stdout());
    let how = wait(child, limit);
    end_all()?;
    Ok(Ended {
        how: how?,
        report: report.recv_timeout(DRAIN).unwrap_or_default(),
        tail: output.tail(DRAIN),
    })
}

/// Reads no more than can be a report. Reading ends when the last process that could write has.
fn read_report(from: io::PipeReader) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut report = Vec::new();
        let most = u64::try_from(REPORT_BYTES).unwrap_or(u64::MAX).saturating_add(1);
        if from.take(most).read_to_end(&mut report).is_ok() {
            let _ = sender.send(report);
        }
    });
    receiver
}

/// Waits for the program itself; what it started may go on.
fn wait(child: Pid, limit: Duration) -> io::Result<How> {
    let descriptor = process::pidfd_open(child, PidfdFlags::empty())?;
    let until = Instant::now() + limit;
    loop {
        let left =
            Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        let mut descriptors = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut descriptors, Some(&left)) {
            Ok(0) => return Ok(How::TimedOut),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (_, status) = process::waitpid(Some(child), WaitOptions::empty())?
        .ok_or_else(|| io::Error::other("a process that has ended has no status"))?;
    Ok(how(status))
}

fn how(status: WaitStatus) -> How {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => How::Status(status),
        (None, Some(signal)) => How::Signal(signal),
        (None, None) => How::Status(-1),
    }
}

/// Kills everything below this process until nothing is there: what is forked at the moment of a signal comes to this process
/// when its parent has died, and is found in the next round.
fn end_all() -> io::Result<()> {
    loop {
        for descendant in descendants(process::getpid())? {
            match process::kill_process(descendant, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match process::wait(WaitOptions::empty()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Every process below `root`. Threads apart, that is all that a process can have started and not hidden.
fn descendants(root: Pid) -> io::Result<Vec<Pid>> {
    let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
            continue;
        };
        if let Some(parent) = parent(&stat) {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root.as_raw_pid()];
    while let Some(id) = next.pop() {
        let below = children.remove(&id).unwrap_or_default();
        found.extend(below.iter().filter_map(|id| Pid::from_raw(*id)));
        next.extend(below);
    }
    Ok(found)
}

/// The fourth field, counted after the name, which may hold anything but a closing parenthesis at its end.
fn parent(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_whatever_the_name() {
        assert_eq!(parent("12 (a) b) S 7 1 2"), Some(7));
        assert_eq!(parent("12 (a"), None);
        assert!(parent(&std::fs::read_to_string("/proc/self/stat").unwrap()).is_some_and(|id| id > 0));
    }
}
