//! The gateway's whole API over a mock API server, a store in a directory, and a real Redis where that matters.

#[cfg(test)]
mod attempts;
#[cfg(test)]
mod authentication;
#[cfg(test)]
mod blobs;
#[cfg(test)]
mod branch_refusals;
#[cfg(test)]
mod branch_store;
#[cfg(test)]
mod branches;
#[cfg(test)]
mod broken;
#[cfg(test)]
mod budgets;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod confinement;
#[cfg(test)]
mod crowds;
#[cfg(test)]
mod fallback;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod images;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod maximum;
#[cfg(test)]
mod model_keys;
#[cfg(test)]
mod models;
#[cfg(test)]
mod operator;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod redaction;
#[cfg(test)]
mod reports;
#[cfg(test)]
mod reservations;
#[cfg(test)]
mod results;
#[cfg(test)]
mod server;
#[cfg(test)]
mod sharing;
#[cfg(test)]
mod store;
#[cfg(test)]
mod token_registry;
#[cfg(test)]
mod world;
