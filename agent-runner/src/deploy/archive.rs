//! The built application as a layer of an image: what the archive holds is checked, and written in one way only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Component, Path};

use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use tar::{Archive, EntryType, Header};

/// Most entries of the archive.
const ENTRIES: usize = limit::WORKSPACE_FILES;
/// Largest sum of the files, in bytes: the layer has to be a blob.
const TOTAL_BYTES: u64 = limit::BLOB_BYTES;
/// Longest path, in bytes.
const PATH_BYTES: usize = 1024;
/// What a visitor gets first.
const INDEX: &str = "index.html";
const DIRECTORY_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;
const PROGRAM_MODE: u32 = 0o755;

/// Why an archive is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    #[error("the archive holds {path:?}, which is neither a file nor a directory")]
    Kind { path: String },
    #[error("the archive holds the path {path:?}, which does not stay below the application's directory")]
    Path { path: String },
    #[error("the archive holds {path:?} twice, or as a file and as a directory")]
    Twice { path: String },
    #[error("the archive holds more than {ENTRIES} files and directories")]
    TooMany,
    #[error("the files of the archive have more than {TOTAL_BYTES} bytes together")]
    TooLarge,
    #[error("the archive holds no {INDEX}")]
    NoIndex,
}

/// Where the files of an archive are.
#[derive(Debug)]
pub struct Site {
    /// By path, with forward slashes.
    files: BTreeMap<String, Content>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    offset: u64,
    bytes: u64,
}

impl Site {
    /// Reads what the archive holds, without its content.
    pub fn survey(archive: &File) -> Result<Self, ArchiveError> {
        let mut files = BTreeMap::new();
        let mut directories = std::collections::BTreeSet::new();
        let (mut total, mut count) = (0_u64, 0);
        let mut reader = Archive::new(archive);
        for entry in reader.entries().map_err(ArchiveError::Read)? {
            let entry = entry.map_err(ArchiveError::Read)?;
            count += 1;
            if count > ENTRIES {
                return Err(ArchiveError::TooMany);
            }
            let shown = truncate(&String::from_utf8_lossy(&entry.path_bytes()), 256);
            let path =
                relative(&entry.path_bytes()).ok_or_else(|| ArchiveError::Path { path: shown.clone() })?;
            match entry.header().entry_type() {
                EntryType::Directory => {
                    directories.insert(path);
                }
                EntryType::Regular if !path.is_empty() => {
                    total = total.saturating_add(entry.size());
                    if total > TOTAL_BYTES {
                        return Err(ArchiveError::TooLarge);
                    }
                    let content = Content {
                        offset: entry.raw_file_position(),
                        bytes: entry.size(),
                    };
                    if files.insert(path, content).is_some() {
                        return Err(ArchiveError::Twice { path: shown });
                    }
                }
                _ => return Err(ArchiveError::Kind { path: shown }),
            }
        }
        directories.extend(files.keys().flat_map(|path| parents(path)).map(str::to_owned));
        if let Some(path) = directories.into_iter().find(|path| files.contains_key(path)) {
            return Err(ArchiveError::Twice { path });
        }
        if !files.contains_key(INDEX) {
            return Err(ArchiveError::NoIndex);
        }
        Ok(Self { files })
    }

    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// Writes the files below `root` as the content of a layer: the same files give the same bytes.
    pub fn write_layer(&self, archive: &File, root: &str, layer: &mut dyn Write) -> io::Result<()> {
        let mut entries: BTreeMap<String, Option<Content>> = BTreeMap::new();
        for (path, content) in &self.files {
            let path = format!("{root}/{path}");
            entries.extend(parents(&path).map(|parent| (format!("{parent}/"), None)));
            entries.insert(path, Some(*content));
        }
        let mut builder = tar::Builder::new(layer);
        for (path, content) in entries {
            match content {
                None => append(&mut builder, &path, DIRECTORY_MODE, 0, io::empty())?,
                Some(Content { offset, bytes }) => {
                    let mut source = archive;
                    source.seek(SeekFrom::Start(offset))?;
                    append(&mut builder, &path, FILE_MODE, bytes, source.take(bytes))?;
                }
            }
        }
        builder.finish()
    }
}

/// Writes one program as the content of a layer.
pub fn write_program(program: &File, name: &str, layer: &mut dyn Write) -> io::Result<()> {
    let bytes = program.metadata()?.len();
    let mut builder = tar::Builder::new(layer);
    append(&mut builder, name, PROGRAM_MODE, bytes, program.take(bytes))?;
    builder.finish()
}

/// Nothing of the machine or of the moment gets in: no owner, no time.
fn append(
    builder: &mut tar::Builder<&mut dyn Write>,
    path: &str,
    mode: u32,
    bytes: u64,
    content: impl io::Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(if path.ends_with('/') {
        EntryType::Directory
    } else {
        EntryType::Regular
    });
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    builder.append_data(&mut header, path, content)
}

/// A path of the archive in its only spelling; empty for the directory itself, none when it leads out of it.
fn relative(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    if path.len() > PATH_BYTES || path.contains(['\0', '\\']) {
        return None;
    }
    let mut parts = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

/// The directories above a path.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(end, _)| path.get(..end))
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Path, kind and content.
    type Entry<'entry> = (&'entry str, EntryType, &'entry [u8]);

    /// An archive with entries as they are given, however wrong.
    fn archive(entries: &[Entry<'_>]) -> File {
        let mut builder = tar::Builder::new(tempfile::tempfile().unwrap());
        for (path, kind, content) in entries {
            let mut header = Header::new_gnu();
            // `set_path` refuses what must be refused here.
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_mode(0o4777);
            header.set_uid(1000);
            header.set_mtime(1_700_000_000);
            if *kind == EntryType::Symlink {
                header.set_link_name("/etc/passwd").unwrap();
            }
            header.set_cksum();
            builder.append(&header, *content).unwrap();
        }
        let mut file = builder.into_inner().unwrap();
        file.rewind().unwrap();
        file
    }

    fn layer(file: &File) -> Vec<u8> {
        let site = Site::survey(file).unwrap();
        let mut layer = Vec::new();
        site.write_layer(file, "srv", &mut layer).unwrap();
        layer
    }

    const FILE: EntryType = EntryType::Regular;
    const DIRECTORY: EntryType = EntryType::Directory;

    #[test]
    fn only_files_and_directories_that_stay_inside_are_taken() {
        let index: Entry<'_> = (INDEX, FILE, b"x");
        let cases: [(&str, &[Entry<'_>], &str); 14] = [
            ("a file alone", &[index], ""),
            (
                "with dots before",
                &[("./", DIRECTORY, b""), ("./index.html", FILE, b"x")],
                "",
            ),
            ("deep", &[index, ("a/b/c.js", FILE, b"x")], ""),
            ("the way out", &[index, ("../x", FILE, b"x")], "does not stay"),
            (
                "the way out and in",
                &[index, ("a/../../x", FILE, b"x")],
                "does not stay",
            ),
            (
                "an absolute path",
                &[index, ("/etc/passwd", FILE, b"x")],
                "does not stay",
            ),
            ("a backslash", &[index, ("a\\b", FILE, b"x")], "does not stay"),
            ("a link", &[index, ("l", EntryType::Symlink, b"")], "neither"),
            ("a hard link", &[index, ("l", EntryType::Link, b"")], "neither"),
            ("a device", &[index, ("d", EntryType::Char, b"")], "neither"),
            ("a pipe", &[index, ("p", EntryType::Fifo, b"")], "neither"),
            ("twice the same", &[index, ("./index.html", FILE, b"y")], "twice"),
            (
                "a file that is a directory",
                &[index, ("a", FILE, b""), ("a/b", FILE, b"")],
                "twice",
            ),
            ("no start page", &[("a.html", FILE, b"x")], "no index.html"),
        ];
        for (what, entries, problem) in cases {
            match Site::survey(&archive(entries)) {
                Ok(_) => assert_eq!(problem, "", "{what}"),
                Err(error) => {
                    assert!(!problem.is_empty(), "{what}: {error}");
                    assert!(error.to_string().contains(problem), "{what}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_file_that_claims_more_than_the_limit_is_refused_without_being_read() {
        let mut header = Header::new_gnu();
        header.set_path("index.html").unwrap();
        header.set_size(TOTAL_BYTES + 1);
        header.set_cksum();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.rewind().unwrap();
        assert!(matches!(Site::survey(&file), Err(ArchiveError::TooLarge)));
    }

    #[test]
    fn what_is_no_archive_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 2048]).unwrap();
        file.rewind().unwrap();
        assert!(matches!(Site::survey(&file), Err(ArchiveError::Read(_))));
    }

    #[test]
    fn order_owners_times_and_modes_of_the_archive_leave_no_trace() {
        let one = archive(&[
            (INDEX, FILE, b"start"),
            ("assets/app.js", FILE, b"code"),
            ("empty", DIRECTORY, b""),
        ]);
        let other = archive(&[
            ("assets/", DIRECTORY, b""),
            ("./assets/app.js", FILE, b"code"),
            ("./index.html", FILE, b"start"),
        ]);
        assert_eq!(layer(&one), layer(&other));
    }

    #[test]
    fn a_layer_holds_the_files_below_their_directory_and_belongs_to_root() {
        let long = format!("assets/{}.js", "x".repeat(80));
        let file = archive(&[(INDEX, FILE, b"start"), (&long, FILE, b"code")]);
        let layer = layer(&file);
        let mut found = Vec::new();
        for entry in Archive::new(layer.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!(
                (
                    header.uid().unwrap(),
                    header.gid().unwrap(),
                    header.mtime().unwrap()
                ),
                (0, 0, 0)
            );
            let path = entry.path().unwrap().display().to_string();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            found.push((path, header.mode().unwrap(), content));
        }
        let expected = [
            ("srv/".to_owned(), 0o755, String::new()),
            ("srv/assets/".to_owned(), 0o755, String::new()),
            (format!("srv/{long}"), 0o644, "code".to_owned()),
            ("srv/index.html".to_owned(), 0o644, "start".to_owned()),
        ];
        assert_eq!(found, expected);
    }
}
