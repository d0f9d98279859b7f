//! Whether the files that are checked are still those of the commit. Checks run what was generated, which may write over its
//! own sources so that the next check sees something else.

use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};
use rustix::fs::readlinkat;
use stagecraft_api::limit;
use stagecraft_api::result::Finding;

use super::measured::{FINDINGS, Measured};
use crate::loopback::Check;
use crate::runner::collect::open_beneath;
use crate::runner::git::shown;

const LINK_MODE: i32 = 0o120_000;

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum UnchangedError {
    #[error("the commit that is checked cannot be read")]
    Git(#[from] git2::Error),
}

/// The first file of the commit that the workspace does not hold as it was. Files beside those of the commit are no change.
pub fn first_change(
    repository: &Repository,
    commit: Oid,
    workspace: &OwnedFd,
) -> Result<Option<String>, UnchangedError> {
    let tree = repository.find_commit(commit)?.tree()?;
    let mut changed = None;
    let walked = tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
        if entry.kind() != Some(ObjectType::Blob) {
            return TreeWalkResult::Ok;
        }
        let path = [directory.as_bytes(), entry.name_bytes()].concat();
        if same(workspace, &path, entry.filemode() == LINK_MODE, entry.id()) {
            TreeWalkResult::Ok
        } else {
            changed = Some(shown(&path));
            TreeWalkResult::Abort
        }
    });
    match walked {
        _ if changed.is_some() => Ok(changed),
        Ok(()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whatever cannot be read is not the same.
fn same(workspace: &OwnedFd, path: &[u8], link: bool, id: Oid) -> bool {
    let Ok(path) = std::str::from_utf8(path) else {
        return false;
    };
    let content = if link {
        target(workspace, path)
    } else {
        content(workspace, path)
    };
    let hash = content
        .ok()
        .and_then(|content| Oid::hash_object(ObjectType::Blob, &content).ok());
    hash == Some(id)
}

fn content(workspace: &OwnedFd, path: &str) -> io::Result<Vec<u8>> {
    let file = open_beneath(workspace, path)?;
    let mut content = Vec::new();
    file.file
        .take(limit::WORKSPACE_FILE_BYTES + 1)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// Of a link only its text counts. A directory on the way to it that became a link is noticed by the files in there.
fn target(workspace: &OwnedFd, path: &str) -> io::Result<Vec<u8>> {
    Ok(readlinkat(workspace.as_fd(), path, Vec::new())?.into_bytes())
}

/// What was measured counts no longer.
pub fn void(check: Check, measured: Measured, path: &str) -> Measured {
    let mut findings = vec![Finding {
        check: check.as_str().to_owned(),
        file: Some(path.to_owned()),
        line: None,
        rule: Some("changed".to_owned()),
        message: format!(
            "{path} is no longer as it was committed when the check {} had ended, so nothing that was measured counts: \
             nothing that a check runs may write to the project's own files",
            check.as_str()
        ),
    }];
    findings.extend(measured.findings);
    findings.truncate(FINDINGS);
    Measured {
        passed: false,
        findings,
        found: measured.found.saturating_add(1),
        metrics: std::collections::BTreeMap::new(),
        words: format!("{} void, files were changed", check.as_str()),
        ..measured
    }
}
