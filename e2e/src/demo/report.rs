//! What stays on the screen at the end.

use std::fmt::Write as _;
use std::path::Path;

use stagecraft_api::WorkflowStatus;
use stagecraft_api::error::truncate;
use stagecraft_api::status::{StagePhase, StageStatus};

use super::progress::{one_line, seconds};
use super::style::Style;

/// Longest outputs in the table, in bytes; the object has all of them.
const OUTPUTS: usize = 200;

/// A table of the stages with what they produced.
pub fn outputs(status: &WorkflowStatus, style: Style) -> String {
    let head = [
        "STAGE", "PHASE", "ATTEMPTS", "DURATION", "CPU", "MEMORY", "OUTPUTS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(status.stages.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len() - 1).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.push_str(row.last().map_or("", String::as_str));
        let line = line.trim_end();
        text.push('\n');
        text.push_str(&if index == 0 {
            style.bold(line)
        } else {
            line.to_owned()
        });
    }
    text.push('\n');
    text
}

fn row(stage: &StageStatus) -> [String; 7] {
    let since = stage.started_at.zip(stage.finished_at);
    let outputs = match (&stage.error, stage.phase) {
        (Some(error), StagePhase::Failed) => format!("{}: {}", error.code, error.message),
        _ if stage.outputs.is_empty() => "-".to_owned(),
        _ => serde_json::to_string(&stage.outputs).unwrap_or_default(),
    };
    [
        stage.name.clone(),
        format!("{:?}", stage.phase),
        if stage.attempt == 0 {
            "-".to_owned()
        } else {
            stage.attempt.to_string()
        },
        since.map_or_else(nothing, |(start, end)| seconds(end.millis_since(start))),
        stage
            .usage
            .map_or_else(nothing, |usage| seconds(usage.cpu_millis)),
        stage
            .usage
            .map_or_else(nothing, |usage| format!("{} MiB", usage.peak_memory_bytes >> 20)),
        truncate(&one_line(&outputs), OUTPUTS),
    ]
}

/// What stands where there is nothing to tell.
fn nothing() -> String {
    "-".to_owned()
}

/// Commands that lead on from here.
pub fn what_next(file: &Path, namespace: &str, name: &str, style: Style) -> String {
    let failing = failing_sample(file);
    let mut commands = vec![
        (
            format!("kubectl -n {namespace} get swf {name} -o yaml"),
            "everything that it left behind",
        ),
        (
            format!("kubectl -n {namespace} describe swf {name}"),
            "the same as a story, with its Events",
        ),
        (
            "kubectl explain workflow.spec".to_owned(),
            "what else a Workflow can say",
        ),
        (
            format!("kubectl -n {namespace} get workflows -w"),
            "watch the next one while it runs",
        ),
    ];
    if let Some(sample) = &failing {
        commands.push((
            format!("kubectl -n {namespace} apply -f {sample}"),
            "one that fails on purpose, and says why",
        ));
    }
    commands.push((
        "make down".to_owned(),
        "stop the cluster; what was built stays in the cache",
    ));
    let mut text = format!("\n{}\n", style.bold("What to try next"));
    if file.exists() && std::env::var_os("CLUSTER").is_none_or(|cluster| cluster == "dev") {
        let setup = "export KUBECONFIG=$(make -s kubeconfig) PATH=${XDG_CACHE_HOME:-$HOME/.cache}/stagecraft/bin:$PATH";
        let _ = writeln!(text, "  {setup}");
    }
    let width = commands
        .iter()
        .map(|(command, _)| command.len())
        .max()
        .unwrap_or(0);
    for (command, meaning) in commands {
        let _ = writeln!(
            text,
            "  {command:<width$}  {}",
            style.dim(&format!("# {meaning}"))
        );
    }
    text.trim_end().to_owned()
}

/// A sample beside the one that ran that shows a failure.
fn failing_sample(file: &Path) -> Option<String> {
    let mut names: Vec<_> = std::fs::read_dir(file.parent()?)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path != file && path.extension().is_some_and(|end| end == "yaml"))
        .filter(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            ["fail", "exit", "fault", "no-result"]
                .iter()
                .any(|word| name.contains(word))
        })
        .collect();
    names.sort();
    names.first().map(|path| path.display().to_string())
}

/// Commands that say more about a Workflow that is in trouble.
pub fn where_to_look(namespace: &str, name: &str) -> String {
    [
        format!("kubectl -n {namespace} describe workflow {name}"),
        format!("kubectl -n {namespace} get jobs,pods -l stagecraft.dev/workflow={name}"),
        format!("kubectl -n {namespace} logs -l stagecraft.dev/workflow={name} --all-containers --prefix --tail=50"),
        format!("kubectl -n {namespace} get events --sort-by=.lastTimestamp"),
        "kubectl -n stagecraft-system get pods".to_owned(),
    ]
    .map(|command| format!("  {command}"))
    .join("\n")
}

#[cfg(test)]
mod tests {
    use stagecraft_api::Moment;
    use stagecraft_api::status::Usage;

    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_stage_in_columns() {
        let start = Moment::new("2026-11-01T10:00:00Z".parse().unwrap());
        let mut stage = StageStatus {
            name: "scaffold".into(),
            phase: StagePhase::Succeeded,
            attempt: 2,
            started_at: Some(start),
            finished_at: Some(start.plus_millis(1_520)),
            usage: Some(Usage {
                cpu_millis: 310,
                peak_memory_bytes: 20 << 20,
            }),
            ..StageStatus::default()
        };
        stage.outputs.insert("files".into(), 2.into());
        let status = WorkflowStatus {
            stages: vec![stage],
            ..WorkflowStatus::default()
        };
        assert_eq!(
            outputs(&status, Style::plain()),
            "\nSTAGE     PHASE      ATTEMPTS  DURATION  CPU    MEMORY  OUTPUTS\n\
             scaffold  Succeeded  2         1.5 s     0.3 s  20 MiB  {\"files\":2}\n"
        );
    }
}
