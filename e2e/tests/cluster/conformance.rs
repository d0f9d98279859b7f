//! The API server in memory, upon which the operator is simulated, answers as the real one does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{WatchEvent, WatchParams};
use stagecraft_e2e::scenario::{Isolation, World, scenario};
use stagecraft_simulation::conformance::{Transcript, transcript};
use stagecraft_simulation::link::{ApiLink, Process};
use stagecraft_simulation::world;

#[test]
fn the_api_server_in_memory_answers_as_the_real_one() -> anyhow::Result<()> {
    scenario(Isolation::Shared, Duration::from_mins(8), async |world| {
        until_the_past_is_forgotten(world).await?;
        let real = transcript(&world.client, &world.namespace).await?;
        let simulated = in_memory(&world.namespace).await?;
        let mut differences = Vec::new();
        for ((step, real), (_, simulated)) in real.iter().zip(&simulated) {
            if real != simulated {
                differences.push(format!(
                    "{step}\n  the real one: {real}\n  in memory:    {simulated}"
                ));
            }
        }
        println!("{} steps, {} answered differently", real.len(), differences.len());
        ensure!(
            differences.is_empty() && real.len() == simulated.len(),
            "the servers answer differently:\n{}",
            differences.join("\n")
        );
        Ok(())
    })
}

/// A server that has just started knows all that was ever written; every five minutes it forgets what is older.
async fn until_the_past_is_forgotten(world: &World) -> anyhow::Result<()> {
    let brief = WatchParams::default().timeout(1);
    loop {
        let mut events = Box::pin(world.api::<ConfigMap>().watch(&brief, "1").await?);
        if let Some(Ok(WatchEvent::Error(status))) = events.next().await
            && status.code == 410
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

async fn in_memory(namespace: &str) -> anyhow::Result<Transcript> {
    let world = world::World::new(1, world::Weather::Calm, None);
    world.is_rough.store(false, Ordering::Relaxed);
    let process = Process::new(world.clone(), "conformance".to_owned());
    let collector = tokio::spawn(async move {
        loop {
            world.server.collect_garbage();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let transcript = transcript(&Client::new(ApiLink(process), namespace), namespace).await;
    collector.abort();
    transcript
}
