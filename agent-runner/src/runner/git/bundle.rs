//! Git bundles: a commit with its whole history in one file, which any git can clone.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use git2::{Oid, Repository};
use sha2::{Digest as _, Sha256};
use stagecraft_api::Digest;

const VERSION_2: &str = "# v2 git bundle";
const VERSION_3: &str = "# v3 git bundle";
/// The only capability of version 3 that says nothing new.
const SHA1: &str = "@object-format=sha1";
/// Longest line of the header, and most lines: a bundle of ours has four short ones.
const LINE_BYTES: u64 = 4096;
const LINES: usize = 256;
/// The branch that a bundle of ours holds.
const BRANCH: &str = "refs/heads/main";

/// Why a bundle cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("the bundle cannot be read or written")]
    File(#[from] io::Error),
    #[error("the file is not a git bundle: {0}")]
    Header(&'static str),
    #[error("the pack in the bundle is not valid")]
    Pack(#[source] git2::Error),
    #[error("the bundle does not hold the commit {commit}")]
    NoCommit { commit: String, source: git2::Error },
    #[error("the commit cannot be packed")]
    Build(#[source] git2::Error),
}

/// Takes all objects of a bundle into the repository and finds `commit` among them. libgit2 names each object by the hash
/// of what it has read, so that the commit is what its name says.
pub fn import(repository: &Repository, bundle: &Path, commit: &str) -> Result<Oid, BundleError> {
    let mut reader = BufReader::with_capacity(128 * 1024, File::open(bundle)?);
    read_header(&mut reader)?;
    let odb = repository.odb().map_err(BundleError::Pack)?;
    let mut writer = odb.packwriter().map_err(BundleError::Pack)?;
    io::copy(&mut reader, &mut writer).map_err(|error| match error.raw_os_error() {
        Some(_) => BundleError::File(error),
        None => BundleError::Pack(git2::Error::from_str(&error.to_string())),
    })?;
    writer.commit().map_err(BundleError::Pack)?;
    drop(writer);
    let missing = |source| BundleError::NoCommit {
        commit: commit.to_owned(),
        source,
    };
    let id = Oid::from_str(commit).map_err(missing)?;
    repository.find_commit(id).map_err(missing)?;
    Ok(id)
}

/// Reads up to the empty line before the pack.
fn read_header(reader: &mut impl BufRead) -> Result<(), BundleError> {
    let first = read_line(reader)?;
    if first != VERSION_2 && first != VERSION_3 {
        return Err(BundleError::Header("it is of no known version"));
    }
    for _ in 0..LINES {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.starts_with('-') {
            return Err(BundleError::Header(
                "it builds upon commits that it does not hold",
            ));
        }
        if line.starts_with('@') && line != SHA1 {
            return Err(BundleError::Header("it asks for a capability that is not known"));
        }
    }
    Err(BundleError::Header("its header is too long"))
}

fn read_line(reader: &mut impl BufRead) -> Result<String, BundleError> {
    let mut line = Vec::new();
    reader.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(BundleError::Header("its header ends early or has a long line"));
    }
    String::from_utf8(line).map_err(|_| BundleError::Header("its header is not text"))
}

/// A file that was written, as the store names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub digest: Digest,
    pub bytes: u64,
}

/// Writes a commit with its whole history as a bundle. `HEAD` stands beside the branch, so that a plain `git clone` of the
/// file checks it out.
pub fn export(repository: &Repository, commit: Oid, bundle: &Path) -> Result<Written, BundleError> {
    let mut writer = HashingWriter::new(BufWriter::with_capacity(128 * 1024, File::create(bundle)?));
    write!(writer, "{VERSION_2}\n{commit} {BRANCH}\n{commit} HEAD\n\n")?;
    let mut walk = repository.revwalk().map_err(BundleError::Build)?;
    walk.push(commit).map_err(BundleError::Build)?;
    let mut pack = repository.packbuilder().map_err(BundleError::Build)?;
    pack.set_threads(1);
    pack.insert_walk(&mut walk).map_err(BundleError::Build)?;
    let mut failure = None;
    let built = pack.foreach(|bytes| match writer.write_all(bytes) {
        Ok(()) => true,
        Err(error) => {
            failure = Some(error);
            false
        }
    });
    if let Some(error) = failure {
        return Err(error.into());
    }
    built.map_err(BundleError::Build)?;
    Ok(writer.finish()?)
}

/// Hashes what passes through.
pub struct HashingWriter<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    pub fn finish(mut self) -> io::Result<Written> {
        self.inner.flush()?;
        Ok(Written {
            digest: Digest::from_hash(self.hash),
            bytes: self.bytes,
        })
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
