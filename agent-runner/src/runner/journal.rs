//! How far the attempt is: the one thing that every part of the runner looks at, and that survives its death.
//!
//! Each step is written down before anything outside hears of it. A runner that was killed reads the journal and goes on
//! from there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use stagecraft_api::Moment;
use stagecraft_api::protocol::ClaimReply;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::{AttemptKey, Digest};
use tokio::sync::watch;

use super::evidence::session::Evidence;
use super::integrate::Integration;
use super::models::ModelTrouble;
use crate::loopback::{Action, ExitReport, Instruction};

/// How far the attempt is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    pub claim: Option<Claimed>,
    /// The agent may start, or has.
    #[serde(default)]
    pub prepared: bool,
    /// The merge that the workspace held at the start, where the task is to integrate.
    #[serde(default)]
    pub integration: Option<Integration>,
    /// The commit that a new version of the project follows upon, where it is not the task's input.
    #[serde(default)]
    pub base: Option<String>,
    /// What the checks reported, where the agent opened an evidence session.
    #[serde(default)]
    pub evidence: Option<Evidence>,
    /// What keeps the agent from calling models, as far as its last call told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_trouble: Option<ModelTrouble>,
    /// The launcher said that the command runs.
    #[serde(default)]
    pub launched: bool,
    pub exit: Option<ExitReport>,
    pub conclusion: Option<Conclusion>,
    pub ending: Option<Ending>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    pub at: Moment,
    pub reply: ClaimReply,
}

/// What the attempt came to, before the gateway has it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Conclusion {
    pub result: AttemptResult,
    /// Blobs that the result names and that the gateway may not have. Each is a file named by its digest's digits.
    pub uploads: Vec<Upload>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    pub digest: Digest,
    pub bytes: u64,
}

/// Why nothing more is to do.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Ending {
    /// The gateway has a result.
    Reported,
    /// The gateway wants none: the attempt is not the current one.
    Refused,
    /// The gateway said stop.
    Cancelled,
}

impl Progress {
    pub fn attempt(&self) -> Option<&AttemptKey> {
        self.claim.as_ref().map(|claim| &claim.reply.envelope.attempt)
    }

    /// What the launcher is to do. `Continue` means that it has to wait.
    pub fn instruction(&self) -> Instruction {
        let instruction = |action, exit_code| Instruction { action, exit_code };
        match (&self.exit, self.ending) {
            (Some(_), Some(ending)) => instruction(Action::Release, self.exit_code(ending)),
            (None, Some(_)) => instruction(Action::Stop, 0),
            (None, None) if self.conclusion.is_some() => instruction(Action::Stop, 0),
            (_, None) => instruction(Action::Continue, 0),
        }
    }

    fn exit_code(&self, ending: Ending) -> i32 {
        i32::from(!(self.succeeded() && ending == Ending::Reported))
    }

    /// The attempt came to a good end.
    pub fn succeeded(&self) -> bool {
        self.conclusion
            .as_ref()
            .is_some_and(|conclusion| matches!(conclusion.result.outcome, Outcome::Succeeded { .. }))
    }

    /// In a word, for heartbeats.
    pub fn state(&self) -> &'static str {
        match self {
            Self { ending: Some(_), .. } => "done",
            Self {
                conclusion: Some(_), ..
            } => "reporting",
            Self { exit: Some(_), .. } => "judging",
            Self { launched: true, .. } => "working",
            Self { prepared: true, .. } => "prepared",
            _ => "preparing",
        }
    }
}

/// The progress on its volume.
pub struct Journal {
    path: PathBuf,
    progress: watch::Sender<Progress>,
    writing: Mutex<()>,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("the journal {path} cannot be read or written")]
    File { path: PathBuf, source: io::Error },
    #[error("the journal {path} is not understood")]
    Content {
        path: PathBuf,
        source: serde_json::Error,
    },
}

impl Journal {
    pub fn open(path: PathBuf) -> Result<Self, JournalError> {
        let progress = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|source| JournalError::Content {
                path: path.clone(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Progress::default(),
            Err(source) => return Err(JournalError::File { path, source }),
        };
        Ok(Self {
            path,
            progress: watch::Sender::new(progress),
            writing: Mutex::new(()),
        })
    }

    pub fn read(&self) -> watch::Ref<'_, Progress> {
        self.progress.borrow()
    }

    pub fn subscribe(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Writes a change down, then shows it to everybody. What changes nothing is not written.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) -> Result<(), JournalError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.progress.borrow().clone();
        change(&mut next);
        if next == *self.progress.borrow() {
            return Ok(());
        }
        let text = serde_json::to_vec(&next).map_err(|source| JournalError::Content {
            path: self.path.clone(),
            source,
        })?;
        replace(&self.path, &text).map_err(|source| JournalError::File {
            path: self.path.clone(),
            source,
        })?;
        self.progress.send_replace(next);
        Ok(())
    }

    /// Waits until `found` finds something.
    pub async fn wait<T>(&self, mut found: impl FnMut(&Progress) -> Option<T>) -> T {
        let mut receiver = self.subscribe();
        loop {
            if let Some(value) = found(&receiver.borrow_and_update()) {
                return value;
            }
            if receiver.changed().await.is_err() {
                // The sender lives in `self`.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Writes a file so that it is there as a whole or not at all, also when the process is killed.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    std::fs::write(&name, content)?;
    std::fs::rename(&name, path)
}
