//! The processes of the container: waits for them and kills them.

use std::sync::mpsc::Sender;

use nix::sys::signal as nix_signal;
use rustix::io::Errno;
use rustix::process::{self, Pid, Signal, WaitOptions};

use super::News;

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub exit_code: i32,
    pub signal: Option<i32>,
}

/// The command and all that came of it.
pub struct Processes {
    command: Pid,
    whole_container: bool,
}

/// Makes processes whose parent ended children of the launcher. A PID 1 has that anyway.
pub fn adopt_orphans() {
    let _ = process::set_child_subreaper(Some(process::getpid()));
}

/// Waits for every child in a thread, so that none stays a zombie, and tells of the command's end and of the last one's.
pub fn reap(command: Pid, news: Sender<News>) {
    std::thread::spawn(move || {
        loop {
            match process::wait(WaitOptions::empty()) {
                Ok(Some((child, status))) if child == command => {
                    let signal = status.terminating_signal();
                    let exit_code = status.exit_status().or(signal.map(|signal| 128 + signal));
                    let ended = Ended {
                        exit_code: exit_code.unwrap_or(1),
                        signal,
                    };
                    let _ = news.send(News::Ended(ended));
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => {
                    let _ = news.send(News::Alone);
                    return;
                }
            }
        }
    });
}

impl Processes {
    pub fn new(command: Pid) -> Self {
        Self {
            command,
            whole_container: process::getpid().is_init(),
        }
    }

    /// Asks the command to end.
    pub fn terminate(&self) {
        let _ = process::kill_process(self.command, Signal::TERM);
    }

    /// Kills everything in the container. Outside a container only the command's process group is ours.
    pub fn kill(&self) {
        if self.whole_container {
            let _ = nix_signal::kill(nix::unistd::Pid::from_raw(-1), nix_signal::Signal::SIGKILL);
        } else {
            let _ = process::kill_process_group(self.command, Signal::KILL);
        }
    }

    /// Whether nothing is left to kill. In a container the end of the last child tells.
    pub fn gone(&self) -> bool {
        !self.whole_container && process::test_kill_process_group(self.command) == Err(Errno::SRCH)
    }
}
