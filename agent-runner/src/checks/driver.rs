//! Runs checks and hands their reports over. Nothing that a check leaves behind is believed but its report, and nothing that
//! it started outlives it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use serde_json::value::RawValue;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::one_line;
use stagecraft_api::result::AgentResult;

use super::process::{self, Ended, How};
use super::session::Session;
use crate::loopback::{self, Check, CheckReport, REPORT_BYTES};
use crate::task::{self, Places};

/// Where the toolchain image keeps its tools.
const TOOLCHAIN: &str = "/opt/stagecraft";
/// Longest check, unless the task says otherwise.
const LIMIT: Duration = Duration::from_mins(2);
/// About as long a reason is kept why a check was not run, in bytes: no more stands in a finding.
const REASON_BYTES: usize = 250;
/// The signal of the kernel when memory runs out.
const KILLED: i32 = 9;
/// A registry of packages beside the image's cache, when the Agent names one.
const REGISTRY: &str = "STAGECRAFT_NPM_REGISTRY";

/// Whether a check was run.
pub enum Ran {
    Yes {
        report: String,
    },
    /// The runner knows why.
    No,
}

impl Ran {
    pub fn ran(&self) -> bool {
        matches!(self, Self::Yes { .. })
    }
}

pub struct Driver {
    agent: &'static str,
    places: Places,
    artifacts: PathBuf,
    toolchain: PathBuf,
    temporary: PathBuf,
    session: Session,
    limit: Duration,
    words: Vec<String>,
}

impl Driver {
    /// Opens the session: before this returns nothing that was generated can have run.
    pub fn start(agent: &'static str) -> anyhow::Result<Self> {
        process::isolate().context("the agent's program cannot be shut off from others")?;
        let places = Places::from_environment()?;
        let runner = places.runner.clone().unwrap_or_else(|| loopback::URL.to_owned());
        Ok(Self {
            agent,
            places,
            artifacts: task::path_variable("STAGECRAFT_ARTIFACTS")?,
            // For other places of the tools, as tests have them.
            toolchain: std::env::var_os("STAGECRAFT_TOOLCHAIN")
                .map_or_else(|| TOOLCHAIN.into(), PathBuf::from),
            temporary: std::env::temp_dir(),
            session: Session::open(runner)?,
            limit: LIMIT,
            words: Vec::new(),
        })
    }

    pub fn task(&self) -> anyhow::Result<TaskEnvelope> {
        self.places.read_task()
    }

    pub fn workspace(&self) -> &Path {
        &self.places.workspace
    }

    pub fn artifacts(&self) -> &Path {
        &self.artifacts
    }

    /// Longest time of each check from now on.
    pub fn limit_checks(&mut self, limit: Duration) {
        self.limit = limit;
    }

    /// What was found, for the summary.
    pub fn words(&self) -> String {
        self.words.join(", ")
    }

    /// Runs a check.
    pub fn check(&mut self, check: Check) -> anyhow::Result<Ran> {
        self.check_with(check, &[], || Ok(()))
    }

    /// Runs a check with more variables in its environment. Its report counts only if `sound` finds nothing wrong afterwards.
    pub fn check_with(
        &mut self,
        check: Check,
        variables: &[(&str, String)],
        sound: impl FnOnce() -> Result<(), String>,
    ) -> anyhow::Result<Ran> {
        println!("{}: {}", self.agent, check.as_str());
        let begun = Instant::now();
        let ended = self.run(check, variables)?;
        let seconds = begun.elapsed().as_secs_f64();
        match report(ended, self.limit).and_then(|report| sound().map(|()| report)) {
            Ok(report) => {
                let text = report.get().to_owned();
                self.tell(check, seconds, Some(report), None)?;
                Ok(Ran::Yes { report: text })
            }
            Err(reason) => {
                self.tell(check, seconds, None, Some(reason))?;
                Ok(Ran::No)
            }
        }
    }

    /// Says that a check was not run.
    pub fn skip(&mut self, check: Check, reason: &str) -> anyhow::Result<()> {
        self.tell(check, 0.0, None, Some(reason.to_owned()))
    }

    /// Hands in the result, after which nothing counts.
    pub fn hand_in(&self, result: &AgentResult) -> anyhow::Result<()> {
        self.session.result(result)
    }

    fn tell(
        &mut self,
        check: Check,
        seconds: f64,
        report: Option<Box<RawValue>>,
        not_run: Option<String>,
    ) -> anyhow::Result<()> {
        let reply = self.session.report(&CheckReport {
            check,
            seconds,
            report,
            not_run,
        })?;
        println!("{}: {} in {seconds:.1} s", self.agent, reply.words);
        let fields = [
            ("check".to_owned(), json!(check.as_str())),
            ("passed".to_owned(), json!(reply.passed)),
            ("seconds".to_owned(), json!((seconds * 10.0).round() / 10.0)),
        ];
        self.places
            .tell(self.agent, &reply.words, fields.into_iter().collect());
        self.words.push(reply.words);
        Ok(())
    }

    /// Each check has a home and a temporary directory of its own, so that none finds what another left for it.
    fn run(&self, check: Check, variables: &[(&str, String)]) -> anyhow::Result<Ended> {
        let scratch = tempfile::Builder::new()
            .prefix("check-")
            .tempdir_in(&self.temporary)
            .context("a temporary directory cannot be made")?;
        let (home, temporary) = (scratch.path().join("home"), scratch.path().join("tmp"));
        for directory in [&home, &temporary] {
            std::fs::create_dir(directory)?;
        }
        let programs = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            self.toolchain.join("bin").display()
        );
        let mut environment: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), programs.into()),
            ("HOME".into(), home.into()),
            ("TMPDIR".into(), temporary.into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("CI".into(), "1".into()),
            ("NO_COLOR".into(), "1".into()),
        ];
        environment.extend(std::env::var_os(REGISTRY).map(|registry| (REGISTRY.into(), registry)));
        environment.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).into(), value.into())),
        );
        let node = self.toolchain.join("bin/node");
        let script = self
            .toolchain
            .join("checks")
            .join(check.as_str())
            .with_extension("mjs");
        process::run(
            &node,
            &[script.as_os_str()],
            self.workspace(),
            &environment,
            self.limit,
        )
        .with_context(|| format!("{} {} cannot be run", node.display(), script.display()))
    }
}

/// The one document of a check that could run, or why there is none.
fn report(ended: Ended, limit: Duration) -> Result<Box<RawValue>, String> {
    let Ended { how, report, tail } = ended;
    let with_output = |words: String| {
        let output = one_line(&tail);
        let from = output
            .len()
            .saturating_sub(REASON_BYTES.saturating_sub(words.len()));
        // The end says most.
        let from = (from..=output.len()).find(|index| output.is_char_boundary(*index));
        match output.get(from.unwrap_or_default()..) {
            Some("") | None => words,
            Some(end) if end.len() == output.len() => format!("{words}: {end}"),
            Some(end) => format!("{words}: …{end}"),
        }
    };
    match how {
        How::TimedOut => {
            return Err(with_output(format!(
                "it did not end within its limit of {} s, which checkTimeoutSeconds sets",
                limit.as_secs()
            )));
        }
        How::Signal(KILLED) => {
            let words = "it was ended by signal 9, as happens at the container's memory limit";
            return Err(with_output(words.to_owned()));
        }
        How::Signal(signal) => return Err(with_output(format!("it was ended by signal {signal}"))),
        How::Status(0) => {}
        How::Status(status) => return Err(with_output(format!("it ended with status {status}"))),
    }
    if report.len() > REPORT_BYTES {
        return Err(format!("its report has more than {REPORT_BYTES} bytes"));
    }
    if report.is_empty() {
        return Err(with_output("it ended without a report".to_owned()));
    }
    let text = String::from_utf8(report).map_err(|_| "its report is not UTF-8".to_owned())?;
    serde_json::from_str(&text).map_err(|error| format!("its report is not one JSON document: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(how: How, report: &str) -> Ended {
        Ended {
            how,
            report: report.as_bytes().to_owned(),
            tail: "é".repeat(2000) + "\nthe cause\n",
        }
    }

    #[test]
    fn only_one_document_after_a_good_end_is_a_report() {
        let limit = Duration::from_secs(7);
        let good = report(ended(How::Status(0), " {\"check\": 1} \n"), limit).unwrap();
        assert_eq!(good.get(), "{\"check\": 1}");
        for (how, text, part) in [
            (How::Status(1), "{}", "status 1: "),
            (How::Signal(9), "{}", "memory limit: "),
            (How::Signal(15), "{}", "signal 15: "),
            (How::TimedOut, "{}", "limit of 7 s"),
            (How::Status(0), "", "without a report: "),
            (How::Status(0), "{}{}", "not one JSON document"),
            (How::Status(0), "{", "not one JSON document"),
        ] {
            let reason = report(ended(how, text), limit).unwrap_err();
            assert!(reason.contains(part), "{reason}");
            assert!(reason.len() <= REASON_BYTES + 10, "{reason}");
            assert!(
                reason.contains("the cause") || reason.contains("document"),
                "{reason}"
            );
        }
        let large = Ended {
            report: vec![b' '; REPORT_BYTES + 1],
            ..ended(How::Status(0), "")
        };
        assert!(report(large, limit).unwrap_err().contains("more than"));
    }
}
