//! What Kubernetes and the runners do by themselves: Jobs get Pods, Pods work, report and end, and what has no owner is deleted.

mod life;
mod objects;

use std::sync::Arc;

use crate::api_server::{ChangeKind, Deletion, Key, Stored};
use crate::world::{World, sleep};

use self::life::work;

pub use self::life::AGENT_ERROR;

/// Follows what happens and does its part.
pub fn run(world: &Arc<World>) {
    let (world, mut changes) = (world.clone(), world.server.follow());
    tokio::spawn(async move {
        loop {
            // The log is never cut where this follows it.
            let Ok(change) = changes.next().await else {
                continue;
            };
            match (change.kind, change.key.resource.kind) {
                (ChangeKind::Added, "Job") => {
                    tokio::spawn(work(world.clone(), change.object.clone()));
                }
                // The node gives no grace to what has ended.
                (ChangeKind::Modified, "Pod") if change.object.is_deleting() && has_ended(&change.object) => {
                    remove(&world, &change.key, change.object.uid());
                }
                _ => {}
            }
            // An owner that is gone takes along what comes after it, too.
            if change.kind == ChangeKind::Deleted || !change.object.owners().is_empty() {
                let world = world.clone();
                tokio::spawn(async move {
                    sleep(world.generator.millis(5, 2_000)).await;
                    world.server.collect_garbage();
                });
            }
        }
    });
}

fn has_ended(pod: &Stored) -> bool {
    matches!(pod.text_at("status.phase"), "Succeeded" | "Failed")
}

/// Takes a Pod out, unless that happened already.
fn remove(world: &World, pod: &Key, uid: &str) {
    let deletion = Deletion {
        uid: Some(uid.to_owned()),
        grace: Some(0),
        ..Deletion::default()
    };
    let _ = world.server.delete(pod, &deletion);
}
