//! The three programs as they run in a Pod, each as a process of its own.
#![cfg(test)]

mod attempts;
mod deaths;
mod evidence;
mod faults;
mod gateway;
mod git;
mod history;
mod hostile_reports;
mod hostile_trees;
mod images;
mod integration;
mod launcher;
mod merging;
mod models;
mod pod;
mod task;
