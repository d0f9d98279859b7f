//! Writes the project, and nothing upon another one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use anyhow::Context as _;

use super::error::WorkspaceNotEmpty;

/// As many entries of a foreign workspace as a message names.
const NAMED: usize = 3;

/// Writes `files` into the workspace. The inner error: something else is there.
pub fn write(
    workspace: &Path,
    files: &BTreeMap<String, String>,
) -> anyhow::Result<Result<(), WorkspaceNotEmpty>> {
    let cannot_read = || format!("cannot read {}", workspace.display());
    let found = top_level(workspace).with_context(cannot_read)?;
    if !found.is_empty() {
        if holds_exactly(workspace, files).with_context(cannot_read)? {
            return Ok(Ok(()));
        }
        let mut named: Vec<String> = found.iter().take(NAMED).cloned().collect();
        if found.len() > NAMED {
            named.push("…".to_owned());
        }
        let found = named.join(", ");
        return Ok(Err(WorkspaceNotEmpty { found }));
    }
    for (path, text) in files {
        let file = workspace.join(path);
        if let Some(directory) = file.parent() {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
        }
        std::fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(Ok(()))
}

fn top_level(workspace: &Path) -> io::Result<BTreeSet<String>> {
    std::fs::read_dir(workspace)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Whether the workspace holds these files and nothing else. Links are something else.
fn holds_exactly(workspace: &Path, files: &BTreeMap<String, String>) -> io::Result<bool> {
    let mut seen = 0;
    let mut directories = vec![String::new()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(workspace.join(&directory))? {
            let entry = entry?;
            let path = format!("{directory}{}", entry.file_name().to_string_lossy());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                directories.push(format!("{path}/"));
                continue;
            }
            let expected = files.get(&path).filter(|_| kind.is_file());
            let Some(expected) = expected else {
                return Ok(false);
            };
            if entry.metadata()?.len() != expected.len() as u64
                || std::fs::read(entry.path())? != expected.as_bytes()
            {
                return Ok(false);
            }
            seen += 1;
        }
    }
    Ok(seen == files.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> BTreeMap<String, String> {
        [("a.txt", "one"), ("deep/er/b.txt", "two")]
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .into()
    }

    #[test]
    fn what_is_there_already_to_the_byte_may_be_written_again() {
        let workspace = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            write(workspace.path(), &files()).unwrap().unwrap();
        }
        let written = std::fs::read_to_string(workspace.path().join("deep/er/b.txt")).unwrap();
        assert_eq!(written, "two");
    }

    #[test]
    fn nothing_is_written_upon_anything_else() {
        for path in ["c.txt", ".git", "a.txt", "deep/er/c.txt"] {
            let workspace = tempfile::tempdir().unwrap();
            let file = workspace.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "six").unwrap();
            let error = write(workspace.path(), &files()).unwrap().unwrap_err();
            let top = path.split('/').next().unwrap();
            assert_eq!(error.found, top);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "six");
            assert_eq!(
                top_level(workspace.path()).unwrap(),
                BTreeSet::from([top.to_owned()])
            );
        }
    }

    #[test]
    fn a_part_of_the_project_or_a_link_to_it_is_not_the_project() {
        let workspace = tempfile::tempdir().unwrap();
        write(workspace.path(), &files()).unwrap().unwrap();
        let file = workspace.path().join("a.txt");
        std::fs::remove_file(&file).unwrap();
        assert!(write(workspace.path(), &files()).unwrap().is_err());
        std::os::unix::fs::symlink("deep/er/b.txt", &file).unwrap();
        assert!(write(workspace.path(), &files()).unwrap().is_err());
    }
}
