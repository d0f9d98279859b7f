//! Starts everything, and ends it within bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::task::TaskTracker;

use crate::args::Arguments;
use crate::metrics::Metrics;
use crate::model::Models;
use crate::model::upstream::AFTER_AGENT;
use crate::queue::Queue;
use crate::registry::Registry;
use crate::router::{self, Gateway, Ingredients};
use crate::status_server::{self, Status};
use crate::store::Store;
use crate::tls::{self, Pem};

/// How long requests under way may take once the gateway has to stop.
const GRACE: Duration = Duration::from_secs(20);
/// How long calls of models may take after it to be settled: their answers are read on.
const SETTLING: Duration = Duration::from_secs(AFTER_AGENT.as_secs() + 5);
/// How long a connection may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stop = termination()?;
    serve(arguments, client().await?, stop).await
}

/// Serves until `stop` resolves.
pub async fn serve(
    arguments: Arguments,
    client: kube::Client,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let Arguments {
        listen,
        status_listen,
        tls_certificate_file,
        tls_key_file,
        store,
        redis_url,
        redis_password,
        operator_service_account,
        heartbeat_seconds,
        log_format: _,
        daily_budgets,
        registry,
        quotas,
    } = arguments;
    let pem = Pem::read(&tls_certificate_file, &tls_key_file).await?;
    let tls = RustlsConfig::from_config(pem.config()?);
    let metrics = Metrics::new()?;
    let background = TaskTracker::new();
    let heartbeat = Duration::from_secs(heartbeat_seconds.into());
    let store = Store::open(&store)?;
    let queue = Queue::new(
        &redis_url,
        &redis_password.0,
        heartbeat,
        metrics.clone(),
        background.clone(),
    )
    .context("the Redis URL cannot be used")?;
    let registry = registry.settings().map(Registry::new).transpose()?;
    let status = Arc::new(Status {
        client: client.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        stopping: AtomicBool::new(false),
    });
    let models = Models::new(
        client.clone(),
        store.clone(),
        queue.clone(),
        daily_budgets,
        &quotas,
        background.clone(),
    )?;
    let gateway = Arc::new(Gateway::new(Ingredients {
        client,
        store,
        queue,
        registry,
        models,
        metrics,
        heartbeat,
        operator_service_account,
        quotas,
        background: background.clone(),
    }));

    let (api_handle, status_handle) = (Handle::<SocketAddr>::new(), Handle::<SocketAddr>::new());
    let mut api = axum_server::bind_rustls(listen, tls.clone())
        .handle(api_handle.clone())
        .first_request_timeout(HEAD_TIMEOUT)
        .http1_only();
    api.http_builder().http1().header_read_timeout(HEAD_TIMEOUT);
    let api = api.serve(router::router(gateway).into_make_service_with_connect_info::<SocketAddr>());
    let status_service = status_server::router(status.clone()).into_make_service();
    let status_server = axum_server::bind(status_listen)
        .handle(status_handle.clone())
        .serve(status_service);
    tracing::info!(%listen, %status_listen, "the gateway begins");

    let ending = async {
        stop.await;
        tracing::info!("the gateway ends");
        status.stopping.store(true, Ordering::Relaxed);
        api_handle.graceful_shutdown(Some(GRACE));
        background.close();
        // What is announced late, while requests end.
        let _ = tokio::time::timeout(GRACE, background.wait()).await;
        while api_handle.connection_count() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        settle(&background).await;
        status_handle.graceful_shutdown(Some(Duration::from_secs(1)));
    };
    let serving = async {
        tokio::try_join!(
            async { api.await.with_context(|| format!("the API on {listen}")) },
            async {
                status_server
                    .await
                    .with_context(|| format!("the status on {status_listen}"))
            },
        )
    };
    let follow = tls::follow(tls, pem, &tls_certificate_file, &tls_key_file);
    tokio::select! {
        served = serving => served.map(drop),
        () = async { ending.await; std::future::pending().await } => Ok(()),
        () = follow => Ok(()),
    }
}

/// What calls of models used is known, and written, after their answers have ended.
async fn settle(background: &TaskTracker) {
    if tokio::time::timeout(SETTLING, background.wait()).await.is_err() {
        tracing::warn!("what some calls of models used was not written; they count with their maximum");
    }
}

/// A client without retries: the runner tries again, and a claim or a result must not wait behind the gateway's back.
async fn client() -> anyhow::Result<kube::Client> {
    let mut config = kube::Config::infer()
        .await
        .context("no way to the API server is configured")?;
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(10));
    kube::Client::try_from(config).context("the API server cannot be used")
}

fn termination() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = interrupt.recv() => (),
        }
    })
}
