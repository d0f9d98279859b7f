//! Makes what the agent wrote readable for the runner, which has another UID and a group in common.
//!
//! When this runs, every other process of the container is dead, so what was looked at is what is changed. Links are never
//! followed, because the agent may have left some that lead out of the workspace.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat};
use rustix::io::Errno;

/// A workspace that is deeper cannot be committed anyway, and each level holds a descriptor.
const DEPTH: usize = 128;
/// Most problems that are told.
const PROBLEMS: usize = 10;

/// Gives the group what the owner has. Answers what went wrong.
pub fn share(workspace: &Path, result: &Path) -> Vec<String> {
    let mut sharing = Sharing {
        owner: rustix::process::geteuid().as_raw(),
        group: None,
        problems: Vec::new(),
    };
    sharing.group = workspace
        .parent()
        .and_then(|parent| rustix::fs::stat(parent).ok())
        .map(|stat| stat.st_gid);
    sharing.top(workspace);
    sharing.top(result);
    sharing.problems
}

struct Sharing {
    owner: u32,
    /// Group of the volume: a file that was moved here may have another.
    group: Option<u32>,
    problems: Vec<String>,
}

impl Sharing {
    fn top(&mut self, path: &Path) {
        let outcome = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).and_then(|stat| {
            let is_directory = self.entry(CWD, path, &stat)?;
            if is_directory {
                let directory = open_directory(CWD, path)?;
                self.directory(&directory, DEPTH)?;
            }
            Ok(())
        });
        if let Err(error) = outcome
            && error != Errno::NOENT
        {
            self.problem(&path.display().to_string(), error);
        }
    }

    fn directory(&mut self, directory: &OwnedFd, depth: usize) -> Result<(), Errno> {
        let names: Vec<CString> = Dir::read_from(directory)?
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name().to_owned()))
            .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
            .collect();
        for name in names {
            let outcome = rustix::fs::statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).and_then(|stat| {
                if self.entry(directory, &name, &stat)? && depth > 0 {
                    self.directory(&open_directory(directory, &name)?, depth - 1)?;
                }
                Ok(())
            });
            if let Err(error) = outcome {
                self.problem(&name.to_string_lossy(), error);
            }
        }
        Ok(())
    }

    /// Shares one file or directory. Answers whether it is a directory to go into.
    fn entry<P: rustix::path::Arg + Copy>(
        &self,
        directory: impl std::os::fd::AsFd,
        name: P,
        stat: &Stat,
    ) -> Result<bool, Errno> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_directory = kind == FileType::Directory;
        let mode = Mode::from_raw_mode(stat.st_mode);
        if stat.st_uid != self.owner || !(is_directory || kind == FileType::RegularFile) {
            return Ok(is_directory);
        }
        if let Some(group) = self.group
            && stat.st_gid != group
        {
            // Not allowed when the user is not in the group; the mode may still be enough.
            let _ = rustix::fs::chownat(
                &directory,
                name,
                None,
                Some(Gid::from_raw(group)),
                AtFlags::SYMLINK_NOFOLLOW,
            );
        }
        let mut wanted = mode | Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WGRP;
        if is_directory {
            wanted |= Mode::XUSR | Mode::XGRP;
        } else if mode.contains(Mode::XUSR) {
            wanted |= Mode::XGRP;
        }
        if wanted != mode {
            rustix::fs::chmodat(&directory, name, wanted, AtFlags::empty())?;
        }
        Ok(is_directory)
    }

    fn problem(&mut self, name: &str, error: Errno) {
        if self.problems.len() < PROBLEMS {
            self.problems
                .push(format!("{name:?} cannot be shared with the runner: {error}"));
        }
    }
}

fn open_directory(directory: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn the_group_gets_what_the_owner_has_and_links_are_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::set_permissions(outside.path(), Permissions::from_mode(0o600)).unwrap();
        let workspace = root.path().join("workspace");
        let inner = workspace.join("inner");
        fs::create_dir_all(&inner).unwrap();
        for (name, mode) in [("plain", 0o600), ("program", 0o700), ("none", 0o000)] {
            fs::write(inner.join(name), "").unwrap();
            fs::set_permissions(inner.join(name), Permissions::from_mode(mode)).unwrap();
        }
        symlink(outside.path(), inner.join("link")).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o000)).unwrap();

        let problems = share(&workspace, &root.path().join("missing.json"));

        assert_eq!(problems, Vec::<String>::new());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&inner), 0o770);
        assert_eq!(mode(&inner.join("plain")), 0o660);
        assert_eq!(mode(&inner.join("program")), 0o770);
        assert_eq!(mode(&inner.join("none")), 0o660);
        assert_eq!(mode(outside.path()), 0o600);
    }
}
