//! The workspace as a git history, made with libgit2 alone: no git program, no configuration, no hooks, no attributes or
//! filters of the agent's. The git directory is on a volume that the agent does not have.

pub mod bundle;
pub mod changes;
pub mod checkout;
pub mod commit;
pub mod snapshot;

use std::path::Path;

use git2::{Repository, RepositoryInitOptions};

/// Objects over this size are neither compressed against others nor held in memory twice.
const BIG_FILE_BYTES: i64 = 1024 * 1024;
/// Memory for the comparison of objects while a pack is made.
const WINDOW_BYTES: i64 = 64 * 1024 * 1024;

/// Opens the git directory of the runner, made when it is not there.
pub fn open(directory: &Path) -> Result<Repository, git2::Error> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).mkpath(true);
    let repository = Repository::init_opts(directory, &options)?;
    let mut configuration = repository.config()?;
    configuration.set_i64("core.bigFileThreshold", BIG_FILE_BYTES)?;
    configuration.set_i64("pack.windowMemory", WINDOW_BYTES)?;
    drop(configuration);
    Ok(repository)
}

/// Whether a name belongs to git, in any spelling that some file system takes for `.git`.
fn is_git(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

/// A path below the workspace for messages: bounded, and readable whatever bytes it has.
pub(in crate::runner) fn shown(path: &[u8]) -> String {
    stagecraft_api::error::truncate(&String::from_utf8_lossy(path), 256)
}

/// `name` below `parent`, both relative to the workspace.
fn below(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        name.to_owned()
    } else {
        [parent, b"/", name].concat()
    }
}
