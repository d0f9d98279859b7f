//! Runs that were read: immutable, so a copy is as good as the ConfigMap.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stagecraft_api::Digest;
use stagecraft_api::run::Run;

/// Bytes of runs, as JSON, that are kept whatever else is read. Twice as much is held at the most. The runs of 5,000 Workflows of
/// the built-in templates fit.
const BYTES: usize = 32 << 20;

/// Runs by digest. Those that were not asked for in a long time go first.
#[derive(Debug)]
pub struct Runs {
    generations: Mutex<Generations>,
    bytes: usize,
}

/// What was asked for lately, and what was before that. When the young are too many, they take the place of the old.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Digest, (Run, usize)>,
    young_bytes: usize,
    old: HashMap<Digest, (Run, usize)>,
}

impl Default for Runs {
    fn default() -> Self {
        Self::holding(BYTES)
    }
}

impl Runs {
    fn holding(bytes: usize) -> Self {
        Self {
            generations: Mutex::default(),
            bytes,
        }
    }

    pub fn get(&self, digest: &Digest) -> Option<Run> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((run, _)) = generations.young.get(digest) {
            return Some(run.clone());
        }
        let (run, bytes) = generations.old.remove(digest)?;
        generations.keep(digest.clone(), run.clone(), bytes, self.bytes);
        Some(run)
    }

    pub fn insert(&self, digest: Digest, run: Run) {
        let bytes = serde_json::to_vec(&run).map_or(0, |text| text.len());
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.keep(digest, run, bytes, self.bytes);
    }
}

impl Generations {
    fn keep(&mut self, digest: Digest, run: Run, bytes: usize, most: usize) {
        if self.young_bytes + bytes > most {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if let Some((_, replaced)) = self.young.insert(digest, (run, bytes)) {
            self.young_bytes -= replaced;
        }
        self.young_bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(template: &str) -> Run {
        serde_json::from_value(serde_json::json!({
            "template": template, "project": {"name": "p", "description": "", "requirements": ["x"]},
            "priority": "medium", "stages": [],
        }))
        .unwrap()
    }

    fn digest(number: usize) -> Digest {
        Digest::of(number.to_string().as_bytes())
    }

    #[test]
    fn what_is_asked_for_stays_and_what_is_not_goes() {
        let size = serde_json::to_vec(&run("t")).unwrap().len();
        let runs = Runs::holding(10 * size);
        runs.insert(digest(0), run("t"));
        for number in 1..1_000 {
            runs.insert(digest(number), run("t"));
            assert!(runs.get(&digest(0)).is_some(), "lost at {number}");
        }
        let kept = (0..1_000).filter(|number| runs.get(&digest(*number)).is_some());
        assert!((10..=20).contains(&kept.count()));
    }

    #[test]
    fn the_runs_of_five_thousand_workflows_are_read_once() {
        let runs = Runs::default();
        let words = "w".repeat(4_000);
        for number in 0..5_000 {
            runs.insert(digest(number), run(&words));
        }
        for _ in 0..2 {
            let kept = (0..5_000).filter(|number| runs.get(&digest(*number)).is_some());
            assert_eq!(kept.count(), 5_000);
        }
    }
}
