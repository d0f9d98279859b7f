//! The source files of the commit that is checked: what tools have to have seen, whatever they say.

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

/// Where sources are.
const DIRECTORY: &str = "src/";
const EXTENSIONS: [&str; 8] = ["ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs"];
const FILE_MODES: [i32; 2] = [0o100_644, 0o100_755];

/// Source files by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub files: BTreeMap<String, Lines>,
}

/// How long a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines {
    pub all: u64,
    pub non_blank: u64,
}

impl Sources {
    /// Those of a commit, as git has them.
    pub fn of(repository: &Repository, commit: Oid) -> Result<Self, git2::Error> {
        let tree = repository.find_commit(commit)?.tree()?;
        let mut found = Vec::new();
        tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
            let path = entry.name().ok().map(|name| format!("{directory}{name}"));
            if entry.kind() == Some(ObjectType::Blob)
                && FILE_MODES.contains(&entry.filemode())
                && let Some(path) = path.filter(|path| is_source(path))
            {
                found.push((path, entry.id()));
            }
            TreeWalkResult::Ok
        })?;
        let mut files = BTreeMap::new();
        for (path, id) in found {
            files.insert(path, Lines::of(repository.find_blob(id)?.content()));
        }
        Ok(Self { files })
    }
}

impl Lines {
    fn of(content: &[u8]) -> Self {
        let lines = || content.split_inclusive(|byte| *byte == b'\n');
        let count = |lines: usize| u64::try_from(lines).unwrap_or(u64::MAX);
        Self {
            all: count(lines().count()),
            non_blank: count(lines().filter(|line| !line.trim_ascii().is_empty()).count()),
        }
    }
}

/// TypeScript and JavaScript below `src/`, but neither declarations nor tests.
fn is_source(path: &str) -> bool {
    let Some((stem, extension)) = path
        .strip_prefix(DIRECTORY)
        .and_then(|path| path.rsplit_once('.'))
    else {
        return false;
    };
    let stem = stem.rsplit('/').next().unwrap_or(stem);
    EXTENSIONS.contains(&extension) && ![".d", ".test", ".spec"].iter().any(|end| stem.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_declarations_and_other_files_are_no_sources() {
        for path in [
            "src/a.ts",
            "src/deep/er/b.tsx",
            "src/c.mjs",
            "src/test.ts",
            "src/d.js",
        ] {
            assert!(is_source(path), "{path}");
        }
        for path in [
            "a.ts",
            "tests/a.ts",
            "src/a.test.ts",
            "src/a.spec.tsx",
            "src/vite-env.d.ts",
            "src/a.css",
            "src/ts",
        ] {
            assert!(!is_source(path), "{path}");
        }
        assert_eq!(Lines::of(b"one\n \n\ntwo"), Lines { all: 4, non_blank: 2 });
        assert_eq!(Lines::of(b""), Lines { all: 0, non_blank: 0 });
    }
}
