//! Writes the tree of a commit into the workspace, where nobody else writes yet. Still no link is followed and nothing is
//! overwritten: a tree may hold the same name twice.

use std::io::Write as _;
use std::os::fd::OwnedFd;

use git2::{ObjectType, Oid, Repository, Tree};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{below, is_git, shown};

/// Why a commit cannot be checked out.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    #[error("the commit lacks objects")]
    Objects(#[from] git2::Error),
    #[error("the commit holds the path {0:?}, which cannot be written")]
    Name(String),
    #[error("{path:?} cannot be written")]
    File { path: String, source: std::io::Error },
}

const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o775);
const FILE_MODE: Mode = Mode::from_raw_mode(0o664);
const PROGRAM_MODE: Mode = Mode::from_raw_mode(0o775);
/// The bits of a tree entry that say that a file is a program.
const EXECUTABLE: i32 = 0o100;

/// Writes the commit's files below `root`, an empty directory.
pub fn checkout(repository: &Repository, commit: Oid, root: &OwnedFd) -> Result<(), CheckoutError> {
    let tree = repository.find_commit(commit)?.tree()?;
    write_tree(repository, &tree, root, b"")
}

fn write_tree(
    repository: &Repository,
    tree: &Tree<'_>,
    directory: &OwnedFd,
    path: &[u8],
) -> Result<(), CheckoutError> {
    for entry in tree {
        let name = entry.name_bytes();
        let path = below(path, name);
        if name.is_empty() || name.contains(&b'/') || name == b"." || name == b".." || is_git(name) {
            return Err(CheckoutError::Name(shown(&path)));
        }
        let failed = |source: std::io::Error| CheckoutError::File {
            path: shown(&path),
            source,
        };
        match (entry.kind(), entry.filemode()) {
            (Some(ObjectType::Tree), _) => {
                let inner = make_directory(directory, name).map_err(|error| failed(error.into()))?;
                write_tree(repository, &repository.find_tree(entry.id())?, &inner, &path)?;
            }
            (Some(ObjectType::Blob), 0o120_000) => {
                let target = repository.find_blob(entry.id())?;
                rustix::fs::symlinkat(target.content(), directory, name)
                    .map_err(|error| failed(error.into()))?;
            }
            (Some(ObjectType::Blob), mode) => {
                let blob = repository.find_blob(entry.id())?;
                let mode = if mode & EXECUTABLE == 0 {
                    FILE_MODE
                } else {
                    PROGRAM_MODE
                };
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file =
                    rustix::fs::openat(directory, name, flags, mode).map_err(|error| failed(error.into()))?;
                std::fs::File::from(file)
                    .write_all(blob.content())
                    .map_err(failed)?;
            }
            // A submodule: another repository, of which nothing is here.
            _ => {}
        }
    }
    Ok(())
}

fn make_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(parent, name, DIRECTORY_MODE)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}
