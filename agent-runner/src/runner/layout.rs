//! Where things are in the Pod. ARCHITECTURE.md, "A stage Pod", has the table.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

use super::git::snapshot;
use crate::loopback::Check;

/// Paths of a Pod.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

const WORKSPACE: &str = "workspace";
const ARTIFACTS: &str = "artifacts";
const RESULT: &str = "result.json";

impl Layout {
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where the launcher is put for the agent's container.
    pub fn launcher(&self) -> PathBuf {
        self.root.join("stagecraft/bin/stagecraft-launcher")
    }

    /// Where the program of the built-in agents is put, for images that hold only tools.
    pub fn agent(&self) -> PathBuf {
        self.root.join("stagecraft/bin/stagecraft-agent")
    }

    pub fn task(&self) -> PathBuf {
        self.root.join("stagecraft/task.json")
    }

    /// Volume that the agent writes to. Only names that are opened beneath it are safe.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    pub fn workspace(&self) -> PathBuf {
        self.work().join(WORKSPACE)
    }

    pub fn home(&self) -> PathBuf {
        self.work().join("home")
    }

    /// What the agent leaves here can become an artifact and is never committed.
    pub fn artifacts(&self) -> PathBuf {
        self.work().join(ARTIFACTS)
    }

    /// Artifacts of earlier stages, as STAGE/NAME.
    pub fn inputs(&self) -> PathBuf {
        self.work().join("inputs")
    }

    /// Volume of the runner alone.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    pub fn git(&self) -> PathBuf {
        self.state().join("git")
    }

    pub fn journal(&self) -> PathBuf {
        self.state().join("journal.json")
    }

    /// Directory of blobs that wait to be uploaded.
    pub fn blobs(&self) -> PathBuf {
        self.state().join("blobs")
    }

    /// Directory of the reports of checks.
    pub fn reports(&self) -> PathBuf {
        self.state().join("reports")
    }

    pub fn report(&self, check: Check) -> PathBuf {
        self.reports().join(check.as_str()).with_extension("json")
    }

    /// Its being there lets the agent's container start.
    pub fn ready(&self) -> PathBuf {
        self.state().join(Self::READY)
    }

    pub const READY: &str = "ready";

    /// The workspace as a directory, whatever the agent put in its place.
    pub fn open_workspace(&self) -> io::Result<OwnedFd> {
        let work = open_directory(&self.work())?;
        Ok(snapshot::open(&work, WORKSPACE.as_bytes(), OFlags::DIRECTORY)?)
    }

    /// The directory for artifacts, whatever the agent put in its place.
    pub fn open_artifacts(&self) -> io::Result<OwnedFd> {
        let work = open_directory(&self.work())?;
        Ok(snapshot::open(&work, ARTIFACTS.as_bytes(), OFlags::DIRECTORY)?)
    }

    /// The result file, if it is a regular one.
    pub fn open_result(&self) -> io::Result<snapshot::RegularFile> {
        let work = open_directory(&self.work())?;
        snapshot::RegularFile::open(&work, RESULT.as_bytes())
    }
}

/// Opens a directory at a path that the agent cannot change.
fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty())?)
}
