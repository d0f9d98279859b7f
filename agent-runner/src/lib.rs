//! What runs in a stage Pod: the runner beside the agent, the launcher around its command, and the built-in agents.
//!
//! Reading order: [`loopback`] is what runner and launcher say to each other; [`launcher`] wraps the agent's command;
//! [`runner`] does everything that needs the gateway or git; [`echo`] is an agent that does what its payload says;
//! [`scaffold`] is the one that writes a project, [`checks`] are those that judge it, [`deploy`] the one that deploys it;
//! [`task`] is what agents do around their work, [`web`] what serves the applications that they make.
//!
//! All are one library, because they share [`loopback`] and the types of `stagecraft-api`. The linker drops what a
//! binary does not call, so the launcher, which is copied into every agent container, has neither tokio nor TLS in it.

pub mod checks;
pub mod deploy;
pub mod echo;
pub mod launcher;
pub mod loopback;
pub mod runner;
pub mod scaffold;
pub mod task;
pub mod web;
