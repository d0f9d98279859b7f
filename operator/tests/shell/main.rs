//! The shell's pure parts: what it reads from Kubernetes objects and what it makes of a task.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test says what it means and fails where it stands"
)]

mod evidence;
mod hostile;
mod hostile_redis;
mod job;
mod permissions;
