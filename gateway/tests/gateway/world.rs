//! A gateway over a mock cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, Response, StatusCode};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use stagecraft_api::Digest;
use stagecraft_gateway::args::Quotas;
use stagecraft_gateway::metrics::Metrics;
use stagecraft_gateway::model::Models;
use stagecraft_gateway::model::daily::DailyBudgets;
use stagecraft_gateway::queue::Queue;
use stagecraft_gateway::registry::Registry;
use stagecraft_gateway::router::{Gateway, Ingredients, router};
use stagecraft_gateway::store::Store;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::cluster::{Cluster, OPERATOR, key};

pub struct World {
    pub cluster: Arc<Cluster>,
    pub store: Store,
    pub metrics: Metrics,
    pub directory: tempfile::TempDir,
    background: TaskTracker,
    router: Router,
}

pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// What came after the body.
    pub trailers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{:?}", self.body))
    }

    /// Status and code of a refusal.
    pub fn refusal(&self) -> (u16, String) {
        let code = self.json()["error"]["code"].as_str().unwrap().to_owned();
        (self.status.as_u16(), code)
    }
}

impl World {
    /// No Redis listens here: whatever passes in this world passes without one.
    pub fn new() -> Self {
        Self::with("redis://127.0.0.1:1", "", Quotas::default())
    }

    pub fn with(redis_url: &str, redis_password: &str, quotas: Quotas) -> Self {
        Self::made(redis_url, redis_password, quotas, None, DailyBudgets::default())
    }

    /// With limits of what a namespace may use in a day.
    pub fn with_daily_budgets(daily: DailyBudgets) -> Self {
        Self::made("redis://127.0.0.1:1", "", Quotas::default(), None, daily)
    }

    pub fn with_registry(registry: Registry) -> Self {
        Self::made(
            "redis://127.0.0.1:1",
            "",
            Quotas::default(),
            Some(registry),
            DailyBudgets::default(),
        )
    }

    fn made(
        redis_url: &str,
        redis_password: &str,
        quotas: Quotas,
        registry: Option<Registry>,
        daily: DailyBudgets,
    ) -> Self {
        let cluster = Arc::new(Cluster::default());
        cluster.token("operator", OPERATOR, Some(("op", "op-uid")), "stagecraft-gateway");
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let metrics = Metrics::new().unwrap();
        let background = TaskTracker::new();
        let heartbeat = Duration::from_secs(5);
        let queue = Queue::new(
            redis_url,
            redis_password,
            heartbeat,
            metrics.clone(),
            background.clone(),
        )
        .unwrap();
        let gateway = Gateway::new(Ingredients {
            client: cluster.client(),
            store: store.clone(),
            queue: queue.clone(),
            registry,
            models: Models::new(
                cluster.client(),
                store.clone(),
                queue,
                daily,
                &quotas,
                background.clone(),
            )
            .unwrap(),
            metrics: metrics.clone(),
            heartbeat,
            operator_service_account: OPERATOR.to_owned(),
            quotas,
            background: background.clone(),
        });
        Self {
            cluster,
            store,
            metrics,
            directory,
            background,
            router: router(Arc::new(gateway)),
        }
    }

    /// Waits until what was begun in the background is done.
    pub async fn settled(&self) {
        self.background.close();
        self.background.wait().await;
        self.background.reopen();
    }

    /// The Workflow at attempt 1 of `scaffold`, whose Pod has claimed it.
    pub async fn claimed(&self) -> String {
        self.cluster.workflow(1, "Running");
        let pod = self.cluster.attempt(1, &Value::Null);
        let reply = self.claim(&pod).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        pod
    }

    pub async fn send(&self, method: &str, path: &str, token: &str, body: impl Into<Body>) -> Reply {
        let authorization = format!("Bearer {token}");
        self.request(method, path, &[("authorization", &authorization)], body.into())
            .await
    }

    pub async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Body) -> Reply {
        let response = self.response(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let whole = body.collect().await.unwrap();
        Reply {
            status: parts.status,
            headers: parts.headers,
            trailers: whole.trailers().cloned().unwrap_or_default(),
            body: whole.to_bytes(),
        }
    }

    /// The same with a body that is still to be read.
    pub async fn response(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Response<Body> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).unwrap();
        let source: SocketAddr = "10.0.0.7:40000".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(source));
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub async fn post(&self, path: &str, token: &str, body: &Value) -> Reply {
        self.send("POST", path, token, body.to_string()).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Reply {
        self.send("GET", path, token, Body::empty()).await
    }

    pub async fn claim(&self, pod: &str) -> Reply {
        self.post("/v1/claim", pod, &json!({"version": "1.2.3"})).await
    }

    pub async fn heartbeat(&self, pod: &str) -> Reply {
        self.post("/v1/heartbeat", pod, &json!({"state": "working"}))
            .await
    }

    pub async fn upload(&self, pod: &str, content: &'static [u8]) -> (Digest, Reply) {
        let digest = Digest::of(content);
        let reply = self
            .send("PUT", &format!("/v1/blobs/{digest}"), pod, content)
            .await;
        (digest, reply)
    }

    pub async fn result(&self, pod: &str, result: &Value) -> Reply {
        self.post("/v1/result", pod, result).await
    }

    /// Names of all files in the store, those being written too.
    pub fn files(&self) -> Vec<String> {
        fn walk(directory: &std::path::Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, files);
                } else {
                    files.push(path.display().to_string());
                }
            }
        }
        let mut files = Vec::new();
        walk(self.directory.path(), &mut files);
        files.sort();
        files
    }
}

/// A result that succeeded.
pub fn success(attempt: u32, summary: &str) -> Value {
    json!({"attempt": key(attempt), "startedAt": "2026-11-01T10:00:00.000Z",
        "finishedAt": "2026-11-01T10:00:05.000Z", "outcome": "succeeded", "summary": summary, "outputs": {"n": 1},
        "workspace": null, "artifacts": []})
}

/// The same, which names a blob.
pub fn success_with(attempt: u32, digest: &Digest, bytes: usize) -> Value {
    let mut result = success(attempt, "done");
    result["artifacts"] =
        json!([{"name": "report", "digest": digest, "bytes": bytes, "mediaType": "text/plain"}]);
    result
}
