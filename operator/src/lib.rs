//! The shell around [`stagecraft_core`]: it observes, hands values to the planner, and applies what comes back.
//!
//! Reading order: [`run`] is the process, [`lead`] wires everything over what is outside of it; [`controller`] is the loop, with [`observe`] and [`apply`] as its halves;
//! [`children`], [`written`], [`results`] and [`admission`] are what it remembers; [`dispatch`] with [`permissions`] and [`job`], [`queue`], [`redis_link`] and [`gateway`] are what it talks to.

pub mod admission;
pub mod apply;
pub mod args;
pub mod children;
pub mod clock;
pub mod controller;
pub mod dispatch;
pub mod evidence;
pub mod gateway;
pub mod install;
pub mod job;
pub mod lead;
pub mod leader;
pub mod metrics;
pub mod observe;
pub mod permissions;
pub mod providers;
pub mod queue;
pub mod redis_link;
pub mod refusals;
pub mod result_stream;
pub mod results;
pub mod run;
pub mod runs;
pub mod shallow;
pub mod status_server;
pub mod sweep;
pub mod telemetry;
pub mod uninstall;
pub mod usages;
pub mod watch;
pub mod written;
