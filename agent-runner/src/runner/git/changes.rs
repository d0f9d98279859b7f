//! What differs between two commits, for people who decide about it.

use git2::{Diff, DiffOptions, Oid, Patch, Repository};
use stagecraft_api::error::truncate;
use stagecraft_api::limit;
use stagecraft_api::status::Changes;

use super::shown;

/// Larger files are compared as a whole, without counting their lines.
const COUNTED_BYTES: i64 = 1024 * 1024;

/// What has changed since `base`, or since there was nothing.
pub fn since(repository: &Repository, base: Option<Oid>, commit: Oid) -> Result<Changes, git2::Error> {
    let tree = |id: Oid| repository.find_commit(id)?.tree();
    let before = base.map(tree).transpose()?;
    let mut options = DiffOptions::new();
    options.max_size(COUNTED_BYTES).skip_binary_check(false);
    let diff = repository.diff_tree_to_tree(before.as_ref(), Some(&tree(commit)?), Some(&mut options))?;
    let mut files = (0..diff.deltas().len())
        .map(|index| File::read(&diff, index))
        .collect::<Result<Vec<File>, git2::Error>>()?;
    // The largest first, and those of one size by their paths: the same for the same commits.
    files.sort_by(|one, other| (other.lines(), &one.path).cmp(&(one.lines(), &other.path)));
    let total = |count: fn(&File) -> usize| files.iter().map(count).sum::<usize>() as u64;
    let lines: Vec<String> = files.iter().map(File::to_string).collect();
    Ok(Changes {
        base: base.map(|base| base.to_string()),
        files: lines.len() as u64,
        insertions: total(|file| file.insertions),
        deletions: total(|file| file.deletions),
        stat: truncate(&lines.join("\n"), limit::STAT_BYTES),
    })
}

struct File {
    status: char,
    path: String,
    insertions: usize,
    deletions: usize,
}

impl File {
    fn read(diff: &Diff<'_>, index: usize) -> Result<Self, git2::Error> {
        // There is no patch of what is compared as a whole.
        let (_, insertions, deletions) = match Patch::from_diff(diff, index)? {
            Some(patch) => patch.line_stats()?,
            None => (0, 0, 0),
        };
        let delta = diff.get_delta(index);
        let path = delta.as_ref().and_then(|delta| delta.new_file().path_bytes());
        Ok(Self {
            status: match delta.as_ref().map(git2::DiffDelta::status) {
                Some(git2::Delta::Added) => 'A',
                Some(git2::Delta::Deleted) => 'D',
                _ => 'M',
            },
            path: shown(path.unwrap_or_default()),
            insertions,
            deletions,
        })
    }

    fn lines(&self) -> usize {
        self.insertions + self.deletions
    }
}

impl std::fmt::Display for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            status,
            path,
            insertions,
            deletions,
        } = self;
        write!(formatter, "{status} {path} +{insertions} -{deletions}")
    }
}
