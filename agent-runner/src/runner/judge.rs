//! What an exit and a result file mean. An agent's word is taken for its outputs only; whether they are right is judged by
//! the operator and by later stages.

use std::io::{self, Read as _};

use serde_json::Value;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::truncate;
use stagecraft_api::failure::{POD_TERMINATED, is_reserved};
use stagecraft_api::result::AgentResult;
use stagecraft_api::{Category, StructuredError, limit};

use super::layout::Layout;
use crate::loopback::ExitReport;

/// Bytes of an error's message that are kept for the words before the output.
const WORDS_BYTES: usize = 160;
/// Exit statuses of a command that could not be started.
const NOT_STARTED: std::ops::RangeInclusive<i32> = 126..=127;

/// What the agent hands in, or why the attempt failed.
pub fn judge(
    exit: &ExitReport,
    result: Result<AgentResult, StructuredError>,
) -> Result<AgentResult, StructuredError> {
    let ended_well = exit.exit_code == 0;
    match result {
        Ok(result) if ended_well && result.error.is_none() => Ok(result),
        _ if exit.terminating => Err(terminated()),
        _ if exit.oom_killed => Err(out_of_memory()),
        Ok(AgentResult {
            error: Some(error), ..
        }) => Err(own(error)),
        Err(problem) if ended_well => Err(problem),
        Ok(_) | Err(_) => Err(exited(exit)),
    }
}

/// Reads the result file, no further than its limit.
pub fn read_result(layout: &Layout) -> Result<AgentResult, StructuredError> {
    let opened = match layout.open_result() {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => return Err(malformed(&error)),
    };
    if opened.bytes > limit::RESULT_FILE_BYTES {
        return Err(too_large(opened.bytes));
    }
    let mut text = Vec::new();
    opened
        .file
        .take(limit::RESULT_FILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| malformed(&error))?;
    if text.len() as u64 > limit::RESULT_FILE_BYTES {
        return Err(too_large(text.len() as u64));
    }
    parse_result(&text)
}

/// A result as the agent wrote it, within bounds.
pub fn parse_result(text: &[u8]) -> Result<AgentResult, StructuredError> {
    let mut result: AgentResult = serde_json::from_slice(text).map_err(|error| malformed(&error))?;
    result.summary = truncate(&result.summary, limit::MESSAGE_BYTES);
    let outputs = Value::Object(result.outputs.clone());
    let depth = limit::depth(&outputs);
    if depth > limit::DEPTH {
        let message = format!(
            "the outputs are nested {depth} deep, over the limit of {}",
            limit::DEPTH
        );
        return Err(
            StructuredError::new("OutputsTooDeep", Category::Validation, message)
                .suggest("keep deeply nested data as artifacts: write it to a file and name it in the result's artifacts"),
        );
    }
    let bytes = limit::stored_bytes(&outputs.to_string());
    if bytes > limit::OUTPUTS_BYTES {
        let message = format!(
            "the outputs have {bytes} bytes as JSON, over the limit of {}",
            limit::OUTPUTS_BYTES
        );
        return Err(
            StructuredError::new("OutputsTooLarge", Category::Validation, message).suggest(
                "keep large data as artifacts: write it to a file and name it in the result's artifacts",
            ),
        );
    }
    Ok(result)
}

/// The deadline passed.
pub fn timed_out(task: &TaskEnvelope) -> StructuredError {
    let (stage, seconds) = (&task.attempt.stage, task.timeout_seconds);
    let field = format!("spec.stages[name={stage}].timeoutSeconds");
    StructuredError::new(
        "StageTimeout",
        Category::Timeout,
        format!("stage {stage} did not end within its limit of {seconds} seconds, which {field} sets"),
    )
    .suggest(format!("raise {field} of the Workflow"))
}

fn terminated() -> StructuredError {
    StructuredError::new(
        POD_TERMINATED,
        Category::Network,
        "the Pod was told to end before the agent had finished: it was evicted, preempted or deleted, or its node was shut down",
    )
}

fn out_of_memory() -> StructuredError {
    StructuredError::new(
        "OutOfMemory",
        Category::Resource,
        "a process of the agent was killed because its container reached the memory limit",
    )
    .suggest("raise resources.limits.memory of the Agent")
}

fn exited(exit: &ExitReport) -> StructuredError {
    let end = match exit.signal {
        Some(signal) => format!("the agent's command was ended by signal {signal}"),
        None => format!("the agent's command exited with status {}", exit.exit_code),
    };
    let output = last_lines(&exit.output_tail, limit::MESSAGE_BYTES - WORDS_BYTES);
    let message = if output.is_empty() {
        format!("{end} and wrote no output")
    } else {
        format!("{end}; the last lines of its output:\n{output}")
    };
    let error = StructuredError::new("AgentExited", Category::Execution, message);
    if NOT_STARTED.contains(&exit.exit_code) {
        error.suggest("see that the Agent's command is in its image and can be run by any user")
    } else {
        error.suggest("read the whole output in the log of the Pod's container agent, and correct the agent or its input")
    }
}

fn missing() -> StructuredError {
    StructuredError::new(
        "ResultMissing",
        Category::Validation,
        "the agent's command exited with status 0 but wrote no result",
    )
    .suggest("have the agent write JSON to the file that STAGECRAFT_RESULT names; {} is enough")
}

/// The agent opened an evidence session and ended without its result.
pub fn evidence_missing() -> StructuredError {
    StructuredError::new(
        "EvidenceMissing",
        Category::Execution,
        "the agent's command exited with status 0, but its checks were not brought to an end: it opened an evidence session and handed in no result there",
    )
    .suggest("read the log of the Pod's container agent: something may have ended the agent's program in its place")
}

fn malformed(error: &dyn std::error::Error) -> StructuredError {
    StructuredError::new(
        "ResultMalformed",
        Category::Validation,
        format!("the result file of the agent is not the JSON that is expected: {error}"),
    )
    .suggest("have the agent write one JSON object with no other fields than summary, outputs, artifacts and error")
}

fn too_large(bytes: u64) -> StructuredError {
    let limit = limit::RESULT_FILE_BYTES;
    StructuredError::new(
        "ResultTooLarge",
        Category::Validation,
        format!("the result file of the agent has {bytes} bytes, over the limit of {limit}"),
    )
    .suggest("keep large data as artifacts: write it to a file and name it in the result's artifacts")
}

/// The agent's own error, within bounds. What only others can judge is not the agent's to say: that the cluster took the attempt away, which
/// costs no retry, that a gate failed, and what a model did.
fn own(error: StructuredError) -> StructuredError {
    let mut error = error.bounded();
    if error.code.trim().is_empty() {
        "AgentFailed".clone_into(&mut error.code);
    }
    if is_reserved(&error.code) {
        error.code = format!("Agent{}", error.code);
    }
    if error.category == Category::Network {
        error.category = Category::Dependency;
    }
    error
}

/// The end of a text that takes at most `bytes` bytes as stored JSON, from the start of a line if there is one, without
/// control characters.
fn last_lines(text: &str, bytes: usize) -> String {
    let clean: String = text
        .trim_end()
        .chars()
        .filter(|character| !character.is_control() || matches!(character, '\n' | '\t'))
        .collect();
    let mut width = 0;
    let mut start = clean.len();
    for (index, character) in clean.char_indices().rev() {
        let json = Value::from(character.to_string()).to_string();
        width += limit::stored_bytes(&json).saturating_sub(2);
        if width > bytes {
            let rest = clean.get(start..).unwrap_or_default();
            return match rest.split_once('\n') {
                Some((_, whole)) if character != '\n' && !whole.is_empty() => whole.to_owned(),
                _ => rest.to_owned(),
            };
        }
        start = index;
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(exit_code: i32) -> ExitReport {
        ExitReport {
            exit_code,
            output_tail: "first\nlast\n".to_owned(),
            ..ExitReport::default()
        }
    }

    fn check(
        exit: &ExitReport,
        result: Result<AgentResult, StructuredError>,
        code: &str,
        category: Category,
    ) -> StructuredError {
        let error = judge(exit, result).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.category),
            (code, category),
            "{error:?}"
        );
        assert_eq!(error, error.clone().bounded());
        error
    }

    fn failed(code: &str) -> AgentResult {
        AgentResult {
            error: Some(StructuredError::new(code, Category::Dependency, "no")),
            ..AgentResult::default()
        }
    }

    #[test]
    fn a_proper_end_with_a_result_is_good() {
        assert!(judge(&exit(0), Ok(AgentResult::default())).is_ok());
        let terminating = ExitReport {
            terminating: true,
            ..exit(0)
        };
        assert!(judge(&terminating, Ok(AgentResult::default())).is_ok());
        let recovered = ExitReport {
            oom_killed: true,
            ..exit(0)
        };
        assert!(judge(&recovered, Ok(AgentResult::default())).is_ok());
    }

    #[test]
    fn an_exit_status_fails_and_shows_the_output() {
        let error = check(
            &exit(3),
            Ok(AgentResult::default()),
            "AgentExited",
            Category::Execution,
        );
        assert!(error.message.contains("status 3") && error.message.ends_with("first\nlast"));
        let killed = ExitReport {
            signal: Some(9),
            ..exit(137)
        };
        let error = check(&killed, Err(missing()), "AgentExited", Category::Execution);
        assert!(error.message.contains("signal 9"));
    }

    #[test]
    fn memory_and_termination_explain_an_exit() {
        let oom = ExitReport {
            oom_killed: true,
            signal: Some(9),
            ..exit(137)
        };
        let error = check(&oom, Err(missing()), "OutOfMemory", Category::Resource);
        assert!(
            error
                .suggested_action
                .unwrap()
                .contains("resources.limits.memory")
        );
        let terminating = ExitReport {
            terminating: true,
            ..oom
        };
        check(&terminating, Err(missing()), "PodTerminated", Category::Network);
        let silent = ExitReport {
            terminating: true,
            ..exit(0)
        };
        check(&silent, Err(missing()), "PodTerminated", Category::Network);
    }

    #[test]
    fn an_agent_cannot_say_what_only_others_judge() {
        for (code, category, expected) in [
            (
                "GateFailed",
                Category::Validation,
                ("AgentGateFailed", Category::Validation),
            ),
            (
                "PodTerminated",
                Category::Network,
                ("AgentPodTerminated", Category::Dependency),
            ),
            (
                "PodNotStarted",
                Category::Execution,
                ("AgentPodNotStarted", Category::Execution),
            ),
            (
                "ModelOverloaded",
                Category::Resource,
                ("AgentModelOverloaded", Category::Resource),
            ),
            ("Away", Category::Network, ("Away", Category::Dependency)),
        ] {
            let error = own(StructuredError::new(code, category, "so it says"));
            assert_eq!((error.code.as_str(), error.category), expected);
        }
    }

    #[test]
    fn the_agents_own_error_is_kept_whatever_the_exit_status() {
        for code in [0, 1] {
            check(&exit(code), Ok(failed("Mine")), "Mine", Category::Dependency);
            check(&exit(code), Ok(failed(" ")), "AgentFailed", Category::Dependency);
        }
        let long = judge(&exit(0), Ok(failed(&"x".repeat(100)))).unwrap_err();
        assert!(long.code.len() <= 63);
    }

    #[test]
    fn results_are_refused_with_the_reason() {
        for (text, code, part) in [
            ("not json", "ResultMalformed", "line 1 column"),
            (r#"{"sumary": ""}"#, "ResultMalformed", "unknown field `sumary`"),
        ] {
            let error = parse_result(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code);
            assert!(error.message.contains(part), "{}", error.message);
        }
        // Six bytes each where the result is stored, one in the file.
        let text = format!(
            r#"{{"outputs": {{"a": "{}"}}}}"#,
            "<".repeat(limit::OUTPUTS_BYTES / 5)
        );
        assert_eq!(parse_result(text.as_bytes()).unwrap_err().code, "OutputsTooLarge");
        assert!(parse_result(b"{}").is_ok());
    }

    #[test]
    fn the_end_of_the_output_is_what_is_shown() {
        let text = format!("{}\nthe cause\u{1b}[0m\n", "\"x\" ".repeat(2000));
        let error = check(
            &ExitReport {
                output_tail: text,
                ..exit(1)
            },
            Err(missing()),
            "AgentExited",
            Category::Execution,
        );
        assert!(error.message.ends_with("the cause[0m"), "{}", error.message);
        assert_eq!(last_lines("aaa\nbbb\nccc", 9), "bbb\nccc");
        assert_eq!(last_lines("aaaaaa", 3), "aaa");
    }
}
