//! `/healthz`, `/readyz` and `/metrics`, for the kubelet and Prometheus: no TLS, no token, nothing to learn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use kube::Client;

use crate::metrics::Metrics;
use crate::store::Store;

/// What readiness depends on.
pub struct Status {
    pub client: Client,
    pub store: Store,
    pub metrics: Metrics,
    pub stopping: AtomicBool,
}

/// Longest wait for the API server and the store.
const TIMEOUT: Duration = Duration::from_secs(2);

pub fn router(status: Arc<Status>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route(
            "/metrics",
            get(|State(status): State<Arc<Status>>| async move { status.metrics.render() }),
        )
        .with_state(status)
}

async fn ready(State(status): State<Arc<Status>>) -> (StatusCode, String) {
    if status.stopping.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let api_server = async {
        let version = status.client.apiserver_version().await;
        version
            .map(drop)
            .map_err(|error| format!("API server: {}", stagecraft_api::error::chain(&error)))
    };
    let store = async {
        let probe = status.store.probe().await;
        probe.map_err(|error| format!("store: {}", stagecraft_api::error::chain(&error)))
    };
    let checks = async { tokio::try_join!(api_server, store) };
    match tokio::time::timeout(TIMEOUT, checks).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n".to_owned()),
        Ok(Err(problem)) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "API server or store: no answer in time\n".to_owned(),
        ),
    }
}
