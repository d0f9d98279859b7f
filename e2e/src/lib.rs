//! What the demo, the scenarios on a real cluster and the benchmark share.
//!
//! The demo reads from [`demo`] on, the scenarios in `tests/cluster` from [`scenario`] on, the benchmark from [`mod@bench`]
//! on. All of them take the cluster from the kubeconfig, so that they run on any.

pub mod application;
pub mod artifacts;
pub mod bench;
pub mod client;
pub mod demo;
pub mod documents;
pub mod scenario;
