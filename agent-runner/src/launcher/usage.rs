//! What the container took of the machine, as its control group has counted it.

use std::fs;
use std::path::Path;

use stagecraft_api::status::Usage;

/// Processor time and the most memory so far, below the root of the control groups: version 2, then version 1. None where
/// there are none.
pub fn measure(root: &Path) -> Option<Usage> {
    Some(Usage {
        cpu_millis: cpu_millis(root)?,
        peak_memory_bytes: number(&root.join("memory.peak"))
            .or_else(|| number(&root.join("memory/memory.max_usage_in_bytes")))
            .unwrap_or_default(),
    })
}

fn cpu_millis(root: &Path) -> Option<u64> {
    let stat = fs::read_to_string(root.join("cpu.stat")).unwrap_or_default();
    let micros = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<u64>().ok());
    micros.map(|micros| micros / 1_000).or_else(|| {
        let nanos = number(&root.join("cpuacct/cpuacct.usage"))?;
        Some(nanos / 1_000_000)
    })
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let expected = Some(Usage {
            cpu_millis: 1_234,
            peak_memory_bytes: 5_000_000,
        });
        let second = group(&[
            ("cpu.stat", "usage_usec 1234567\nuser_usec 1000000\n"),
            ("memory.peak", "5000000\n"),
        ]);
        assert_eq!(measure(second.path()), expected);
        let first = group(&[
            ("cpuacct/cpuacct.usage", "1234567890\n"),
            ("memory/memory.max_usage_in_bytes", "5000000\n"),
        ]);
        assert_eq!(measure(first.path()), expected);
    }

    #[test]
    fn without_control_groups_nothing_is_claimed() {
        assert_eq!(measure(Path::new("/nonexistent")), None);
    }
}
