//! The built application: what a build left in its directory.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use stagecraft_api::limit;
use tar::{Builder, EntryType, Header};

use crate::web;

/// Largest application, in bytes: it is held in memory.
const BYTES: u64 = 64 * 1024 * 1024;
/// Most files of it.
const FILES: usize = limit::WORKSPACE_FILES;
/// Deepest directory.
const DEPTH: usize = 64;

/// Files by path with forward slashes. Links, pipes and the like are left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Site {
    files: BTreeMap<String, Vec<u8>>,
}

impl Site {
    /// Reads a directory in which nothing runs any more. An error when it is not there, holds no file, or too much.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut site = Self {
            files: BTreeMap::new(),
        };
        let mut bytes = 0;
        if !std::fs::symlink_metadata(directory)
            .with_context(|| format!("there is no {}", directory.display()))?
            .is_dir()
        {
            bail!("{} is not a directory", directory.display());
        }
        site.walk(directory, "", DEPTH, &mut bytes)?;
        if site.files.is_empty() {
            bail!("{} holds no file", directory.display());
        }
        Ok(site)
    }

    fn walk(&mut self, directory: &Path, prefix: &str, depth: usize, bytes: &mut u64) -> anyhow::Result<()> {
        if depth == 0 {
            bail!("the directory {prefix} is more than {DEPTH} deep");
        }
        for entry in std::fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                bail!("a name in {prefix} is not UTF-8: {}", name.display());
            };
            let (path, kind) = (format!("{prefix}{name}"), entry.file_type()?);
            if kind.is_dir() {
                self.walk(&entry.path(), &format!("{path}/"), depth - 1, bytes)?;
            } else if kind.is_file() {
                *bytes = bytes.saturating_add(entry.metadata()?.len());
                if *bytes > BYTES || self.files.len() >= FILES {
                    bail!("the application has more than {BYTES} bytes or {FILES} files");
                }
                self.files.insert(path, std::fs::read(entry.path())?);
            }
        }
        Ok(())
    }

    /// As a tar archive: the same files always give the same bytes.
    pub fn archive(&self) -> io::Result<Vec<u8>> {
        let mut builder = Builder::new(Vec::new());
        for (path, content) in &self.files {
            let mut header = Header::new_gnu();
            header.set_entry_type(EntryType::Regular);
            header.set_mode(0o644);
            header.set_size(u64::try_from(content.len()).map_err(io::Error::other)?);
            builder.append_data(&mut header, path, content.as_slice())?;
        }
        builder.into_inner()
    }
}

/// Serves a directory as a deployed application is served, for as long as this process runs.
pub fn serve(directory: &Path) -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let directory = directory.to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        let served = runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            web::serve(listener, directory, std::future::pending()).await
        });
        if let Err(error) = served {
            eprintln!("the application is not served any more: {error}");
        }
    });
    Ok(address)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_same_files_give_the_same_archive_and_links_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("dist");
        assert!(Site::read(&root).is_err());
        std::fs::create_dir_all(root.join("assets")).unwrap();
        assert!(Site::read(&root).unwrap_err().to_string().contains("no file"));
        std::fs::write(root.join("index.html"), "page").unwrap();
        std::fs::write(root.join("assets/a.js"), "code").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let site = Site::read(&root).unwrap();
        let archive = site.archive().unwrap();
        std::fs::write(root.join("assets/a.js"), "code").unwrap();
        assert_eq!(Site::read(&root).unwrap().archive().unwrap(), archive);

        let mut reader = tar::Archive::new(archive.as_slice());
        let entries = reader.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (entry.path().unwrap().display().to_string(), text)
        });
        let entries: Vec<_> = entries.collect();
        assert_eq!(
            entries,
            [
                ("assets/a.js".to_owned(), "code".to_owned()),
                ("index.html".to_owned(), "page".to_owned())
            ]
        );
        std::fs::write(root.join("assets/a.js"), "other").unwrap();
        assert_ne!(Site::read(&root).unwrap(), site);
    }
}
