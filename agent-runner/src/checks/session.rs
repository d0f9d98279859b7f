//! The agent's side of the evidence session: what was checked goes to the runner, with a key that only this process has.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::rand::{GetRandomFlags, getrandom};
use serde::Serialize;
use stagecraft_api::protocol::ErrorReply;
use stagecraft_api::result::AgentResult;

use crate::loopback::{CheckReply, CheckReport, EvidenceSession, KEY_DIGITS};

/// Longest time for an answer: a report of eight mebibytes is measured in much less.
const TIMEOUT: Duration = Duration::from_mins(1);
/// First and longest pause after a request that found no runner. The stage's own limit bounds how often: a runner that was
/// killed comes back.
const PAUSES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// How often people hear that the runner is away.
const SAID: Duration = Duration::from_secs(10);

pub struct Session {
    http: ureq::Agent,
    runner: String,
    key: String,
}

impl Session {
    /// Opens the session. An error when somebody else was first.
    pub fn open(runner: String) -> anyhow::Result<Self> {
        let http = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // A connection that was left open may lead to a runner that is gone.
            .max_idle_connections(0)
            .build()
            .new_agent();
        let session = Self {
            http,
            runner,
            key: random_key()?,
        };
        let key = EvidenceSession {
            key: session.key.clone(),
        };
        session
            .post("/v1/evidence", &key)
            .context("the evidence session cannot be opened")?;
        Ok(session)
    }

    pub fn report(&self, report: &CheckReport) -> anyhow::Result<CheckReply> {
        let answer = self
            .post("/v1/evidence/reports", report)
            .with_context(|| format!("the report of the check {} was not taken", report.check.as_str()))?;
        serde_json::from_str(&answer).context("the runner's answer to a report is not understood")
    }

    pub fn result(&self, result: &AgentResult) -> anyhow::Result<()> {
        self.post("/v1/evidence/result", result)
            .context("the result was not taken")?;
        Ok(())
    }

    fn post(&self, path: &str, body: &impl Serialize) -> anyhow::Result<String> {
        let url = format!("{}{path}", self.runner);
        let body = serde_json::to_vec(body)?;
        let (mut pause, [_, longest]) = (PAUSES[0], PAUSES);
        let mut said = Instant::now();
        loop {
            let request = self
                .http
                .post(&url)
                .header("Authorization", format!("Bearer {}", self.key))
                .header("Content-Type", "application/json");
            let problem = match request.send(&body) {
                Ok(mut answer) if answer.status().is_success() => {
                    return Ok(answer.body_mut().read_to_string()?);
                }
                // It was restarted, or has not claimed its task yet.
                Ok(answer) if answer.status() == http::StatusCode::SERVICE_UNAVAILABLE => {
                    answer.status().to_string()
                }
                Ok(mut answer) => {
                    let status = answer.status();
                    let text = answer.body_mut().read_to_string().unwrap_or_default();
                    match serde_json::from_str::<ErrorReply>(&text) {
                        Ok(reply) => bail!("{} ({})", reply.error.message, reply.error.code),
                        Err(_) => bail!("the runner answered {status}: {text}"),
                    }
                }
                Err(error) => error.to_string(),
            };
            if said.elapsed() > SAID {
                eprintln!("the runner does not answer, trying again: {problem}");
                said = Instant::now();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }
}

fn random_key() -> anyhow::Result<String> {
    let mut bytes = [0; KEY_DIGITS / 2];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(hex::encode(bytes))
}
