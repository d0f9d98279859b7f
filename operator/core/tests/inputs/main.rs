//! Inputs that nobody should send: whatever a Workflow, its status, a template, an Agent, a result or a person brings, there is an
//! answer within a moment, and what is stored keeps its bounds. `HOSTILE_CASES=20000 cargo test -p stagecraft-core --test inputs`
//! looks further than usual.
#![cfg(test)]

mod large;
mod planning;
mod reading;
mod regressions;
