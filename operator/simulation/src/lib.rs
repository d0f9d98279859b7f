//! The operator as it ships, in a world in memory: an API server, a Redis, a gateway's store, nodes that run Pods, owners who change
//! their minds, and time that passes only when nobody has anything to do. Everything that happens follows from one seed.
//!
//! Reading order: [`play`] is one schedule; [`world`] what there is; [`operator`] how the operator is started in it and cut off from it by
//! [`link`]; [`cluster`] and [`chaos`] what happens by itself; [`promises`] what must hold.

pub mod api_server;
pub mod chaos;
pub mod cluster;
pub mod conformance;
pub mod gateway;
pub mod generator;
pub mod journal;
pub mod link;
pub mod operator;
pub mod play;
pub mod promises;
pub mod redis;
pub mod requests;
pub mod world;
