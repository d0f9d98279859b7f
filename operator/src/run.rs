//! Wires the operator and runs it while it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use futures::channel::mpsc::unbounded;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::Api;
use kube::client::{ClientBuilder, DynBody};
use kube::runtime::controller::Controller;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use stagecraft_api::protocol::GATEWAY_PORT;
use stagecraft_api::{Agent, Moment, Workflow, WorkflowTemplate};
use stagecraft_core::Settings;
use tokio_util::sync::CancellationToken;
use tower::util::MapResponseLayer;

use crate::admission::Admission;
use crate::args::RunArguments;
use crate::children::Children;
use crate::controller::{self, Context, Guarded};
use crate::gateway::{Gateway, GatewaySettings};
use crate::job::PodSettings;
use crate::leader::Election;
use crate::metrics::Metrics;
use crate::queue::{Depth, Queue, RedisSettings};
use crate::results::{self, Results};
use crate::shallow::shallow;
use crate::status_server::{self, Status};
use crate::watch::{watch_catalog, watch_children, watch_deletions};
use crate::{install, sweep};

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

    let pod = pod_settings(&client, &arguments).await?;
    ready.store(true, Ordering::Relaxed);
    let stop = stop_signal()?;
    let election = Election::new(client.clone(), &arguments.namespace, &arguments.pod_name);
    tokio::select! {
        () = election.win() => {}
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!(identity = arguments.pod_name, "leading");
    metrics.leader.set(1);

    let work = lead(client, &arguments, pod, metrics, stop.clone());
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

/// Everything that the leader does.
async fn lead(
    client: Client,
    arguments: &RunArguments,
    pod: PodSettings,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    install::built_ins(&client, &arguments.namespace, &arguments.toolchain_image)
        .await
        .context("the built-ins cannot be installed")?;
    let redis = RedisSettings {
        url: arguments.redis_url.clone(),
        password: arguments.redis_password.clone(),
    };
    let gateway = Gateway::new(GatewaySettings {
        url: gateway_url(arguments),
        ca_file: arguments.gateway_ca_file.clone(),
        token_file: arguments.gateway_token_file.clone(),
    })?;
    let settings = Settings {
        registry: !arguments.registry_host.is_empty(),
        max_running_stages: limit(arguments.max_running_stages),
        max_running_stages_per_namespace: limit(arguments.max_running_stages_per_namespace),
        aging_millis: arguments.aging_seconds.saturating_mul(1000),
        ..Settings::default()
    };

    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let (wake, triggers) = unbounded();
    let (jobs, pods) = (Arc::new(Children::default()), Arc::new(Children::default()));
    let workflows = controller.store();
    let (agents, templates) = (
        watch_catalog::<Agent>(&client, workflows.clone(), wake.clone()).await?,
        watch_catalog::<WorkflowTemplate>(&client, workflows.clone(), wake.clone()).await?,
    );
    watch_children(&client, jobs.clone(), wake.clone()).await?;
    watch_children(&client, pods.clone(), wake.clone()).await?;
    let approvals = Arc::new(Children::default());
    watch_children(&client, approvals.clone(), wake.clone()).await?;

    let results = Arc::new(Results::default());
    let admission = Arc::new(Admission::new(settings.clone(), wake.clone()));
    let context = Arc::new(Context {
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: "stagecraft-operator".to_owned(),
                instance: Some(arguments.pod_name.clone()),
            },
        ),
        client: client.clone(),
        namespace: arguments.namespace.clone(),
        settings,
        pod,
        deployer_cluster_role: arguments.deployer_cluster_role.clone(),
        jobs,
        pods,
        approvals,
        agents,
        templates,
        store: workflows,
        written: crate::written::Written::default(),
        runs: controller::Runs::default(),
        refusals: crate::refusals::Refusals::default(),
        admission: admission.clone(),
        results: results.clone(),
        queue: Arc::new(Queue::new(&redis).context("the URL of Redis is not valid")?),
        gateway: Arc::new(gateway),
        metrics,
    });
    let helpers = [
        tokio::spawn(results::listen(
            results,
            redis,
            arguments.pod_name.clone(),
            wake.clone(),
        )),
        tokio::spawn(sweep::sweep(context.clone())),
        tokio::spawn(watch_deletions(client.clone(), context.clone())),
        tokio::spawn(admission.tell()),
        tokio::spawn(measure(context.clone())),
    ];
    controller::run(
        controller,
        context,
        triggers,
        arguments.concurrency,
        stop.cancelled_owned(),
    )
    .await;
    for helper in helpers {
        helper.abort();
    }
    Ok(())
}

/// 0 is no limit.
fn limit(number: usize) -> Option<usize> {
    (number > 0).then_some(number)
}

/// Keeps the gauges fresh.
async fn measure(context: Arc<Context>) {
    loop {
        let metrics = &context.metrics;
        if let Ok((depths, results)) = context.queue.depths().await {
            let now = Moment::now();
            for Depth { agent, tasks, oldest } in depths {
                let agent = metrics.label_of(&agent);
                let age = oldest.map_or(0, |oldest| now.millis_since(oldest) / 1000);
                metrics.queue_depth.with_label_values(&[&agent]).set(tasks);
                let oldest = metrics.queue_oldest.with_label_values(&[&agent]);
                oldest.set(i64::try_from(age).unwrap_or(i64::MAX));
            }
            metrics.results_lag.set(results);
        }
        metrics.redis_up.set(i64::from(context.queue.is_healthy()));
        let held = i64::try_from(context.admission.waiting()).unwrap_or(i64::MAX);
        metrics.stages_held.set(held);
        metrics.workflows.reset();
        metrics.stages.reset();
        for workflow in context.workflows() {
            metrics.workflows.with_label_values(&[phase(&workflow)]).inc();
            let status = workflow
                .status
                .iter()
                .filter(|status| !status.phase.is_terminal());
            for stage in status.flat_map(|status| &status.stages) {
                metrics.stages.with_label_values(&[stage.phase.as_str()]).inc();
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

fn phase(workflow: &Workflow) -> &'static str {
    workflow
        .status
        .as_ref()
        .map(|status| status.phase)
        .unwrap_or_default()
        .as_str()
}
