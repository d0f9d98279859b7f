//! The API server in memory, upon which the operator is simulated, answers as the real one does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use kube::Client;
use stagecraft_e2e::scenario::{Isolation, scenario};
use stagecraft_simulation::conformance::{Transcript, transcript};
use stagecraft_simulation::link::{ApiLink, Process};
use stagecraft_simulation::world::World;

#[test]
fn the_api_server_in_memory_answers_as_the_real_one() -> anyhow::Result<()> {
    scenario(Isolation::Shared, Duration::from_mins(2), async |world| {
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

async fn in_memory(namespace: &str) -> anyhow::Result<Transcript> {
    let world = World::new(1, false);
    world.storm.store(false, Ordering::Relaxed);
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
