//! Routes, and what every request passes first: authentication, quotas, counting.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, delete, get, post, put};
use kube::Client;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::args::Quotas;
use crate::authorize::Member;
use crate::chain::Chain;
use crate::error::{Refusal, RefusalCode};
use crate::identity::{Authenticator, Caller, PodIdentity};
use crate::metrics::Metrics;
use crate::model::{Models, relay};
use crate::queue::Queue;
use crate::rate::Buckets;
use crate::registry::Registry;
use crate::store::{Binding, Grant, Store};
use crate::{blob, branch, claim, event, heartbeat, image, operator_api, result, telemetry};

/// Everything that the handlers work with.
pub struct Gateway {
    pub chain: Chain,
    pub authenticator: Authenticator,
    pub store: Store,
    pub queue: Queue,
    /// None when the installation has none.
    pub registry: Option<Arc<Registry>>,
    pub images: image::Turns,
    pub models: Arc<Models>,
    pub metrics: Metrics,
    pub heartbeat: Duration,
    pub operator_service_account: String,
    pub requests: Buckets<PodIdentity>,
    pub events: Buckets<PodIdentity>,
    /// Work that outlives its request.
    pub background: TaskTracker,
}

/// What a gateway is made of.
pub struct Ingredients {
    pub client: Client,
    pub store: Store,
    pub queue: Queue,
    pub registry: Option<Registry>,
    pub models: Models,
    pub metrics: Metrics,
    pub heartbeat: Duration,
    pub operator_service_account: String,
    pub quotas: Quotas,
    pub background: TaskTracker,
}

impl Gateway {
    pub fn new(parts: Ingredients) -> Self {
        let Ingredients {
            client,
            store,
            queue,
            registry,
            models,
            metrics,
            heartbeat,
            operator_service_account,
            quotas,
            background,
        } = parts;
        let events_per_minute = f64::from(quotas.attempt_events_per_minute);
        Self {
            chain: Chain::new(client.clone()),
            authenticator: Authenticator::new(client, &quotas, metrics.clone()),
            store,
            queue,
            registry: registry.map(Arc::new),
            images: image::Turns::default(),
            models: Arc::new(models),
            metrics,
            heartbeat,
            operator_service_account,
            requests: Buckets::new(
                f64::from(quotas.attempt_requests_per_second),
                f64::from(quotas.attempt_requests_burst),
            ),
            events: Buckets::new(events_per_minute / 60.0, events_per_minute),
            background,
        }
    }

    /// The binding of an attempt that this Pod has claimed and that no higher one has overtaken.
    pub async fn held(&self, member: &Member) -> Result<Binding, Refusal> {
        match self.store.holds(&member.key, &member.pod.uid).await? {
            Grant::First(binding) | Grant::Held(binding) => Ok(binding),
            Grant::Taken => Err(Refusal::OtherPod),
            Grant::Free => Err(Refusal::NotClaimed),
            Grant::Fenced(granted) => Err(Refusal::Fenced { granted }),
        }
    }
}

/// The API. It needs the caller's address as [`ConnectInfo`].
pub fn router(gateway: Arc<Gateway>) -> Router {
    let authenticate = middleware::from_fn_with_state(gateway.clone(), authenticate);
    let observe = middleware::from_fn_with_state(gateway.clone(), observe);
    Router::new()
        .route("/v1/claim", post(claim::claim))
        .route("/v1/heartbeat", post(heartbeat::heartbeat))
        .route("/v1/events", post(event::events))
        .route("/v1/result", post(result::report))
        .route("/v1/blobs/{digest}", put(blob::upload).get(blob::download))
        .route("/v1/branches/{branch}", get(branch::show).post(branch::advance))
        .route("/v1/branches/{branch}/bundle", get(branch::bundle))
        .route("/v1/images", post(image::push))
        .route("/v1/models/{protocol}/{*path}", any(relay::relay))
        .route(
            "/v1/operator/results/{uid}/{stage}/{attempt}",
            get(operator_api::result),
        )
        .route("/v1/operator/blobs/{uid}/{digest}", get(operator_api::blob))
        .route("/v1/operator/usage/{uid}", get(operator_api::usage))
        .route(
            "/v1/operator/providers/{namespace}/{name}",
            get(operator_api::provider),
        )
        .route("/v1/operator/workflows", get(operator_api::workflows))
        .route("/v1/operator/workflows/{uid}", delete(operator_api::purge))
        .fallback(|| async { Refusal::NotFound })
        .method_not_allowed_fallback(|| async { Refusal::NotFound })
        .layer(authenticate)
        .layer(observe)
        .with_state(gateway)
}

/// Times, counts and traces a request.
async fn observe(State(gateway): State<Arc<Gateway>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    // Never the path as sent: strangers choose it, and each one would be a series of its own.
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or("none", MatchedPath::as_str)
        .to_owned();
    let span = telemetry::request_span(request.method().as_str(), &route);
    let response = next.run(request).instrument(span.clone()).await;
    let elapsed = started.elapsed();
    let status = response.status().as_u16();
    gateway.metrics.request(&route, status, elapsed);
    if let Some(RefusalCode(code)) = response.extensions().get() {
        gateway.metrics.refusal(code);
    }
    span.in_scope(|| tracing::debug!(status, seconds = elapsed.as_secs_f64(), "answered"));
    response
}

/// 401 comes before everything else, also before 404.
async fn authenticate(State(gateway): State<Arc<Gateway>>, mut request: Request, next: Next) -> Response {
    let source = source(&request);
    let caller = match gateway
        .authenticator
        .authenticate(request.headers(), source)
        .await
    {
        Ok(caller) => caller,
        Err(refusal) => return refusal.into_response(),
    };
    if let Some(pod) = &caller.pod
        && caller.username != gateway.operator_service_account
        && let Err(wait) = gateway.requests.take(pod, 1.0, Instant::now())
    {
        return Refusal::TooMany {
            what: "requests",
            wait,
        }
        .into_response();
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

fn source(request: &Request) -> IpAddr {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map_or(
        IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        |ConnectInfo(address)| address.ip().to_canonical(),
    )
}

/// A caller whose token is bound to a Pod.
pub struct StagePod(pub PodIdentity);

impl<S: Send + Sync> FromRequestParts<S> for StagePod {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Caller>().ok_or(Refusal::NoToken)?;
        caller
            .pod
            .clone()
            .map(Self)
            .ok_or_else(|| Refusal::NoAttempt("the token is bound to no Pod".to_owned()))
    }
}

/// The operator.
pub struct Operator;

impl FromRequestParts<Arc<Gateway>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, gateway: &Arc<Gateway>) -> Result<Self, Refusal> {
        let caller = parts.extensions.get::<Caller>().ok_or(Refusal::NoToken)?;
        if caller.username == gateway.operator_service_account {
            Ok(Self)
        } else {
            Err(Refusal::NotForCaller)
        }
    }
}
