//! Takes the files of the workspace into git objects.
//!
//! The agent is presumed hijacked and may still be running: nothing it left is trusted. Each name is opened relative to the
//! directory that was opened before, one component at a time and without following links, so that no name leads out of the
//! workspace however fast it is exchanged; what counts is what was opened and read, never what was seen before.

use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};

use git2::{ErrorClass, Oid, Repository};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use stagecraft_api::limit;

use super::{below, is_git, shown};

/// Bounds of one snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most files, and most directories.
    pub files: usize,
    pub file_bytes: u64,
    pub total_bytes: u64,
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            files: limit::WORKSPACE_FILES,
            file_bytes: limit::WORKSPACE_FILE_BYTES,
            total_bytes: limit::WORKSPACE_BYTES,
            depth: 128,
        }
    }
}

/// Why a workspace cannot be taken into a commit. Paths are relative to it.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the workspace has more than {limit} files, the limit of a commit; {path:?} was one too many")]
    TooManyFiles { path: String, limit: usize },
    #[error(
        "the workspace has more than {limit} directories, the limit of a commit; {path:?} was one too many"
    )]
    TooManyDirectories { path: String, limit: usize },
    #[error("{path:?} has {bytes} bytes, over the limit of {limit} for a file of the workspace")]
    FileTooLarge { path: String, bytes: u64, limit: u64 },
    #[error(
        "the files of the workspace have more than {limit} bytes together, the limit of a commit; {path:?} was one too many"
    )]
    TooLarge { path: String, limit: u64 },
    #[error("{path:?} is more than {limit} directories deep")]
    TooDeep { path: String, limit: usize },
    #[error("{path:?} cannot be read")]
    Unreadable { path: String, source: std::io::Error },
    #[error("git objects cannot be written")]
    Objects(#[from] git2::Error),
}

/// What was taken.
#[derive(Debug)]
pub struct Snapshot {
    pub tree: Oid,
    /// Nothing is in it.
    pub empty: bool,
    /// Paths that were left out: sockets, devices, pipes, names that git refuses; at most [`SKIPPED`].
    pub skipped: Vec<String>,
}

/// Most paths that are named in a warning.
pub const SKIPPED: usize = 10;

const LINK_MODE: i32 = 0o120_000;
const FILE_MODE: i32 = 0o100_644;
const PROGRAM_MODE: i32 = 0o100_755;
const DIRECTORY_MODE: i32 = 0o040_000;

/// Takes everything below `root`.
pub fn take(repository: &Repository, root: &OwnedFd, limits: Limits) -> Result<Snapshot, SnapshotError> {
    let mut walk = Walk {
        repository,
        limits,
        files: 0,
        directories: 0,
        bytes: 0,
        skipped: Vec::new(),
    };
    let tree = walk.directory(root, b"", 0)?;
    let empty = tree.is_none();
    let tree = match tree {
        Some(tree) => tree,
        None => repository.treebuilder(None)?.write()?,
    };
    Ok(Snapshot {
        tree,
        empty,
        skipped: walk.skipped,
    })
}

struct Walk<'repository> {
    repository: &'repository Repository,
    limits: Limits,
    files: usize,
    directories: usize,
    bytes: u64,
    skipped: Vec<String>,
}

impl Walk<'_> {
    /// The tree of a directory, or none when nothing is in it: git keeps no empty directories.
    fn directory(
        &mut self,
        directory: &OwnedFd,
        path: &[u8],
        depth: usize,
    ) -> Result<Option<Oid>, SnapshotError> {
        let mut builder = self.repository.treebuilder(None)?;
        for name in self.names(directory, path)? {
            let name = name.as_bytes();
            let path = below(path, name);
            if let Some((id, mode)) = self.entry(directory, name, &path, depth)? {
                match builder.insert(name, id, mode) {
                    Ok(_) => {}
                    // Another spelling of `.git` for some file system, which no git would check out.
                    Err(error) if error.class() == ErrorClass::Tree => self.skip(&path),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if builder.is_empty() {
            Ok(None)
        } else {
            Ok(Some(builder.write()?))
        }
    }

    fn names(&self, directory: &OwnedFd, path: &[u8]) -> Result<Vec<CString>, SnapshotError> {
        let most = self.limits.files.saturating_mul(2);
        let mut names = Vec::new();
        for entry in Dir::read_from(directory).map_err(unreadable(path))? {
            let entry = entry.map_err(unreadable(path))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || is_git(name.to_bytes()) {
                continue;
            }
            if names.len() >= most {
                return Err(SnapshotError::TooManyFiles {
                    path: shown(&below(path, name.to_bytes())),
                    limit: self.limits.files,
                });
            }
            names.push(name.to_owned());
        }
        Ok(names)
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &[u8],
        depth: usize,
    ) -> Result<Option<(Oid, i32)>, SnapshotError> {
        let stat =
            rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(unreadable(path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.count_directory(path, depth)?;
                let inner = open(directory, name, OFlags::DIRECTORY).map_err(unreadable(path))?;
                let tree = self.directory(&inner, path, depth + 1)?;
                Ok(tree.map(|tree| (tree, DIRECTORY_MODE)))
            }
            FileType::Symlink => {
                self.count_file(path)?;
                let target = rustix::fs::readlinkat(directory, name, Vec::new()).map_err(unreadable(path))?;
                let id = self.repository.blob(target.as_bytes())?;
                Ok(Some((id, LINK_MODE)))
            }
            FileType::RegularFile => {
                self.count_file(path)?;
                self.file(directory, name, path).map(Some)
            }
            _ => {
                self.skip(path);
                Ok(None)
            }
        }
    }

    fn file(&mut self, directory: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(Oid, i32), SnapshotError> {
        let RegularFile { file, bytes, mode } =
            RegularFile::open(directory, name).map_err(|source| SnapshotError::Unreadable {
                path: shown(path),
                source,
            })?;
        let limit = self.limits.file_bytes;
        if bytes > limit {
            return Err(SnapshotError::FileTooLarge {
                path: shown(path),
                bytes,
                limit,
            });
        }
        // The file may grow while it is read.
        let mut content = Vec::new();
        file.take(limit + 1)
            .read_to_end(&mut content)
            .map_err(|source| SnapshotError::Unreadable {
                path: shown(path),
                source,
            })?;
        let bytes = content.len() as u64;
        if bytes > limit {
            return Err(SnapshotError::FileTooLarge {
                path: shown(path),
                bytes,
                limit,
            });
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > self.limits.total_bytes {
            return Err(SnapshotError::TooLarge {
                path: shown(path),
                limit: self.limits.total_bytes,
            });
        }
        let id = self.repository.blob(&content)?;
        let mode = if mode.contains(Mode::XUSR) {
            PROGRAM_MODE
        } else {
            FILE_MODE
        };
        Ok((id, mode))
    }

    fn skip(&mut self, path: &[u8]) {
        if self.skipped.len() < SKIPPED {
            self.skipped.push(shown(path));
        }
    }

    fn count_file(&mut self, path: &[u8]) -> Result<(), SnapshotError> {
        self.files += 1;
        if self.files > self.limits.files {
            return Err(SnapshotError::TooManyFiles {
                path: shown(path),
                limit: self.limits.files,
            });
        }
        Ok(())
    }

    fn count_directory(&mut self, path: &[u8], depth: usize) -> Result<(), SnapshotError> {
        self.directories += 1;
        if self.directories > self.limits.files {
            return Err(SnapshotError::TooManyDirectories {
                path: shown(path),
                limit: self.limits.files,
            });
        }
        if depth >= self.limits.depth {
            return Err(SnapshotError::TooDeep {
                path: shown(path),
                limit: self.limits.depth,
            });
        }
        Ok(())
    }
}

/// A regular file that was opened without following a link.
pub struct RegularFile {
    pub file: std::fs::File,
    pub bytes: u64,
    pub mode: Mode,
}

impl RegularFile {
    /// Opens one name in a directory. A pipe does not make it wait: it is opened without blocking, then refused.
    pub fn open(directory: impl AsFd, name: &[u8]) -> std::io::Result<Self> {
        let file = open(directory, name, OFlags::NONBLOCK | OFlags::NOCTTY)?;
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        Ok(Self {
            file: file.into(),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            mode: Mode::from_raw_mode(stat.st_mode),
        })
    }
}

/// Opens one name in a directory for reading; a link is an error.
pub fn open(directory: impl AsFd, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

fn unreadable(path: &[u8]) -> impl FnOnce(Errno) -> SnapshotError {
    move |error| SnapshotError::Unreadable {
        path: shown(path),
        source: error.into(),
    }
}
