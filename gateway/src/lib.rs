//! The gateway: the only thing that a stage Pod may talk to. It serves [`stagecraft_api::protocol`].
//!
//! Reading order: a request passes [`server`], [`router`] and [`identity`] (who calls?), then [`chain`] and [`authorize`]
//! (is its Pod the current attempt?), then one of [`claim`], [`heartbeat`], [`event`], [`result`], [`blob`], [`branch`],
//! [`image`] (with [`registry`]) or [`operator_api`], which keep the truth in [`store`] and hints in [`queue`].

pub mod args;
pub mod authorize;
pub mod blob;
pub mod body;
pub mod branch;
pub mod chain;
pub mod claim;
pub mod error;
pub mod event;
pub mod heartbeat;
pub mod identity;
pub mod image;
pub mod metrics;
pub mod model;
pub mod operator_api;
pub mod queue;
pub mod rate;
pub mod registry;
pub mod result;
pub mod router;
pub mod server;
pub mod status_server;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod upload;
pub mod verify;
