//! Makes the commit of an attempt. The same files, parent and task give the same commit, so that doing it twice does no
//! harm.

use git2::{Oid, Repository, Signature, Time};
use stagecraft_api::envelope::TaskEnvelope;

use super::snapshot::Snapshot;

const AUTHOR: &str = "Stagecraft";
const ADDRESS: &str = "stagecraft@stagecraft.dev";

/// What a stage leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing and is nothing.
    Nothing,
    /// The commit that it started from.
    Unchanged,
    New(Oid),
}

/// Commits a snapshot upon `parent`. No branch moves.
pub fn commit(
    repository: &Repository,
    task: &TaskEnvelope,
    parent: Option<Oid>,
    snapshot: &Snapshot,
) -> Result<Outcome, git2::Error> {
    let parent = parent.map(|parent| repository.find_commit(parent)).transpose()?;
    match &parent {
        None if snapshot.empty => return Ok(Outcome::Nothing),
        Some(parent) if parent.tree_id() == snapshot.tree => return Ok(Outcome::Unchanged),
        _ => {}
    }
    let signature = signature(task)?;
    let message = format!(
        "Stage {} by agent {}\n\n{}",
        task.attempt.stage,
        task.payload.agent(),
        trailer(task)
    );
    let tree = repository.find_tree(snapshot.tree)?;
    let parents: Vec<_> = parent.iter().collect();
    let id = repository.commit(None, &signature, &signature, &message, &tree, &parents)?;
    Ok(Outcome::New(id))
}

/// Stagecraft as author and committer, at the time when the task was made.
pub fn signature(task: &TaskEnvelope) -> Result<Signature<'static>, git2::Error> {
    let time = Time::new(task.created_at.timestamp().as_second(), 0);
    Signature::new(AUTHOR, ADDRESS, &time)
}

/// The last line of a message: which attempt made the commit.
pub fn trailer(task: &TaskEnvelope) -> String {
    format!("Stagecraft-Attempt: {}\n", task.attempt)
}
