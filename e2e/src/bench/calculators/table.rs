//! What the status of finished Workflows says about time and means: pure.

use std::fmt::Write as _;
use std::time::Duration;

use stagecraft_api::error::{one_line, truncate};
use stagecraft_api::status::{StagePhase, StageStatus};
use stagecraft_api::{WorkflowPhase, WorkflowStatus};

use crate::bench::statistics::Sample;
use crate::bench::verdict;

/// Longest message of somebody else in an error, in bytes.
const MESSAGE: usize = 400;
const MEBIBYTE: f64 = 1_048_576.0;

/// Less than so much wall time, for every single Workflow.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub seconds: f64,
}

/// One finished Workflow.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub name: String,
    /// Wall time in seconds, from before the request to after the news.
    took: f64,
    stages: Vec<Stage>,
}

/// One stage of it. What the status does not tell is None.
#[derive(Clone, Debug, PartialEq)]
struct Stage {
    name: String,
    attempts: u32,
    /// From the beginning of the first attempt to the end of the last one, in seconds.
    wall: Option<f64>,
    cpu_seconds: Option<f64>,
    peak_mebibytes: Option<f64>,
}

impl Run {
    pub fn of(name: &str, took: Duration, status: &WorkflowStatus) -> Self {
        Self {
            name: name.to_owned(),
            took: took.as_secs_f64(),
            stages: status.stages.iter().map(Stage::of).collect(),
        }
    }

    /// The processor time of all stages, as far as they tell.
    fn cpu_seconds(&self) -> Option<f64> {
        self.stages
            .iter()
            .filter_map(|stage| stage.cpu_seconds)
            .reduce(|sum, seconds| sum + seconds)
    }
}

impl Stage {
    fn of(status: &StageStatus) -> Self {
        let since = status.started_at.zip(status.finished_at);
        let peak = status.usage.map(|usage| usage.peak_memory_bytes);
        Self {
            name: status.name.clone(),
            attempts: status.attempt,
            wall: since.map(|(start, end)| Duration::from_millis(end.millis_since(start)).as_secs_f64()),
            cpu_seconds: status
                .usage
                .map(|usage| Duration::from_millis(usage.cpu_millis).as_secs_f64()),
            // Zero stands for a node that does not tell.
            peak_mebibytes: peak.filter(|bytes| *bytes > 0).map(mebibytes),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no container has 2^52 bytes")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / MEBIBYTE
}

/// A table with a row for each stage and one for the whole, and how it compares with the target.
pub fn report(title: &str, target: Target, runs: &[Run]) -> String {
    let mut rows = vec![
        [
            "stage",
            "wall min [s]",
            "mean [s]",
            "max [s]",
            "CPU mean [s]",
            "peak memory max [MiB]",
        ]
        .map(str::to_owned),
    ];
    rows.extend(names(runs).into_iter().map(|name| {
        let stages = || {
            runs.iter()
                .flat_map(|run| &run.stages)
                .filter(|stage| stage.name == name)
        };
        row(
            name,
            stages().filter_map(|stage| stage.wall),
            stages().filter_map(|stage| stage.cpu_seconds),
            stages().filter_map(|stage| stage.peak_mebibytes),
        )
    }));
    let all = || runs.iter().flat_map(|run| &run.stages);
    rows.push(row(
        "whole Workflow",
        runs.iter().map(|run| run.took),
        runs.iter().filter_map(Run::cpu_seconds),
        all().filter_map(|stage| stage.peak_mebibytes),
    ));

    let mut text = format!("{title}: {} measured\n", runs.len());
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    for row in &rows {
        let mut line = " ".to_owned();
        for (index, (cell, width)) in row.iter().zip(widths).enumerate() {
            // Names begin in one column, numbers end in one.
            let _ = if index == 0 {
                write!(line, " {cell:<width$}")
            } else {
                write!(line, "  {cell:>width$}")
            };
        }
        let _ = writeln!(text, "{line}");
    }
    for (run, stage) in runs
        .iter()
        .flat_map(|run| run.stages.iter().map(move |stage| (run, stage)))
    {
        if stage.attempts > 1 {
            let Stage { name, attempts, .. } = stage;
            let _ = writeln!(text, "  {}: stage {name} took {attempts} attempts", run.name);
        }
    }
    let longest = Sample::new(runs.iter().map(|run| run.took).collect()).maximum();
    let _ = writeln!(
        text,
        "  longest {longest:.1} s (target: under {:.0}): {}",
        target.seconds,
        verdict(longest < target.seconds)
    );
    text
}

/// Every stage, in the order in which they first come.
fn names(runs: &[Run]) -> Vec<&str> {
    let mut names = Vec::new();
    for stage in runs.iter().flat_map(|run| &run.stages) {
        if !names.contains(&stage.name.as_str()) {
            names.push(&stage.name);
        }
    }
    names
}

fn row(
    name: &str,
    wall: impl Iterator<Item = f64>,
    cpu_seconds: impl Iterator<Item = f64>,
    peak_mebibytes: impl Iterator<Item = f64>,
) -> [String; 6] {
    let [wall, cpu_seconds, peak_mebibytes] =
        [wall.collect(), cpu_seconds.collect(), peak_mebibytes.collect()].map(Sample::new);
    [
        name.to_owned(),
        cell(wall.minimum(), 2),
        cell(wall.mean(), 2),
        cell(wall.maximum(), 2),
        cell(cpu_seconds.mean(), 2),
        cell(peak_mebibytes.maximum(), 1),
    ]
}

/// A number, or a dash where nobody measured one.
fn cell(number: f64, decimals: usize) -> String {
    if number.is_finite() {
        format!("{number:.decimals$}")
    } else {
        "-".to_owned()
    }
}

/// Why a Workflow that ended does not count; None when it completed.
pub fn shortcoming(status: &WorkflowStatus) -> Option<String> {
    (status.phase != WorkflowPhase::Completed).then(|| standing(status))
}

/// Where a Workflow stands: its phase, the stage that matters, and what that says.
pub fn standing(status: &WorkflowStatus) -> String {
    let phase = status.phase.as_str();
    let failed = status
        .stages
        .iter()
        .find(|stage| stage.phase == StagePhase::Failed);
    // While nothing failed, what it is at; before there are stages, what it says of itself.
    let Some(stage) = failed.or_else(|| status.stages.iter().find(|stage| stage.name == status.stage)) else {
        let refused = status
            .conditions
            .iter()
            .find(|condition| condition.status == "False" && !condition.message.is_empty())
            .map_or(status.message.as_str(), |condition| condition.message.as_str());
        return if refused.is_empty() {
            format!("{phase}, without a word from the operator")
        } else {
            format!("{phase}: {}", said(refused))
        };
    };
    let mut text = format!(
        "{phase}, stage {} {:?} with attempt {}",
        stage.name, stage.phase, stage.attempt
    );
    let message = match &stage.error {
        Some(error) => {
            let _ = write!(text, ", {}", error.code);
            &error.message
        }
        None if stage.message.is_empty() => &status.message,
        None => &stage.message,
    };
    let _ = write!(text, ": {}", said(message));
    if let Some(action) = stage
        .error
        .as_ref()
        .and_then(|error| error.suggested_action.as_ref())
    {
        let _ = write!(text, "; {}", said(action));
    }
    text
}

fn said(message: &str) -> String {
    truncate(&one_line(message), MESSAGE)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
