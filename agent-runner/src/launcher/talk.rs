//! The launcher's side of the loopback protocol.

use std::sync::mpsc::Sender;
use std::time::Duration;

use ureq::Agent;

use super::News;
use crate::loopback::{Action, ExitReport, Instruction, LONG_POLL};

/// First and longest pause after a request that failed. Only the container's own grace bounds how often.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// Longest time for an answer that is not held back.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Runner {
    url: String,
    http: Agent,
}

impl Runner {
    pub fn new(url: String) -> Self {
        let http = Agent::config_builder()
            // The image may name a proxy for the outside; the runner is inside.
            .proxy(None)
            .http_status_as_error(true)
            .timeout_connect(Some(TIMEOUT))
            .timeout_global(Some(LONG_POLL + TIMEOUT))
            // A connection that was left open may lead to a runner that is gone.
            .max_idle_connections(0)
            .build()
            .new_agent();
        Self { url, http }
    }

    /// Returns when the runner has taken it, however long that takes.
    pub fn report_exit(&self, report: &ExitReport) {
        until_answered(|| {
            self.http
                .post(format!("{}/launcher/exited", self.url))
                .send_json(report)
                .map(drop)
        });
    }

    fn report_start(&self) {
        until_answered(|| {
            self.http
                .post(format!("{}/launcher/started", self.url))
                .send_empty()
                .map(drop)
        });
    }

    fn instruction(&self) -> Instruction {
        until_answered(|| {
            self.http
                .get(format!("{}/launcher/instruction", self.url))
                .call()?
                .body_mut()
                .read_json()
        })
    }
}

/// Tells the runner in a thread that the command runs.
pub fn report_start(runner: Runner) {
    std::thread::spawn(move || runner.report_start());
}

/// Hands on, from a thread, what the runner says, until it releases the launcher.
pub fn follow_instructions(runner: Runner, news: Sender<News>) {
    std::thread::spawn(move || {
        loop {
            let instruction = runner.instruction();
            if news.send(News::Instruction(instruction)).is_err() {
                return;
            }
            match instruction.action {
                Action::Continue => {}
                // Repeated at once by the runner until the exit is reported.
                Action::Stop => std::thread::sleep(PAUSES[0]),
                Action::Release => return,
            }
        }
    });
}

fn until_answered<T>(mut request: impl FnMut() -> Result<T, ureq::Error>) -> T {
    let [mut pause, longest] = PAUSES;
    loop {
        match request() {
            Ok(answer) => return answer,
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(longest);
    }
}
