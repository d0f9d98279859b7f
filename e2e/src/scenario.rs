//! A test on a real cluster: a namespace of its own, everything that happens in it recorded, the promises of the design
//! checked on the recording at the end, and all there is to see printed when something went wrong.

pub mod app;
pub mod diagnostics;
pub mod gateway;
pub mod invariants;
pub mod kubectl;
pub mod processes;
pub mod quiet;
pub mod recorder;
pub mod release;
pub mod remains;
pub mod samples;
pub mod waiting;
pub mod world;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use tokio::sync::{RwLock, Semaphore};

pub use world::World;

/// What a scenario does to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// It touches its own namespace only: several of these run at once.
    Shared,
    /// It breaks parts of the release, which all share: it runs alone.
    Alone,
}

/// Held for reading by scenarios that share the release, for writing by one that breaks it. Fair, so none starves.
static RELEASE: RwLock<()> = RwLock::const_new(());
/// Scenarios at once. More only make each other slow on a small machine.
static SLOTS: Semaphore = Semaphore::const_new(4);

/// Runs a scenario within `limit`.
pub fn scenario<F>(isolation: Isolation, limit: Duration, body: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&World) -> anyhow::Result<()>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let _shared;
        let _alone;
        match isolation {
            Isolation::Shared => _shared = RELEASE.read().await,
            Isolation::Alone => _alone = RELEASE.write().await,
        }
        let _slot = SLOTS.acquire().await?;
        let world = World::begin(isolation)
            .await
            .context("the scenarios need a cluster with Stagecraft in it: run `make up install` first")?;
        let outcome = AssertUnwindSafe(tokio::time::timeout(limit, body(&world)))
            .catch_unwind()
            .await;
        let outcome = match outcome {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(anyhow::anyhow!("not done within {} s", limit.as_secs())),
            Err(panic) => Err(anyhow::anyhow!("{}", panic_text(&*panic))),
        };
        let recording = world.recording().await;
        let outcome = outcome.and(
            recording
                .as_ref()
                .map(|_| ())
                .map_err(|error| anyhow::anyhow!("{error:#}")),
        );
        let broken = invariants::violations(&recording.unwrap_or_else(|_| world.seen()));
        let outcome = outcome.and_then(|()| {
            ensure!(
                broken.is_empty(),
                "promises were broken:\n  {}",
                broken.join("\n  ")
            );
            Ok(())
        });
        if let Err(error) = &outcome {
            println!("FAILED: {error:#}");
            for promise in &broken {
                println!("BROKEN PROMISE: {promise}");
            }
            diagnostics::print(&world).await;
        }
        world.end().await;
        outcome
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the scenario panicked".to_owned())
}

/// Why a scenario cannot be played on another cluster. `make e2e CLUSTER=current` leaves those out by name.
pub const ONLY_HERE: &str =
    "this scenario kills processes of the dev cluster on this machine: leave it out with --skip";

/// Whether the cluster is the one of `make up`, whose processes run on this machine. Scenarios that look at processes
/// cannot be played on any other.
pub fn on_this_machine() -> bool {
    !std::env::var("CLUSTER").is_ok_and(|cluster| cluster == "current")
}
