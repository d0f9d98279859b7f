//! The policy of Stagecraft as pure functions over values: no client, no clock, no environment, no randomness.
//!
//! Reading order: [`mod@resolve`] turns a request into a run or into all that is wrong with it (`checks` has what Agents and providers are held to); [`observation`] is what the
//! shell saw; [`mod@plan`] says what to do about it: `accept` what is new, `advance` what runs (with [`mod@judge`] for one attempt,
//! [`outcome`] and `gate` for its result, [`post_mortem`] for its Pod, [`failure`] for what follows a failure), `start` what is ready
//! ([`admit`] has the limits, `expression` the conditions, `reference` the payloads), [`approval`] what a person decides, `repair` what goes back, `ending` how it ends, `stop` what ends before its time, [`retry`] what is run once more, `put_away` what is over, `bounds` what a status can hold. `spending` what models took, [`provider`] how those who offer them do, [`summary`] what people read, [`envelope`] the task that an
//! attempt is given.

mod accept;
pub mod admit;
mod advance;
pub mod approval;
mod bounds;
pub mod built_in;
mod checks;
mod ending;
pub mod envelope;
mod expression;
pub mod failure;
mod gate;
mod graph;
pub mod judge;
pub mod merge;
pub mod observation;
pub mod outcome;
mod parameters;
pub mod plan;
pub mod post_mortem;
pub mod provider;
mod put_away;
mod reference;
mod repair;
pub mod resolve;
pub mod retry;
mod schema;
pub mod settings;
mod size;
mod spending;
pub mod start;
mod stop;
pub mod summary;
pub mod tally;

pub use observation::Observation;
pub use plan::{Action, Plan, plan};
pub use settings::Settings;
