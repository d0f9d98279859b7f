//! Wraps the agent's command: starts it, keeps the end of its output, kills what it leaves behind, reports how it ended and
//! holds the container until the runner has what it needs.
//!
//! It is copied into containers of any image, so it needs nothing from them and is small: threads and blocking calls, no
//! async runtime. One thread waits for each source of news; the main one takes the news in turn.

mod command;
mod memory;
pub(crate) mod output;
mod processes;
mod sharing;
mod talk;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use self::command::Running;
use self::memory::OomKills;
use self::processes::{Ended, Processes};
use self::talk::Runner;
use crate::loopback::{self, Action, ExitReport, Instruction};

/// From SIGTERM to SIGKILL when the runner says stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// From SIGTERM to SIGKILL when the Pod has to go: what was made still has to be uploaded within the Pod's own grace.
const TERMINATION_GRACE: Duration = Duration::from_secs(20);
/// How long processes that were sent SIGKILL, and the ends of their output, are waited for.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// Exit status for a wrong command line.
const USAGE: u8 = 64;
/// Exit status of a container whose launcher could not begin.
const BROKEN: u8 = 70;

/// What happened.
enum News {
    Instruction(Instruction),
    /// The launcher itself was told to end.
    Terminate,
    /// The agent's command ended.
    Ended(Ended),
    /// No process is left.
    Alone,
}

/// Where things are, from the environment of the agent.
struct Places {
    runner: String,
    workspace: PathBuf,
    result: PathBuf,
    cgroup: PathBuf,
}

/// Runs the command that follows `--`.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let command: Vec<OsString> = arguments.skip_while(|argument| argument == "--").collect();
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("usage: stagecraft-launcher -- COMMAND [ARGUMENT...]");
        return ExitCode::from(USAGE);
    };
    match Launcher::start(Places::from_environment()) {
        Ok(launcher) => launcher.run(program, arguments),
        Err(error) => {
            eprintln!("stagecraft-launcher: {error}");
            ExitCode::from(BROKEN)
        }
    }
}

impl Places {
    fn from_environment() -> Self {
        let path = |name: &str, default: &str| {
            std::env::var_os(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
        };
        Self {
            runner: std::env::var("STAGECRAFT_RUNNER_URL").unwrap_or_else(|_| loopback::URL.to_owned()),
            workspace: path("STAGECRAFT_WORKSPACE", "/work/workspace"),
            result: path("STAGECRAFT_RESULT", "/work/result.json"),
            // For tests: a container sees its own control group at the usual place.
            cgroup: path("STAGECRAFT_CGROUP", "/sys/fs/cgroup"),
        }
    }
}

struct Launcher {
    places: Places,
    runner: Runner,
    sender: Sender<News>,
    news: Receiver<News>,
    oom_kills: OomKills,
}

/// What is left when the command has ended.
#[derive(Default)]
struct Course {
    terminating: bool,
    /// The runner said stop; it says so again and again until the exit is reported.
    stopping: bool,
    released: Option<i32>,
}

impl Launcher {
    fn start(places: Places) -> std::io::Result<Self> {
        // What the agent makes must be writable by the runner's group.
        rustix::process::umask(rustix::fs::Mode::WOTH);
        processes::adopt_orphans();
        let (sender, news) = channel();
        let mut signals = Signals::new([SIGTERM, SIGINT])?;
        let terminate = sender.clone();
        std::thread::spawn(move || {
            for _ in signals.forever() {
                let _ = terminate.send(News::Terminate);
            }
        });
        Ok(Self {
            runner: Runner::new(places.runner.clone()),
            oom_kills: OomKills::watch(&places.cgroup),
            places,
            sender,
            news,
        })
    }

    fn run(self, program: &OsString, arguments: &[OsString]) -> ExitCode {
        let started = Running::start(program, arguments);
        talk::follow_instructions(self.runner.clone(), self.sender.clone());
        let (report, course) = match started {
            Ok(running) => {
                talk::report_start(self.runner.clone());
                self.see_through(running)
            }
            Err(failure) => {
                eprintln!("stagecraft-launcher: {}", failure.message);
                let report = ExitReport {
                    exit_code: failure.exit_code,
                    output_tail: failure.message,
                    ..ExitReport::default()
                };
                (report, Course::default())
            }
        };
        if let Some(code) = course.released {
            return exit_code(code);
        }
        self.runner.report_exit(&report);
        exit_code(self.await_release())
    }

    /// From the start of the command to its end and that of all its descendants.
    fn see_through(&self, mut running: Running) -> (ExitReport, Course) {
        let processes = Processes::new(running.id());
        processes::reap(running.id(), self.sender.clone());
        let (ended, mut course) = self.await_end(&processes);
        self.kill_rest(&processes, &mut course);
        let output_tail = running.output_tail(KILL_WAIT);
        for problem in sharing::share(&self.places.workspace, &self.places.result) {
            eprintln!("stagecraft-launcher: {problem}");
        }
        let report = ExitReport {
            exit_code: ended.exit_code,
            signal: ended.signal,
            oom_killed: self.oom_kills.happened(),
            usage: usage::measure(&self.places.cgroup),
            terminating: course.terminating,
            output_tail,
        };
        (report, course)
    }

    fn await_end(&self, processes: &Processes) -> (Ended, Course) {
        let mut course = Course::default();
        let mut kill_at: Option<Instant> = None;
        loop {
            match self.next_until(kill_at) {
                Some(News::Ended(ended)) => return (ended, course),
                Some(News::Terminate) => {
                    course.terminating = true;
                    processes.terminate();
                    kill_at = Some(earlier(kill_at, TERMINATION_GRACE));
                }
                Some(News::Instruction(instruction)) => match instruction.action {
                    Action::Stop if !course.stopping => {
                        course.stopping = true;
                        processes.terminate();
                        kill_at = Some(earlier(kill_at, STOP_GRACE));
                    }
                    Action::Continue | Action::Stop => {}
                    Action::Release => {
                        course.released = Some(instruction.exit_code);
                        processes.kill();
                    }
                },
                Some(News::Alone) => {}
                None => {
                    processes.kill();
                    kill_at = Some(Instant::now() + Duration::from_millis(100));
                }
            }
        }
    }

    /// Kills what the command left behind, again and again until nothing is there: a process that is being forked at the
    /// moment of a signal may escape it.
    fn kill_rest(&self, processes: &Processes, course: &mut Course) {
        let until = Instant::now() + KILL_WAIT;
        processes.kill();
        let mut pause = Duration::from_millis(1);
        while Instant::now() < until && !processes.gone() {
            match self.news.recv_timeout(pause) {
                Ok(News::Alone) => return,
                Ok(News::Instruction(Instruction {
                    action: Action::Release,
                    exit_code,
                })) => course.released = Some(exit_code),
                Ok(_) | Err(_) => {}
            }
            processes.kill();
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn await_release(&self) -> i32 {
        loop {
            match self.news.recv() {
                Ok(News::Instruction(Instruction {
                    action: Action::Release,
                    exit_code,
                })) => return exit_code,
                Ok(_) => {}
                Err(_) => return 1,
            }
        }
    }

    /// The next news, or none when the time has come first.
    fn next_until(&self, time: Option<Instant>) -> Option<News> {
        let news = match time {
            None => self.news.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(time) => self
                .news
                .recv_timeout(time.saturating_duration_since(Instant::now())),
        };
        news.ok()
    }
}

fn earlier(known: Option<Instant>, grace: Duration) -> Instant {
    let new = Instant::now() + grace;
    known.map_or(new, |known| known.min(new))
}

fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
