//! A registry that wants a token by the distribution specification, and that can be made to call back in the middle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{Response, header};
use stagecraft_api::Digest;

#[derive(Clone, Default)]
pub struct TokenRegistry(pub Arc<Mutex<TokenState>>);

#[derive(Default)]
pub struct TokenState {
    port: u16,
    pub scopes: Vec<String>,
    pub blobs: HashMap<String, Bytes>,
    pub manifests: HashMap<String, Bytes>,
    /// Runs when a blob was uploaded.
    pub meanwhile: Option<Box<dyn Fn() + Send>>,
}

impl TokenRegistry {
    pub async fn start() -> Self {
        let registry = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        registry.0.lock().unwrap().port = listener.local_addr().unwrap().port();
        let router = Router::new().fallback(answer).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        registry
    }

    pub fn port(&self) -> u16 {
        self.0.lock().unwrap().port
    }
}

async fn answer(State(registry): State<TokenRegistry>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut state = registry.0.lock().unwrap();
    let reply = Response::builder();
    let path = parts.uri.path().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let authorization = parts.headers.get(header::AUTHORIZATION);
    if path == "/token" {
        // Base64 of `gateway:a password`.
        let basic = authorization.is_some_and(|value| value == "Basic Z2F0ZXdheTphIHBhc3N3b3Jk");
        if !basic {
            return reply.status(401).body(Body::empty()).unwrap();
        }
        state.scopes.push(query);
        return reply.body(Body::from(r#"{"token":"let-me-in"}"#)).unwrap();
    }
    if authorization.is_none_or(|value| value != "Bearer let-me-in") {
        let challenge = format!(
            "Bearer realm=\"http://127.0.0.1:{}/token\",service=\"test\"",
            state.port
        );
        return reply
            .status(401)
            .header("www-authenticate", challenge)
            .body(Body::empty())
            .unwrap();
    }
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let reply = match (parts.method.as_str(), path.contains("/manifests/")) {
        ("PUT", true) => {
            state.manifests.insert(last, body);
            reply.status(201).header("location", path)
        }
        ("HEAD", false) => reply.status(if state.blobs.contains_key(&last) { 200 } else { 404 }),
        ("POST", false) => reply.status(202).header("location", "/v2/upload/7?state=x"),
        ("PUT", false) => {
            assert_eq!(parts.headers["content-length"], body.len().to_string());
            let digest = query.rsplit("digest=").next().unwrap().replace("%3A", ":");
            assert_eq!(Digest::of(&body).as_str(), digest);
            state.blobs.insert(digest, body);
            if let Some(meanwhile) = &state.meanwhile {
                meanwhile();
            }
            reply.status(201).header("location", "/there")
        }
        _ => reply.status(404),
    };
    reply.body(Body::empty()).unwrap()
}
