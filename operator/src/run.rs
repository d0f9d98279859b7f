//! Wires the operator and runs it while it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::Api;
use kube::client::{ClientBuilder, DynBody};
use stagecraft_api::protocol::GATEWAY_PORT;
use stagecraft_core::Settings;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

use crate::args::RunArguments;
use crate::clock::Clock;
use crate::gateway::{GatewaySettings, HttpGateway};
use crate::job::PodSettings;
use crate::lead::{Outside, Release, lead};
use crate::leader::Election;
use crate::metrics::Metrics;
use crate::permissions::ModelKeys;
use crate::redis_link::{RedisSettings, Server};
use crate::shallow::shallow;
use crate::status_server::{self, Status};

/// Runs until SIGTERM or until the lease is lost.
pub async fn run(arguments: RunArguments) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new()?);
    let client = client(&metrics).await?;
    let ready = Arc::new(AtomicBool::new(false));
    let status = Status {
        metrics: metrics.clone(),
        ready: ready.clone(),
    };
    let server = tokio::spawn(status_server::serve(arguments.listen, status));

    let outside = outside(&client, &arguments)?;
    let release = Release {
        namespace: arguments.namespace.clone(),
        identity: arguments.pod_name.clone(),
        toolchain_image: arguments.toolchain_image.clone(),
        deployer_cluster_role: arguments.deployer_cluster_role.clone(),
        model_keys: ModelKeys {
            cluster_role: arguments.model_keys_cluster_role.clone(),
            service_account: arguments.gateway_service_account.clone(),
            namespace: arguments.namespace.clone(),
        },
        concurrency: arguments.concurrency,
        pod: pod_settings(&client, &arguments).await?,
        settings: settings(&arguments),
    };
    ready.store(true, Ordering::Relaxed);
    let stop = stop_signal()?;
    let election = Election::new(client.clone(), &arguments.namespace, &arguments.pod_name);
    tokio::select! {
        () = election.win() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(identity = arguments.pod_name, "leading");
    metrics.leader.set(1);

    let work = lead(outside, release, metrics, stop.clone());
    tokio::pin!(work);
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = election.keep() => Err(anyhow!("leadership was lost; starting anew")),
        outcome = server => Err(anyhow!("the status server ended: {outcome:?}")),
    };
    if outcome.is_ok() {
        election.release().await;
    }
    outcome
}

/// A client that repeats nothing by itself: a Job is never blindly created twice, and the loop has its own backoff.
async fn client(metrics: &Metrics) -> anyhow::Result<Client> {
    let mut config = kube::Config::infer()
        .await
        .context("no Kubernetes configuration")?;
    config.default_retry = false;
    let builder = ClientBuilder::try_from(config).context("no Kubernetes client")?;
    // Without what nobody can read: one Workflow that is too deep would hide all others.
    let shallow = MapResponseLayer::new(shallow::<Box<DynBody>>);
    Ok(builder
        .with_layer(&shallow)
        .with_layer(&metrics.api_requests)
        .build())
}

/// Ends at SIGTERM or SIGINT.
fn stop_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(token)
}

/// Waits for the gateway's Service: its ClusterIP is what stage Pods are given.
async fn pod_settings(client: &Client, arguments: &RunArguments) -> anyhow::Result<PodSettings> {
    let services: Api<Service> = Api::namespaced(client.clone(), &arguments.namespace);
    let name = &arguments.gateway_service;
    let address = loop {
        match services.get(name).await {
            Ok(service) => match service.spec.and_then(|spec| spec.cluster_ip) {
                Some(address) if address != "None" => break address,
                _ => return Err(anyhow!("Service {name} has no ClusterIP; stage Pods need one")),
            },
            Err(error) => {
                tracing::warn!(%error, service = name, "the gateway's Service cannot be read; trying again");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let ca = std::fs::read_to_string(&arguments.gateway_ca_file).with_context(|| {
        format!(
            "the gateway's CA {} cannot be read",
            arguments.gateway_ca_file.display()
        )
    })?;
    Ok(PodSettings {
        runner_image: arguments.runner_image.clone(),
        runner_pull_policy: arguments.runner_pull_policy.clone(),
        gateway_url: gateway_url(arguments),
        gateway_address: format!("{address}:{GATEWAY_PORT}"),
        gateway_ca: ca,
        log_format: arguments.runner_log_format.clone(),
    })
}

fn gateway_url(arguments: &RunArguments) -> String {
    format!(
        "https://{}.{}.svc:{GATEWAY_PORT}",
        arguments.gateway_service, arguments.namespace
    )
}

fn outside(client: &Client, arguments: &RunArguments) -> anyhow::Result<Outside> {
    let redis = Server::new(&RedisSettings {
        url: arguments.redis_url.clone(),
        password: arguments.redis_password.clone(),
    });
    let gateway = HttpGateway::new(GatewaySettings {
        url: gateway_url(arguments),
        ca_file: arguments.gateway_ca_file.clone(),
        token_file: arguments.gateway_token_file.clone(),
    });
    Ok(Outside {
        client: client.clone(),
        redis: Arc::new(redis.context("the URL of Redis is not valid")?),
        gateway: Arc::new(gateway?),
        clock: Clock::system(),
    })
}

fn settings(arguments: &RunArguments) -> Settings {
    Settings {
        registry: !arguments.registry_host.is_empty(),
        max_running_stages: limit(arguments.max_running_stages),
        max_running_stages_per_namespace: limit(arguments.max_running_stages_per_namespace),
        aging_millis: arguments.aging_seconds.saturating_mul(1000),
        ..Settings::default()
    }
}

/// 0 is no limit.
fn limit(number: usize) -> Option<usize> {
    (number > 0).then_some(number)
}
