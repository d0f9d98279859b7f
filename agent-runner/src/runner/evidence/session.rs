//! The evidence session of an attempt: opened once, by whoever asks first, and from then on the one way to hand in what the
//! attempt is judged by.

use std::sync::Arc;

use axum::http::StatusCode;
use git2::Oid;
use serde::{Deserialize, Serialize};
use stagecraft_api::error::chain;
use stagecraft_api::result::AgentResult;
use stagecraft_api::{Category, StructuredError};
use subtle::ConstantTimeEq as _;

use super::measure::{measure, not_run};
use super::measured::Measured;
use super::sources::Sources;
use super::unchanged::{self, UnchangedError};
use crate::loopback::{Check, CheckReply, CheckReport, EvidenceSession, KEY_DIGITS};
use crate::runner::git;
use crate::runner::journal::{Journal, JournalError, replace};
use crate::runner::judge;
use crate::runner::layout::Layout;

/// What was handed in so far, as the journal keeps it.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    pub key: String,
    /// In the order in which they were run.
    #[serde(default)]
    pub checks: Vec<Checked>,
    /// What the agent's program says of its work; it says so last.
    #[serde(default)]
    pub result: Option<AgentResult>,
}

/// A check that was run, or should have been.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    pub check: Check,
    pub seconds: f64,
    /// There is a report, and it was understood.
    pub ran: bool,
    pub measured: Measured,
}

/// Why something is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("the task is not claimed yet")]
    Unclaimed,
    #[error("the evidence session of this attempt is open already: only the first who asks gets its key")]
    Taken,
    #[error("the request does not carry the key of the evidence session as Authorization: Bearer KEY")]
    Key,
    #[error("the request is not understood: {0}")]
    Request(#[source] serde_json::Error),
    #[error("the key has to be {KEY_DIGITS} hexadecimal digits")]
    WeakKey,
    #[error("the result was handed in before, and nothing can follow it")]
    Over,
    #[error("{}", .0.message)]
    Result(StructuredError),
    #[error("the runner's volume cannot be written")]
    Volume(#[source] std::io::Error),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error("the commit that is checked cannot be read")]
    Git(#[from] git2::Error),
    #[error(transparent)]
    Unchanged(#[from] UnchangedError),
    #[error("the measuring was interrupted")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl SessionError {
    /// As an answer on loopback.
    pub fn reply(self) -> (StatusCode, StructuredError) {
        let (status, code, category) = match self {
            Self::Result(error) => return (StatusCode::BAD_REQUEST, error),
            Self::Unclaimed => (
                StatusCode::SERVICE_UNAVAILABLE,
                "EvidenceUnavailable",
                Category::Network,
            ),
            Self::Taken => (StatusCode::CONFLICT, "EvidenceTaken", Category::Validation),
            Self::Key => (StatusCode::UNAUTHORIZED, "EvidenceKey", Category::Validation),
            Self::Request(_) | Self::WeakKey => {
                (StatusCode::BAD_REQUEST, "EvidenceInvalid", Category::Validation)
            }
            Self::Over => (StatusCode::CONFLICT, "EvidenceComplete", Category::Validation),
            Self::Volume(_) | Self::Journal(_) | Self::Git(_) | Self::Unchanged(_) | Self::Interrupted(_) => {
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "EvidenceFailed",
                    Category::Unknown,
                )
            }
        };
        (status, StructuredError::new(code, category, chain(&self)))
    }
}

/// The session with what it needs.
pub struct Session {
    layout: Layout,
    journal: Arc<Journal>,
}

impl Session {
    pub fn new(layout: Layout, journal: Arc<Journal>) -> Self {
        Self { layout, journal }
    }

    /// Opens it. Whose key it gets is decided where the journal is written, so that of many one wins.
    pub fn open(&self, body: &[u8]) -> Result<(), SessionError> {
        let EvidenceSession { key } = serde_json::from_slice(body).map_err(SessionError::Request)?;
        if key.len() != KEY_DIGITS || !key.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(SessionError::WeakKey);
        }
        if self.journal.read().claim.is_none() {
            return Err(SessionError::Unclaimed);
        }
        let mut opened = true;
        self.journal.update(|progress| {
            opened = match &progress.evidence {
                Some(evidence) => evidence.key.as_bytes().ct_eq(key.as_bytes()).into(),
                // After the exit nobody is left who may ask.
                None => progress.exit.is_none(),
            };
            if opened && progress.evidence.is_none() {
                progress.evidence = Some(Evidence {
                    key,
                    ..Evidence::default()
                });
            }
        })?;
        if !opened {
            return Err(SessionError::Taken);
        }
        tracing::info!("the evidence session is open");
        Ok(())
    }

    /// Whether a request carries the key.
    pub fn admits(&self, authorization: Option<&str>) -> Result<(), SessionError> {
        let given = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let progress = self.journal.read();
        let admitted = match (given, &progress.evidence) {
            (Some(given), Some(evidence)) => given.as_bytes().ct_eq(evidence.key.as_bytes()).into(),
            _ => false,
        };
        if admitted { Ok(()) } else { Err(SessionError::Key) }
    }

    /// Takes the report of a check, measures it and keeps it. The first one of a check counts, and is what a later one is
    /// answered with: the answer to the first may have been lost. Whoever calls is admitted.
    pub async fn report(&self, body: &[u8]) -> Result<CheckReply, SessionError> {
        let report: CheckReport = serde_json::from_slice(body).map_err(SessionError::Request)?;
        let check = report.check;
        if let Some(known) = self.known(check)? {
            return Ok(known);
        }
        let commit = self.commit();
        let layout = self.layout.clone();
        let span = tracing::Span::current();
        let measuring =
            tokio::task::spawn_blocking(move || span.in_scope(|| weigh(&layout, commit.as_deref(), &report)));
        let checked = measuring.await??;
        self.journal.update(|progress| {
            if let Some(evidence) = &mut progress.evidence
                && evidence.result.is_none()
                && evidence.checks.iter().all(|known| known.check != check)
            {
                evidence.checks.push(checked);
            }
        })?;
        let reply = self.known(check)?.ok_or(SessionError::Over)?;
        tracing::info!(check = check.as_str(), passed = reply.passed, "{}", reply.words);
        Ok(reply)
    }

    /// Takes the result of the agent's program; the first counts. Whoever calls is admitted.
    pub fn result(&self, body: &[u8]) -> Result<(), SessionError> {
        let result = judge::parse_result(body).map_err(SessionError::Result)?;
        self.journal.update(|progress| {
            if let Some(evidence) = &mut progress.evidence {
                evidence.result.get_or_insert(result);
            }
        })?;
        Ok(())
    }

    /// What was answered to the report of a check; an error when no report can come any more.
    fn known(&self, check: Check) -> Result<Option<CheckReply>, SessionError> {
        let progress = self.journal.read();
        let evidence = progress.evidence.as_ref().ok_or(SessionError::Key)?;
        match evidence.checks.iter().find(|known| known.check == check) {
            Some(Checked { measured, .. }) => Ok(Some(CheckReply {
                passed: measured.passed,
                words: measured.words.clone(),
            })),
            None if evidence.result.is_some() => Err(SessionError::Over),
            None => Ok(None),
        }
    }

    /// The commit that is checked: where the task is to integrate, the merged one.
    fn commit(&self) -> Option<String> {
        let progress = self.journal.read();
        let merged = progress.integration.as_ref().map(|merged| merged.commit.clone());
        merged.or_else(|| {
            let task = &progress.claim.as_ref()?.reply.envelope;
            Some(task.workspace.as_ref()?.commit.clone())
        })
    }
}

/// Measures a report against the commit, and keeps it as a file for the artifacts.
fn weigh(layout: &Layout, commit: Option<&str>, report: &CheckReport) -> Result<Checked, SessionError> {
    let check = report.check;
    let (ran, mut measured) = match (&report.report, &report.not_run) {
        (Some(document), None) => {
            let sources = match commit {
                Some(commit) => Sources::of(&git::open(&layout.git())?, Oid::from_str(commit)?)?,
                None => Sources::default(),
            };
            std::fs::create_dir_all(layout.reports()).map_err(SessionError::Volume)?;
            replace(&layout.report(check), document.get().as_bytes()).map_err(SessionError::Volume)?;
            match measure(check, document.get(), &sources) {
                Ok(measured) => (true, measured),
                Err(error) => (false, not_run(check, &chain(&error))),
            }
        }
        (_, reason) => {
            let reason = reason.as_deref().unwrap_or("it was reported without a report");
            (false, not_run(check, reason))
        }
    };
    if ran && let Some(commit) = commit {
        let repository = git::open(&layout.git())?;
        let workspace = layout.open_workspace().map_err(SessionError::Volume)?;
        if let Some(path) = unchanged::first_change(&repository, Oid::from_str(commit)?, &workspace)? {
            measured = unchanged::void(check, measured, &path);
        }
    }
    Ok(Checked {
        check,
        seconds: if report.seconds.is_finite() {
            report.seconds.max(0.0)
        } else {
            0.0
        },
        ran,
        measured,
    })
}
