//! Deployments over a mock API server that keeps versions, watches and a controller of its own.
#![cfg(test)]

mod cluster;
mod deployments;
mod fences;
mod hostile;
mod world;
