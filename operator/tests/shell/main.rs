//! The shell's pure parts: what it reads from Kubernetes objects and what it makes of a task.

mod evidence;
mod job;
