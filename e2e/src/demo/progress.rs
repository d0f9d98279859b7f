//! What happened between two versions of a status: pure.

use stagecraft_api::condition::ACCEPTED;
use stagecraft_api::run::INITIALIZE;
use stagecraft_api::status::{AttemptSummary, StagePhase, StageStatus};
use stagecraft_api::{Moment, StructuredError, WorkflowStatus};

use super::style::Style;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: Moment,
    /// The stage, or `workflow`.
    pub subject: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Accepted {
        template: String,
        stages: usize,
        summary: String,
    },
    NotAccepted(String),
    Phase(String),
    Started {
        agent: String,
        attempt: u32,
    },
    Waits(String),
    Succeeded {
        millis: u64,
        attempt: u32,
        summary: String,
    },
    AttemptFailed {
        attempt: u32,
        error: StructuredError,
    },
    NextAttempt {
        at: Moment,
    },
    GaveUp,
    /// Without an attempt that failed.
    Failed(String),
    Skipped(String),
    Ended(String),
}

/// Everything that happened from `before` to `after`, in the order in which it did.
pub fn steps(before: &WorkflowStatus, after: &WorkflowStatus, now: Moment) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut add = |at: Option<Moment>, subject: &str, what| {
        steps.push(Step {
            at: at.unwrap_or(now),
            subject: subject.to_owned(),
            what,
        });
    };
    if let Some(problems) = problems(after)
        && self::problems(before) != Some(problems)
    {
        add(None, "workflow", What::NotAccepted(problems.to_owned()));
    }
    for stage in &after.stages {
        let known = before.stages.iter().find(|known| known.name == stage.name);
        if stage.name == INITIALIZE {
            if known.is_none() {
                let what = What::Accepted {
                    template: after.template.clone(),
                    stages: after.stages.len().saturating_sub(1),
                    summary: stage.summary.clone(),
                };
                add(stage.finished_at, INITIALIZE, what);
            }
            continue;
        }
        let nothing = StageStatus::default();
        for (at, what) in stage_steps(known.unwrap_or(&nothing), stage) {
            add(at, &stage.name, what);
        }
    }
    if before.phase != after.phase && after.phase.is_terminal() {
        add(after.finished_at, "workflow", What::Ended(after.message.clone()));
    } else if before.phase != after.phase && !after.stages.is_empty() {
        // A phase has no time of its own: it came with the latest thing that did.
        let at = steps.iter().map(|step| step.at).max().unwrap_or(now);
        steps.push(Step {
            at,
            subject: "workflow".to_owned(),
            what: What::Phase(after.phase.as_str().to_owned()),
        });
    }
    // What ended comes before what started with it: one patch stores both.
    steps.sort_by_key(|step| (step.at, rank(&step.what)));
    steps
}

fn rank(what: &What) -> u8 {
    match what {
        What::Accepted { .. } | What::NotAccepted(_) => 0,
        What::Succeeded { .. } | What::AttemptFailed { .. } => 1,
        What::NextAttempt { .. } | What::GaveUp | What::Failed(_) | What::Skipped(_) => 2,
        What::Phase(_) => 3,
        What::Started { .. } => 4,
        What::Waits(_) => 5,
        What::Ended(_) => 6,
    }
}

fn problems(status: &WorkflowStatus) -> Option<&str> {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == ACCEPTED && condition.status == "False")
        .map(|condition| condition.message.as_str())
}

fn stage_steps(before: &StageStatus, after: &StageStatus) -> Vec<(Option<Moment>, What)> {
    let mut steps = Vec::new();
    let known = |summary: &AttemptSummary| {
        before
            .history
            .iter()
            .any(|known| known.attempt == summary.attempt)
    };
    for summary in after.history.iter().filter(|summary| !known(summary)) {
        let what = What::AttemptFailed {
            attempt: summary.attempt,
            error: error_of(after, summary),
        };
        steps.push((Some(summary.finished_at), what));
    }
    if after.attempt > before.attempt {
        let what = What::Started {
            agent: after.agent.clone(),
            attempt: after.attempt,
        };
        steps.push((after.attempt_started_at, what));
    }
    if before.phase != after.phase {
        match after.phase {
            StagePhase::Succeeded => {
                let since = after.attempt_started_at.or(after.started_at);
                let what = What::Succeeded {
                    millis: after
                        .finished_at
                        .zip(since)
                        .map_or(0, |(end, start)| end.millis_since(start)),
                    attempt: after.attempt,
                    summary: after.summary.clone(),
                };
                steps.push((after.finished_at, what));
            }
            StagePhase::Failed if after.history.iter().any(|summary| !known(summary)) => {
                steps.push((after.finished_at, What::GaveUp));
            }
            StagePhase::Failed => {
                steps.push((after.finished_at, What::Failed(after.message.clone())));
            }
            StagePhase::Skipped => {
                steps.push((after.finished_at, What::Skipped(after.message.clone())));
            }
            StagePhase::Waiting => {
                if let (Some(at), Some(ended)) = (after.next_attempt_at, after.history.last()) {
                    steps.push((Some(ended.finished_at), What::NextAttempt { at }));
                }
            }
            StagePhase::Pending | StagePhase::Running => {}
        }
    }
    if waits(after) && after.message != before.message {
        steps.push((None, What::Waits(after.message.clone())));
    }
    steps
}

/// A stage that is held up says so in its message; in the usual run of things the message begins otherwise.
fn waits(stage: &StageStatus) -> bool {
    match stage.phase {
        StagePhase::Running => !stage.message.starts_with("attempt "),
        StagePhase::Pending => stage.message.starts_with("ready; "),
        StagePhase::Waiting | StagePhase::Succeeded | StagePhase::Failed | StagePhase::Skipped => false,
    }
}

/// The whole error while it is the latest, else what the history keeps of it.
fn error_of(stage: &StageStatus, summary: &AttemptSummary) -> StructuredError {
    let latest = stage
        .history
        .last()
        .is_some_and(|latest| latest.attempt == summary.attempt);
    match &stage.error {
        Some(error) if latest && error.code == summary.code => error.clone(),
        _ => StructuredError::new(&summary.code, summary.category, summary.message.clone()),
    }
}

/// What a step says to a person.
pub fn text(step: &Step, style: Style) -> String {
    match &step.what {
        What::Accepted {
            template,
            stages,
            summary,
        } => {
            format!("accepted: template {template}, {stages} stages; {summary}")
        }
        What::NotAccepted(problems) => {
            let lines = problems
                .replace("; spec.", "\nspec.")
                .replace("; template.", "\ntemplate.");
            format!("{}\n{lines}", style.bad("not accepted"))
        }
        What::Phase(phase) => format!("is now {}", style.name(phase)),
        What::Started { agent, attempt } => format!("started: agent {agent}, attempt {attempt}"),
        What::Waits(reason) => style.waiting(&format!("waits: {reason}")),
        What::Succeeded {
            millis,
            attempt,
            summary,
        } => {
            let done = style.good("succeeded");
            let which = if *attempt > 1 {
                format!(" with attempt {attempt}")
            } else {
                String::new()
            };
            let summary = one_line(summary);
            let summary = if summary.is_empty() {
                summary
            } else {
                format!(": {summary}")
            };
            format!("{done} in {}{which}{summary}", seconds(*millis))
        }
        What::AttemptFailed { attempt, error } => failure(*attempt, error, style),
        What::NextAttempt { at } => {
            let wait = seconds(at.millis_since(step.at));
            style.waiting(&format!("next attempt in {wait}"))
        }
        What::GaveUp => style.bad("failed: no attempt is left"),
        What::Failed(message) => format!("{}: {}", style.bad("failed"), one_line(message)),
        What::Skipped(message) => style.dim(&one_line(message)),
        What::Ended(message) => one_line(message),
    }
}

fn failure(attempt: u32, error: &StructuredError, style: Style) -> String {
    let mut text = format!(
        "{} ({}, {}): {}",
        style.bad(&format!("attempt {attempt} failed")),
        error.category.as_str(),
        error.code,
        one_line(&error.message)
    );
    if let Some(action) = &error.suggested_action {
        text = format!("{text}\n{} {}", style.dim("to do:"), one_line(action));
    }
    text
}

/// The text on one line, cut where a line would get too long to read.
pub fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    stagecraft_api::error::truncate(&text, 240)
}

/// Milliseconds as seconds with one decimal.
pub fn seconds(millis: u64) -> String {
    format!("{}.{} s", millis / 1000, (millis % 1000) / 100)
}

#[cfg(test)]
#[path = "progress_tests.rs"]
mod tests;
