//! Bounds that more than one process enforces. Schemas repeat them as numbers because attributes take no constants; the
//! test `schemas_repeat_the_limits` holds the two together.

/// Longest message of an error, a condition or a stage, in bytes of UTF-8.
pub const MESSAGE_BYTES: usize = 1024;
/// Largest `outputs` object of one stage, in bytes of JSON. Larger data belongs in an artifact.
pub const OUTPUTS_BYTES: usize = 8 * 1024;
/// Largest result file that an agent may write, in bytes. It is read no further than this.
pub const RESULT_FILE_BYTES: u64 = 256 * 1024;
/// Most artifacts that one attempt may name.
pub const ARTIFACTS: usize = 32;
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
/// Largest `spec` of a Workflow, in bytes of JSON.
pub const SPEC_BYTES: usize = 128 * 1024;
/// Most stages in a template.
pub const STAGES: usize = 20;
/// Summaries of earlier attempts kept for each stage; older ones are dropped and stay counted.
pub const HISTORY: usize = 5;
