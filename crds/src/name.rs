//! The only place that derives names of objects and keys of Redis.

use sha2::{Digest as _, Sha256};

use crate::attempt::AttemptKey;
use crate::digest::Digest;

/// Prefix of every key in Redis.
pub const REDIS_PREFIX: &str = "stagecraft:";
/// Consumer group of the task streams.
pub const WORKERS: &str = "workers";
/// Consumer group of the result stream.
pub const OPERATOR: &str = "operator";

/// Name of the Job of one attempt: readable, unique, at most 60 characters, so that a Pod's suffix fits a label.
pub fn job(workflow: &str, key: &AttemptKey) -> String {
    let digest = short_hash(&key.to_string());
    let attempt = key.attempt.to_string();
    // Four digits have room beside the stage; more take it from there.
    let stage = 20_usize.saturating_sub(attempt.len().max(4));
    format!(
        "{}-{}-{attempt}-{digest}",
        part(workflow, 27),
        part(&key.stage, stage)
    )
}

/// Name of the immutable ConfigMap that keeps what a Workflow runs. Another content has another name: whoever is about to pin what an
/// older request asked for touches nothing that a status names.
pub fn run(workflow: &str, uid: &str, digest: &Digest) -> String {
    let hash = short_hash(&format!("{uid} {}", digest.as_str()));
    format!("{}-run-{hash}", part(workflow, 40))
}

/// Name of the ServiceAccount, and of its RoleBinding, with which the stages of one Workflow deploy.
pub fn deployer(workflow: &str, uid: &str) -> String {
    format!("{}-deployer-{}", part(workflow, 40), short_hash(uid))
}

/// Name of the RoleBinding by which the gateway reads the key of one Workflow's model provider.
pub fn model_keys(workflow: &str, uid: &str) -> String {
    format!("{}-models-{}", part(workflow, 40), short_hash(uid))
}

/// Name of the Approval of one stage; `question` tells it from others of the stage.
pub fn approval(workflow: &str, stage: &str, question: &str) -> String {
    format!(
        "{}-{}-{}",
        part(workflow, 32),
        part(stage, 16),
        short_hash(question)
    )
}

/// Trace id of a Workflow: its UID without dashes is a valid W3C trace id, and needs no memory.
pub fn trace_id(workflow_uid: &str) -> String {
    workflow_uid.chars().filter(char::is_ascii_hexdigit).collect()
}

/// Stream of the tasks of one agent type. The namespace is part of it: Agents of the same name may differ there.
pub fn tasks(agent: &str) -> String {
    format!("{REDIS_PREFIX}tasks:{agent}")
}

/// Hash from attempt key to the id of its entry in [`tasks`].
pub fn task_ids(agent: &str) -> String {
    format!("{REDIS_PREFIX}task-ids:{agent}")
}

/// Set of the agent types that have or had a task stream.
pub fn task_agents() -> String {
    format!("{REDIS_PREFIX}task-agents")
}

/// Stream that wakes the operator: one entry per stored result.
pub fn results() -> String {
    format!("{REDIS_PREFIX}results")
}

/// Stream of the events of one Workflow.
pub fn events(workflow_uid: &str) -> String {
    format!("{REDIS_PREFIX}events:{workflow_uid}")
}

/// How a provider of models does, as JSON: all gateways share it.
pub fn provider_health(namespace: &str, provider: &str) -> String {
    format!("{REDIS_PREFIX}providers:{namespace}/{provider}")
}

/// Sorted set of registered agents by last heartbeat, in milliseconds since the epoch.
pub fn agents() -> String {
    format!("{REDIS_PREFIX}agents")
}

/// Hash that describes one registered agent.
pub fn agent(id: &str) -> String {
    format!("{REDIS_PREFIX}agents:{id}")
}

/// A prefix of a DNS label, at most `length` bytes, that does not end in a dash.
fn part(text: &str, length: usize) -> &str {
    let end = text.floor_char_boundary(length);
    text.get(..end).unwrap_or_default().trim_end_matches(['-', '.'])
}

/// 40 bits, enough beside the readable part and the attempt number.
fn short_hash(text: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(text.as_bytes()));
    digits.truncate(10);
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(stage: &str, attempt: u32) -> AttemptKey {
        AttemptKey {
            workflow_uid: "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11".into(),
            stage: stage.into(),
            attempt,
        }
    }

    #[test]
    fn job_names_fit_a_label_with_the_suffix_of_a_pod() {
        let name = job(&"w".repeat(63), &key(&"s".repeat(63), 9999));
        assert!(name.len() <= 63 - 6 + 3, "{name} has {} characters", name.len());
        assert!(job("a-b", &key("scaffold", 1)).starts_with("a-b-scaffold-1-"));
    }

    #[test]
    fn names_keep_their_bounds_whatever_they_are_made_of() {
        for text in ["ä".repeat(100), "a".repeat(100), String::new()] {
            for attempt in [1, 9_999, 10_000, u32::MAX] {
                let name = job(&text, &key(&text, attempt));
                assert!(name.len() <= 60, "{name} has {} bytes", name.len());
            }
            let digest = Digest::of(b"");
            for name in [
                run(&text, "u", &digest),
                deployer(&text, "u"),
                approval(&text, &text, "q"),
            ] {
                assert!(name.len() <= 63, "{name} has {} bytes", name.len());
            }
        }
    }

    #[test]
    fn job_names_differ_when_any_part_of_the_key_does() {
        let names = [
            job("flow", &key("scaffold", 1)),
            job("flow", &key("scaffold", 2)),
            job("flow", &key("validate", 1)),
            job(
                "flow",
                &AttemptKey {
                    workflow_uid: "other".into(),
                    ..key("scaffold", 1)
                },
            ),
        ];
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len());
    }

    #[test]
    fn deployers_of_workflows_of_one_name_differ_and_fit_a_label() {
        let name = deployer(&"w".repeat(63), "first");
        assert!(name.len() <= 63, "{name} has {} characters", name.len());
        assert_ne!(name, deployer(&"w".repeat(63), "second"));
        assert!(deployer("flow", "first").starts_with("flow-deployer-"));
    }

    #[test]
    fn a_cut_never_leaves_a_dash_at_the_end_of_a_part() {
        assert_eq!(part("abc-def", 4), "abc");
    }

    #[test]
    fn trace_ids_are_32_hexadecimal_digits() {
        assert_eq!(trace_id("0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11").len(), 32);
    }
}
