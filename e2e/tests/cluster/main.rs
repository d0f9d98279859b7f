//! Scenarios on a real cluster with the release in it: `make e2e`, or `cargo test -p stagecraft-e2e --test cluster NAME`
//! for one of them. With `STAGECRAFT_KEEP=1` the namespaces stay for a look.
//!
//! Modules that begin with `when_` break what all share, so their scenarios run alone; their names put them last. That of `a_row` puts the
//! longest scenario first.

mod a_row;
mod acceptance;
mod app_failures;
mod app_refusals;
mod approvals;
mod apps;
mod completion;
mod concurrency;
mod conformance;
mod deletion;
mod deletion_in_every_phase;
mod faults;
mod foreign_images;
mod graphs;
mod history;
mod kills;
mod log_lines;
mod metrics;
mod models;
mod owner;
mod pinned;
mod references;
mod repairs;
mod time_limits;
mod tokens;
mod when_a_node_is_drained;
mod when_images_cannot_be_pulled;
mod when_no_registry_is_set;
mod when_parts_are_down;
mod when_the_limit_is_low;
mod when_the_schema_changes;
mod when_uninstalled;
