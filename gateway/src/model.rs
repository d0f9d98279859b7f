//! Calls of models: the gateway picks the provider of the Workflow, adds its key, and passes the answer on as it comes.
//!
//! Reading order: [`relay`] is the course of a call, with [`crowd`] (who else calls?), [`request`], [`confine`] (what of it is not passed on, by [`content`]), [`provider`] (read by [`providers`]), [`way`] (one for each fallback), [`ledgers`] (its budgets, by [`ledger`] and [`daily`]), [`shared`] (how the provider does, by [`health`] and [`breaker`]), [`upstream`] (by
//! [`retry`]), [`course`] (the answer, by [`sse`], [`ending`], [`refused`], [`usage`] and [`redact`]) and [`account`] (what it comes to) as its steps; [`denied`] is what ends it before. [`report`] is what the operator is told.

pub mod account;
pub mod breaker;
pub mod confine;
pub mod content;
pub mod course;
pub mod crowd;
pub mod daily;
pub mod denied;
pub mod ending;
pub mod health;
pub mod ledger;
pub mod ledgers;
pub mod models;
pub mod provider;
pub mod providers;
pub mod redact;
pub mod refused;
pub mod relay;
pub mod report;
pub mod request;
pub mod retry;
pub mod shared;
pub mod sse;
pub mod upstream;
pub mod usage;
pub mod way;

pub use models::Models;
