//! The policy of Stagecraft as pure functions over values: no client, no clock, no environment, no randomness.
//!
//! Reading order: [`resolve`] turns a request into a run or into all that is wrong with it; [`observation`] is what the
//! shell saw; [`plan`] says what to do about it, with [`judge`] for one attempt, [`failure`] for what follows a failure,
//! [`admit`] for limits and [`summary`] for what people read; [`envelope`] is the task that an attempt is given.

pub mod admit;
pub mod built_in;
pub mod envelope;
pub mod failure;
pub mod judge;
pub mod merge;
pub mod observation;
pub mod plan;
pub mod resolve;
pub mod settings;
pub mod summary;

pub use observation::Observation;
pub use plan::{Action, Plan, plan};
pub use settings::Settings;
