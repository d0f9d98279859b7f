//! What stays on the screen at the end.

mod fields;

use std::fmt::Write as _;
use std::path::Path;

use stagecraft_api::WorkflowStatus;
use stagecraft_api::status::{StagePhase, StageStatus};

use super::progress::seconds;
use super::style::Style;

/// Longest line about what a stage produced, in characters; the object has all of it.
const WIDTH: usize = 160;

/// A table of the stages, and below it a line for each with what it produced.
pub fn outputs(status: &WorkflowStatus, style: Style) -> String {
    let mut text = table(status, style);
    if status.stages.is_empty() {
        return text;
    }
    let names = status.stages.iter().map(|stage| stage.name.chars().count());
    let name_width = names.max().unwrap_or(0);
    let _ = writeln!(text, "\n{}", style.bold("What the stages produced"));
    for stage in &status.stages {
        // Two spaces stand before the name and two behind it.
        let room = WIDTH.saturating_sub(name_width + 4);
        let line = format!("  {:<name_width$}  {}", stage.name, produced(stage, room));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The outputs of a stage, or why there are none, in one line of at most `room` characters.
fn produced(stage: &StageStatus, room: usize) -> String {
    let outputs = fields::line(&stage.outputs, room);
    match (&stage.error, stage.phase) {
        (Some(error), StagePhase::Failed) => fields::cut(&format!("{}: {}", error.code, error.message), room),
        _ if outputs.is_empty() => nothing(),
        _ => outputs,
    }
}

fn table(status: &WorkflowStatus, style: Style) -> String {
    let head = ["STAGE", "PHASE", "ATTEMPTS", "DURATION", "CPU", "MEMORY"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(status.stages.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:<width$}  ");
        }
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

fn row(stage: &StageStatus) -> [String; 6] {
    let since = stage.started_at.zip(stage.finished_at);
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
    ]
}

/// What stands where there is nothing to tell.
fn nothing() -> String {
    "-".to_owned()
}

/// What ran, as far as it matters for what can be done next.
pub struct Ran<'a> {
    pub file: &'a Path,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Where the application is that it deployed, if it did.
    pub application: Option<String>,
    /// Whether it ran on the cluster of `make up`, whose kubeconfig and tools a shell does not have by itself.
    pub dev_cluster: bool,
}

/// Commands that lead on from here.
pub fn what_next(ran: &Ran<'_>, style: Style) -> String {
    let commands = match &ran.application {
        Some(address) => with_application(ran, address),
        None => without_application(ran),
    };
    let mut text = format!("\n{}\n", style.bold("What to try next"));
    if ran.dev_cluster {
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

/// Commands with what they are good for.
type Commands = Vec<(String, &'static str)>;

fn with_application(ran: &Ran<'_>, address: &str) -> Commands {
    let Ran {
        file,
        namespace,
        name,
        application: _,
        dev_cluster,
    } = ran;
    // The file of a sample stays as it is: the next demo applies it again.
    let copy = "mine.yaml";
    let cluster = if *dev_cluster { "" } else { " CLUSTER=current" };
    let mut commands = vec![
        (address.to_owned(), "the application: open it in a browser"),
        (
            format!("make artifacts WORKFLOW={namespace}/{name}{cluster}"),
            "its source with all commits, reports of the checks, the build",
        ),
        (
            format!("kubectl -n {namespace} get workflow {name} -o yaml"),
            "everything that was decided, measured and judged",
        ),
        (
            format!("cp {} {copy} && ${{EDITOR:-vi}} {copy}", file.display()),
            "other requirements, with another name for Workflow and project",
        ),
        (
            format!("kubectl -n {namespace} apply -f {copy}"),
            "make that one too",
        ),
        watching(namespace),
    ];
    commands.extend(ending(*dev_cluster));
    commands
}

fn without_application(ran: &Ran<'_>) -> Commands {
    let Ran {
        file,
        namespace,
        name,
        application: _,
        dev_cluster,
    } = ran;
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
        watching(namespace),
    ];
    if let Some(sample) = failing_sample(file) {
        commands.push((
            format!("kubectl -n {namespace} apply -f {sample}"),
            "one that fails on purpose, and says why",
        ));
    }
    commands.extend(ending(*dev_cluster));
    commands
}

fn watching(namespace: &str) -> (String, &'static str) {
    (
        format!("kubectl -n {namespace} get workflows -w"),
        "watch the next one while it runs",
    )
}

fn ending(dev_cluster: bool) -> Option<(String, &'static str)> {
    let down = (
        "make down".to_owned(),
        "stop the cluster; what was built stays in the cache",
    );
    dev_cluster.then_some(down)
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
#[path = "report_tests.rs"]
mod tests;
