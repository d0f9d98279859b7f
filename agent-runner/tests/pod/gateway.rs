//! A gateway that believes everybody, over TLS, with faults on demand.

mod branches;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use http_body_util::BodyExt as _;
use serde_json::json;
use stagecraft_api::Digest;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::protocol::{AgentEvent, BranchEntry, EventsRequest, PushImageRequest};
use stagecraft_api::result::AttemptResult;
use tokio::sync::watch;

pub const NAME: &str = "stagecraft-gateway.test.svc";
pub const TOKEN: &str = "the-token";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Claim,
    Heartbeat,
    Events,
    Upload,
    Download,
    Image,
    Result,
    Branch,
    Tip,
    Move,
    Model,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Never answers, and has no effect.
    Hold,
    /// Has its effect, but never answers.
    HoldReply,
    /// Answers with this status.
    Status(u16),
    /// Answers that it does not know of the claim.
    NotClaimed,
    /// Answers that the registry behind it is away.
    RegistryUnavailable,
}

#[derive(Default)]
pub struct Seen {
    pub task: Option<TaskEnvelope>,
    pub cancel: Option<String>,
    /// Each fault happens that many times.
    pub faults: HashMap<Call, (Fault, usize)>,
    pub calls: HashMap<Call, usize>,
    pub results: Vec<AttemptResult>,
    /// Reports that came after the first.
    pub repeated: usize,
    pub blobs: HashMap<Digest, Vec<u8>>,
    /// The moves of the one branch that there is.
    pub moves: Vec<BranchEntry>,
    /// That many looks at the branch still see it before its last move.
    pub lagging: usize,
    /// Manifests of images that were pushed.
    pub images: Vec<Digest>,
    /// Calls of models: path, headers, body.
    pub models: Vec<(String, HeaderMap, String)>,
    /// What calls of models are answered instead: status, problem of the gateway's own, message.
    pub model_answer: Option<(u16, Option<&'static str>, &'static str)>,
    /// Whether the trailer of an answer says that the model refused.
    pub model_refuses: bool,
    /// Lets answers of models go on after their first piece.
    pub model_goes_on: bool,
    pub events: Vec<AgentEvent>,
    pub states: Vec<String>,
}

impl Seen {
    pub fn called(&self, call: Call) -> usize {
        self.calls.get(&call).copied().unwrap_or(0)
    }
}

pub struct Gateway {
    pub address: SocketAddr,
    pub certificate: String,
    key: String,
    seen: watch::Sender<Seen>,
    handle: Handle<SocketAddr>,
}

impl Gateway {
    pub fn start(task: TaskEnvelope) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut gateway = Self {
            address: listener.local_addr().unwrap(),
            certificate: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
            seen: watch::Sender::new(Seen {
                task: Some(task),
                ..Seen::default()
            }),
            handle: Handle::new(),
        };
        gateway.listen(listener);
        gateway
    }

    fn listen(&mut self, listener: TcpListener) {
        listener.set_nonblocking(true).unwrap();
        self.handle = Handle::new();
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        let (handle, seen) = (self.handle.clone(), self.seen.clone());
        tokio::spawn(async move {
            let tls = RustlsConfig::from_pem(certificate.into(), key.into())
                .await
                .unwrap();
            axum_server::from_tcp_rustls(listener, tls)
                .unwrap()
                .handle(handle)
                .serve(router(seen).into_make_service())
                .await
                .unwrap();
        });
    }

    /// Goes away, with every connection.
    pub fn leave(&self) {
        self.handle.shutdown();
    }

    /// Comes back at the same address.
    pub async fn come_back(&mut self) {
        let listener = loop {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            match socket.bind(self.address).and_then(|()| socket.listen(64)) {
                Ok(listener) => break listener.into_std().unwrap(),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.listen(listener);
    }

    pub fn change(&self, change: impl FnOnce(&mut Seen)) {
        self.seen.send_modify(change);
    }

    pub fn fault(&self, call: Call, fault: Fault, times: usize) {
        self.change(|seen| {
            seen.faults.insert(call, (fault, times));
        });
    }

    /// Waits until the gateway has seen something.
    pub async fn wait<T>(&self, what: &str, mut found: impl FnMut(&Seen) -> Option<T>) -> T {
        let mut receiver = self.seen.subscribe();
        let wait = async {
            loop {
                if let Some(value) = found(&receiver.borrow_and_update()) {
                    return value;
                }
                receiver.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_mins(1), wait)
            .await
            .unwrap_or_else(|_| panic!("never seen: {what}"))
    }

    pub async fn result(&self) -> AttemptResult {
        self.wait("a result", |seen| seen.results.first().cloned()).await
    }

    pub fn seen(&self) -> watch::Ref<'_, Seen> {
        self.seen.borrow()
    }
}

type Shared = State<watch::Sender<Seen>>;

fn router(seen: watch::Sender<Seen>) -> Router {
    Router::new()
        .route("/v1/claim", post(claim))
        .route("/v1/heartbeat", post(heartbeat))
        .route("/v1/events", post(events))
        .route("/v1/result", post(result))
        .route("/v1/images", post(image))
        .route("/v1/models/{*path}", post(model))
        .route("/v1/blobs/{digest}", put(upload).get(download))
        .route("/v1/branches/main", get(branches::show).post(branches::advance))
        .route("/v1/branches/main/bundle", get(branches::bundle))
        .layer(DefaultBodyLimit::disable())
        .with_state(seen)
}

/// Counts the call, checks the token, and answers in place of the handler when a fault is due.
async fn enter(seen: &watch::Sender<Seen>, headers: &HeaderMap, call: Call) -> Result<bool, Response> {
    let mut fault = None;
    seen.send_modify(|seen| {
        *seen.calls.entry(call).or_default() += 1;
        if let Some((due, times)) = seen.faults.get_mut(&call)
            && *times > 0
        {
            *times -= 1;
            fault = Some(*due);
        }
    });
    if headers
        .get("authorization")
        .is_none_or(|value| value != &format!("Bearer {TOKEN}"))
    {
        return Err(refuse(401, "BadToken"));
    }
    match fault {
        None => Ok(true),
        Some(Fault::HoldReply) => Ok(false),
        Some(Fault::Hold) => std::future::pending().await,
        Some(Fault::Status(status)) => Err(refuse(status, "Injected")),
        Some(Fault::NotClaimed) => Err(refuse(409, "NotClaimed")),
        Some(Fault::RegistryUnavailable) => Err(refuse(503, "RegistryUnavailable")),
    }
}

async fn leave(answer: bool, response: impl IntoResponse) -> Response {
    if !answer {
        std::future::pending::<()>().await;
    }
    response.into_response()
}

fn refuse(status: u16, code: &str) -> Response {
    let body = json!({"error": {"code": code, "message": "the test wants it so", "category": "validation",
        "severity": "error", "retryable": false}});
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

async fn claim(State(seen): Shared, headers: HeaderMap) -> Response {
    match enter(&seen, &headers, Call::Claim).await {
        Ok(answer) => {
            let task = seen.borrow().task.clone().unwrap();
            leave(answer, Json(json!({"envelope": task, "heartbeatSeconds": 1}))).await
        }
        Err(response) => response,
    }
}

async fn heartbeat(State(seen): Shared, headers: HeaderMap, Json(body): Json<serde_json::Value>) -> Response {
    match enter(&seen, &headers, Call::Heartbeat).await {
        Ok(answer) => {
            seen.send_modify(|seen| seen.states.push(body["state"].as_str().unwrap().to_owned()));
            let cancel = seen.borrow().cancel.clone();
            leave(answer, Json(json!({"cancel": cancel}))).await
        }
        Err(response) => response,
    }
}

async fn events(State(seen): Shared, headers: HeaderMap, Json(body): Json<EventsRequest>) -> Response {
    match enter(&seen, &headers, Call::Events).await {
        Ok(answer) => {
            seen.send_modify(|seen| seen.events.extend(body.events));
            leave(answer, StatusCode::NO_CONTENT).await
        }
        Err(response) => response,
    }
}

async fn result(State(seen): Shared, headers: HeaderMap, Json(body): Json<AttemptResult>) -> Response {
    match enter(&seen, &headers, Call::Result).await {
        Ok(answer) => {
            let mut stored = false;
            seen.send_modify(|seen| {
                stored = seen.results.is_empty();
                if stored {
                    seen.results.push(body);
                } else {
                    seen.repeated += 1;
                }
            });
            leave(answer, Json(json!({"stored": stored}))).await
        }
        Err(response) => response,
    }
}

async fn upload(
    State(seen): Shared,
    headers: HeaderMap,
    Path(digest): Path<Digest>,
    body: Bytes,
) -> Response {
    match enter(&seen, &headers, Call::Upload).await {
        Ok(answer) => {
            if Digest::of(&body) != digest {
                return refuse(422, "DigestMismatch");
            }
            seen.send_modify(|seen| {
                seen.blobs.insert(digest, body.to_vec());
            });
            leave(answer, StatusCode::CREATED).await
        }
        Err(response) => response,
    }
}

async fn download(State(seen): Shared, headers: HeaderMap, Path(digest): Path<Digest>) -> Response {
    match enter(&seen, &headers, Call::Download).await {
        Ok(answer) => {
            let blob = seen.borrow().blobs.get(&digest).cloned();
            match blob {
                Some(blob) => leave(answer, blob).await,
                None => refuse(404, "NoBlob"),
            }
        }
        Err(response) => response,
    }
}

async fn image(State(seen): Shared, headers: HeaderMap, Json(body): Json<PushImageRequest>) -> Response {
    match enter(&seen, &headers, Call::Image).await {
        Ok(answer) => {
            let reference = format!("registry.test/shop@{}", body.manifest);
            seen.send_modify(|seen| seen.images.push(body.manifest));
            leave(answer, Json(json!({"reference": reference}))).await
        }
        Err(response) => response,
    }
}

/// Answers `first`, and `second` when the test lets it.
async fn model(State(seen): Shared, headers: HeaderMap, Path(path): Path<String>, body: String) -> Response {
    if let Err(response) = enter(&seen, &headers, Call::Model).await {
        return response;
    }
    seen.send_modify(|seen| seen.models.push((path, headers, body)));
    let answer = seen.borrow().model_answer;
    if let Some((status, problem, message)) = answer {
        let body = Json(json!({"type": "error", "error": {"type": "api_error", "message": message}}));
        let mut response = (StatusCode::from_u16(status).unwrap(), body).into_response();
        if let Some(problem) = problem {
            response
                .headers_mut()
                .insert("x-stagecraft-problem", problem.parse().unwrap());
        }
        return response;
    }
    let mut changes = seen.subscribe();
    let second = futures::stream::once(async move {
        let _ = changes.wait_for(|seen| seen.model_goes_on).await;
        Ok("second")
    });
    let first = futures::stream::once(async { Ok::<_, std::io::Error>("first") });
    let pieces = axum::body::Body::from_stream(futures::StreamExt::chain(first, second));
    let headers = [
        ("content-type", "text/event-stream"),
        ("request-id", "req-7"),
        ("x-should-retry", "true"),
        ("trailer", "x-stagecraft-problem"),
    ];
    let refuses = seen.borrow().model_refuses;
    let trailers = async move {
        let name = axum::http::HeaderName::from_static("x-stagecraft-problem");
        let value = axum::http::HeaderValue::from_static("model_refused");
        refuses.then(|| Ok(HeaderMap::from_iter([(name, value)])))
    };
    (headers, axum::body::Body::new(pieces.with_trailers(trailers))).into_response()
}
