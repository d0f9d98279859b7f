//! Operators, started as `stagecraft-operator run` starts them once it leads, and started again when they end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use stagecraft_core::Settings;
use stagecraft_operator::clock::Clock;
use stagecraft_operator::job::PodSettings;
use stagecraft_operator::lead::{Outside, Release, TaskEnded, lead};
use stagecraft_operator::metrics::Metrics;
use stagecraft_operator::permissions::ModelKeys;
use tokio_util::sync::CancellationToken;

use crate::link::{ApiLink, GatewayLink, Process, RedisConnections};
use crate::world::{HERE, RELEASE, World, shifted, sleep};

/// An operator that is kept running.
pub struct Operator {
    current: Mutex<Option<Arc<Process>>>,
}

impl Operator {
    /// The process that runs at the moment.
    pub fn process(&self) -> Option<Arc<Process>> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, process: Option<Arc<Process>>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = process;
    }
}

/// Keeps an operator running. Nothing elects it: several of them all lead.
pub fn keep(world: &Arc<World>, number: usize, settings: Settings) -> Arc<Operator> {
    let operator = Arc::new(Operator {
        current: Mutex::new(None),
    });
    let (world, kept) = (world.clone(), operator.clone());
    tokio::spawn(async move {
        for life in 1_u64.. {
            let process = Process::new(world.clone(), format!("operator {number}.{life}"));
            kept.set(Some(process.clone()));
            world.note(|| format!("{} starts", process.name));
            let mut work = tokio::spawn(run(process.clone(), settings.clone()));
            tokio::select! {
                biased;
                () = process.crashed.notified() => world.counts.count("operators killed"),
                outcome = &mut work => match outcome {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) if error.is::<TaskEnded>() => world.panicked(&format!("{error:#}")),
                    Ok(Err(error)) => world.note(|| format!("{} ends: {error:#}", process.name)),
                    // A defect of the operator, which its next life would hide.
                    Err(panic) => world.panicked(&panic.to_string()),
                },
            }
            process.cut();
            work.abort();
            kept.set(None);
            sleep(
                process
                    .generator
                    .millis(50, if world.is_rough() { 20_000 } else { 2_000 }),
            )
            .await;
        }
    });
    operator
}

async fn run(process: Arc<Process>, settings: Settings) -> anyhow::Result<()> {
    let clock = {
        let process = process.clone();
        move || shifted(process.world.now(), process.skew.load(Ordering::Relaxed))
    };
    let outside = Outside {
        client: Client::new(ApiLink(process.clone()), HERE),
        redis: Arc::new(RedisConnections(process.clone())),
        gateway: Arc::new(GatewayLink(process.clone())),
        clock: Clock::new(clock),
    };
    let release = Release {
        namespace: RELEASE.to_owned(),
        identity: process.name.replace([' ', '.'], "-"),
        toolchain_image: "toolchain:1".to_owned(),
        deployer_cluster_role: "deployer".to_owned(),
        model_keys: ModelKeys {
            cluster_role: "model-keys".to_owned(),
            service_account: "gateway".to_owned(),
            namespace: RELEASE.to_owned(),
        },
        concurrency: 8,
        pod: PodSettings {
            runner_image: "runner:1".to_owned(),
            runner_pull_policy: "IfNotPresent".to_owned(),
            gateway_url: "https://gateway.release.svc:8443".to_owned(),
            gateway_address: "10.0.0.1:8443".to_owned(),
            gateway_ca: String::new(),
            log_format: "text".to_owned(),
        },
        settings,
    };
    lead(
        outside,
        release,
        Arc::new(Metrics::new()?),
        CancellationToken::new(),
    )
    .await
}
