//! Evidence: what the tools that check generated code report, measured by somebody whom that code cannot reach.
//!
//! ADR 0007 has the reasons. The program of a judging agent opens a [`session`] and hands reports over; [`measure`] makes of
//! each what it comes to, beside the [`sources`] of the commit that is checked, if that is [`unchanged`]; [`compose`] makes
//! outputs and metrics of them all.

pub mod compose;
pub mod measure;
pub mod measured;
pub mod session;
pub mod sources;
pub mod unchanged;
