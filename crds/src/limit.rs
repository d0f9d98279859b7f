//! Bounds that more than one process enforces. Schemas repeat them as numbers because attributes take no constants; the
//! test `schemas_repeat_the_limits` holds the two together.

use serde_json::Value;

/// Longest message of an error or a stage, in [`stored_bytes`].
pub const MESSAGE_BYTES: usize = 1024;
/// Longest message of a Workflow that ended, in [`stored_bytes`]: it stands in the table of `kubectl get`.
pub const REASON_BYTES: usize = 320;
/// Longest message of a condition, in [`stored_bytes`]: Accepted lists every violation.
pub const CONDITION_BYTES: usize = 4096;
/// Longest message of an earlier attempt, in [`stored_bytes`].
pub const HISTORY_MESSAGE_BYTES: usize = 256;
/// Largest `outputs` object of one stage, in [`stored_bytes`]. Larger data belongs in an artifact.
pub const OUTPUTS_BYTES: usize = 8 * 1024;
/// Largest result file that an agent may write, in bytes. It is read no further than this.
pub const RESULT_FILE_BYTES: u64 = 256 * 1024;
/// Most artifacts that one attempt may name.
pub const ARTIFACTS: usize = 32;
/// Most gates of a stage.
pub const GATES: usize = 12;
/// Most entries about what models were used for, in a status.
pub const MODEL_USAGES: usize = 64;
/// Most metrics that one attempt may report.
pub const METRICS: usize = 64;
/// Longest name of an artifact, in bytes.
pub const ARTIFACT_NAME_BYTES: usize = 255;
/// Longest media type of an artifact, in bytes.
pub const MEDIA_TYPE_BYTES: usize = 127;
/// Longest list of changed files of a commit, in [`stored_bytes`].
pub const STAT_BYTES: usize = 512;
/// Largest list of artifacts of one stage, in [`stored_bytes`]: 32 with names and media types of 60 bytes together.
pub const ARTIFACTS_BYTES: usize = 6 * 1024;
/// Largest single blob, in bytes.
pub const BLOB_BYTES: u64 = 256 * 1024 * 1024;
/// Largest sum of blobs that one attempt may upload, in bytes.
pub const ATTEMPT_BLOB_BYTES: u64 = 1024 * 1024 * 1024;
/// Most files that a workspace may hold when it is committed.
pub const WORKSPACE_FILES: usize = 20_000;
/// Largest file that is taken into a workspace commit, in bytes.
pub const WORKSPACE_FILE_BYTES: u64 = 32 * 1024 * 1024;
/// Largest sum of file sizes of a workspace commit, in bytes.
pub const WORKSPACE_BYTES: u64 = 256 * 1024 * 1024;
/// Largest `spec` of a Workflow, in [`stored_bytes`].
pub const SPEC_BYTES: usize = 72 * 1024;
/// Largest `spec` and `status` of a Workflow together, in [`stored_bytes`]; etcd takes 1.5 MiB by default. The other
/// bounds add up to less: the test `size` of stagecraft-core holds them together. A status is shortened where metadata (labels, annotations, who
/// wrote what) need the room; those alone may take more.
pub const WORKFLOW_BYTES: usize = 512 * 1024;
/// Largest task envelope, in bytes of JSON: it is an annotation, of which Kubernetes takes 256 KiB for each object.
pub const TASK_BYTES: usize = 248 * 1024;
/// Largest run, in bytes of JSON: it is kept in a ConfigMap, of which Kubernetes takes 1 MiB.
pub const RUN_BYTES: usize = 1000 * 1024;
/// Most stages in a template, those of `finally` included.
pub const STAGES: usize = 20;
/// Longest expression in CEL, in bytes.
pub const EXPRESSION_BYTES: usize = 1024;
/// Largest payload of a stage that refers to outputs of others, once those are in their place, in bytes of JSON; a payload that is
/// larger by itself may stay as large.
pub const RESOLVED_PAYLOAD_BYTES: usize = 16 * 1024;
/// Most parameters of a template.
pub const PARAMETERS: usize = 32;
/// Most references in the payload of a stage: each is an expression that is read, and sees everything that went before.
pub const REFERENCES: usize = 64;
/// Deepest nesting of arrays and objects in what anybody hands in: spec, run, outputs. Readers of JSON give up at 128, and such a
/// value stands some levels deep in the lists that Kubernetes hands out.
pub const DEPTH: usize = 48;
/// Largest count of anything in a status: whole numbers above it are none for many readers of JSON, and the API server refuses
/// those above 2^63.
pub const COUNT: u64 = 1 << 53;
/// Summaries of earlier attempts kept for each stage; older ones are dropped and stay counted.
pub const HISTORY: usize = 5;

/// How deep arrays and objects are nested in a value: 0 for a text or a number.
pub fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut open = vec![(value, 0)];
    while let Some((value, above)) = open.pop() {
        let depth = above + 1;
        match value {
            Value::Array(values) => open.extend(values.iter().map(|value| (value, depth))),
            Value::Object(fields) => open.extend(fields.values().map(|value| (value, depth))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => continue,
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Bytes that a JSON text takes in etcd: the API server escapes `<`, `>`, `&` and two line separators, which serde_json
/// leaves as they are.
pub fn stored_bytes(json: &str) -> usize {
    json.chars().map(stored_width).sum()
}

/// Bytes of one character that stands in a JSON text.
fn stored_width(character: char) -> usize {
    match character {
        '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => 6,
        other => other.len_utf8(),
    }
}

/// Bytes of one character of a text inside a JSON string.
pub(crate) fn escaped_width(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => stored_width(other),
    }
}
