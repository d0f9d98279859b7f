//! The planner as a table: one observation in, one plan out. Least powerful first: [`resolve`], [`judge`], then [`plan`],
//! [`summary`] and [`size`] for what follows from them.
#![cfg(test)]

mod approvals;
mod built_in;
mod deadline;
mod evidence;
mod failure;
mod finally;
mod fixture;
mod gates;
mod graphs;
mod judge;
mod outcome;
mod owner;
mod plan;
mod providers;
mod repair;
mod resolve;
mod size;
mod summary;
mod tally;
mod usage;
