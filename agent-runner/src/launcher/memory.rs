//! Whether the kernel killed something in the container for want of memory.

use std::path::{Path, PathBuf};

/// Counts since the start, because a container's control group may be older than its command.
pub struct OomKills {
    file: Option<PathBuf>,
    before: u64,
}

impl OomKills {
    /// Finds the counter below the root of the control groups: version 2, then version 1.
    pub fn watch(root: &Path) -> Self {
        let candidates = [
            root.join("memory.events"),
            root.join("memory/memory.oom_control"),
            root.join("memory.oom_control"),
        ];
        let found = candidates
            .into_iter()
            .find_map(|file| count(&file).map(|before| (file, before)));
        match found {
            Some((file, before)) => Self {
                file: Some(file),
                before,
            },
            None => Self {
                file: None,
                before: 0,
            },
        }
    }

    pub fn happened(&self) -> bool {
        let now = self.file.as_deref().and_then(count);
        now.is_some_and(|now| now > self.before)
    }
}

/// Both versions have a line `oom_kill N`.
fn count(file: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_since_the_start_counts_in_both_versions() {
        for (path, text) in [
            ("memory.events", "low 0\noom 3\noom_kill N\noom_group_kill 0\n"),
            (
                "memory/memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill N\n",
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            let file = root.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, text.replace('N', "2")).unwrap();
            let kills = OomKills::watch(root.path());
            assert!(!kills.happened(), "{path}");
            std::fs::write(&file, text.replace('N', "3")).unwrap();
            assert!(kills.happened(), "{path}");
        }
    }

    #[test]
    fn without_control_groups_nothing_happened() {
        assert!(!OomKills::watch(Path::new("/nonexistent")).happened());
    }
}
