//! The three programs as they run in a Pod, each as a process of its own.
#![cfg(test)]

mod attempts;
mod deaths;
mod faults;
mod gateway;
mod git;
mod hostile_trees;
mod launcher;
mod pod;
mod task;
