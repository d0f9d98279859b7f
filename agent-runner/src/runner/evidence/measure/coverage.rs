//! How much of the sources unit tests ran.

use serde_json::{Map, json};
use stagecraft_api::error::truncate;

use super::reports::TestsReport;
use super::{FILE_BYTES, Tally};
use crate::runner::evidence::sources::Sources;

/// As many of the least covered files are named.
const LEAST_COVERED: usize = 5;

/// Percent of the lines of all sources, in hundredths rounded down, so that 79.999 is less than 80.
pub fn measure(tally: &mut Tally, report: &TestsReport, sources: &Sources) -> Option<f64> {
    let (mut lines, mut covered) = (0_u64, 0_u64);
    let mut plausible = true;
    let mut least = Vec::new();
    for (file, known) in &sources.files {
        let Some(found) = report.coverage.files.get(file) else {
            if known.non_blank > 0 {
                let message = format!(
                    "the coverage of {file} was not measured, so none of its lines counts as covered"
                );
                tally.find(Some(file), None, Some("not-covered"), &message);
                lines = lines.saturating_add(known.non_blank);
                least.push((0.0, file));
            }
            continue;
        };
        if found.covered > found.lines || found.lines > known.all {
            let message = format!(
                "{} of {} lines are said to be covered, but the file has {}: coverage has to come from the tool alone",
                found.covered, found.lines, known.all
            );
            tally.find(Some(file), None, Some("coverage-implausible"), &message);
            plausible = false;
            continue;
        }
        lines = lines.saturating_add(found.lines);
        covered = covered.saturating_add(found.covered);
        if found.covered < found.lines {
            least.push((percent(found.covered, found.lines), file));
        }
    }
    for file in report
        .coverage
        .files
        .keys()
        .filter(|file| !sources.files.contains_key(*file))
    {
        let message =
            "its coverage is reported, but the commit has no such source: tests must not make sources";
        tally.find(Some(file), None, Some("coverage-implausible"), message);
        plausible = false;
    }
    if plausible && lines == 0 {
        let message = "the commit has no source below src/ whose lines could be covered";
        tally.find(None, None, Some("no-sources"), message);
    }
    if !plausible || lines == 0 {
        return None;
    }
    let all = percent(covered, lines);
    tally.metrics.insert("linesCovered".to_owned(), all);
    tally.fact("linesCovered", all);
    least.sort_by(|one, other| one.0.total_cmp(&other.0));
    least.truncate(LEAST_COVERED);
    if !least.is_empty() {
        let least = least
            .into_iter()
            .map(|(percent, file)| (truncate(file, FILE_BYTES), json!(percent)));
        tally.fact("leastCovered", least.collect::<Map<_, _>>());
    }
    Some(all)
}

/// In hundredths, rounded down.
#[expect(clippy::cast_precision_loss, reason = "it is at most ten thousand")]
pub fn percent(part: u64, whole: u64) -> f64 {
    let hundredths = u128::from(part) * 10_000 / u128::from(whole.max(1));
    u64::try_from(hundredths).unwrap_or(u64::MAX) as f64 / 100.0
}
