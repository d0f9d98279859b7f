//! A model API that answers by a script, for tests. It speaks Anthropic Messages, OpenAI Chat Completions and OpenAI Responses, in one piece
//! or as a stream, as each request asks; or whatever bytes a test wants to see.

#![expect(
    clippy::indexing_slicing,
    reason = "it builds JSON of its own for tests, where a panic is a failure that is seen"
)]

mod chat;
mod messages;
mod responses;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::stream;
use serde_json::{Value, json};

/// An answer in one piece.
type Whole = fn(&Turn, &Asking<'_>) -> Value;
/// The events of an answer.
type Streamed = fn(&Turn, &Asking<'_>) -> Vec<String>;

/// What is answered to one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// These bytes, whatever was asked.
    Raw(Raw),
    /// What a model says, in the protocol and the manner that the request asks for.
    Turn(Turn),
}

#[derive(Clone, Debug)]
pub struct Raw {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug)]
pub enum Piece {
    Bytes(Vec<u8>),
    Wait(Duration),
    /// The connection is cut.
    Cut,
}

/// One turn of a model.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    pub text: String,
    pub calls: Vec<ToolCall>,
    pub stop: Stop,
    pub usage: Usage,
    /// How long the model thinks before its first word.
    pub wait: Duration,
}

/// A call of a tool of the agent.
#[derive(Clone, Debug)]
pub struct ToolCall {
    pub name: String,
    pub input: Value,
}

/// Why a turn ends. A turn with calls ends for them where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stop {
    #[default]
    End,
    MaxTokens,
    Refusal,
    /// Messages alone has it; the others end.
    Pause,
}

/// Tokens, as they are reported.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub cache_write: u64,
    pub cache_read: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            input: 100,
            output: 20,
            cache_write: 0,
            cache_read: 0,
        }
    }
}

impl Turn {
    /// A turn that says something.
    pub fn text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            ..Self::default()
        }
    }

    /// The same with a call of a tool.
    #[must_use]
    pub fn call(mut self, name: &str, input: Value) -> Self {
        self.calls.push(ToolCall {
            name: name.to_owned(),
            input,
        });
        self
    }
}

impl From<Turn> for Step {
    fn from(turn: Turn) -> Self {
        Self::Turn(turn)
    }
}

impl Step {
    pub fn json(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let mut headers = owned(headers);
        headers.push(("content-type".to_owned(), "application/json".to_owned()));
        Self::Raw(Raw {
            status,
            headers,
            pieces: vec![Piece::Bytes(body.as_bytes().to_vec())],
        })
    }

    pub fn stream(pieces: Vec<Piece>) -> Self {
        Self::Raw(Raw {
            status: 200,
            headers: owned(&[("content-type", "text/event-stream"), ("request-id", "req-1")]),
            pieces,
        })
    }

    /// An answer in one piece that arrives in several.
    pub fn whole(pieces: Vec<Piece>) -> Self {
        Self::Raw(Raw {
            status: 200,
            headers: owned(&[("content-type", "application/json")]),
            pieces,
        })
    }

    /// An error as both providers write it.
    pub fn error(status: u16, headers: &[(&str, &str)], kind: &str, message: &str) -> Self {
        let body = json!({"type": "error", "error": {"type": kind, "message": message, "code": kind, "param": null}});
        Self::json(status, headers, &body.to_string())
    }

    fn answer(self, path: &str, asked: &Value, number: usize) -> Raw {
        let turn = match self {
            Self::Raw(raw) => return raw,
            Self::Turn(turn) => turn,
        };
        let is_stream = asked.get("stream") == Some(&Value::Bool(true));
        let request = Asking {
            model: asked.get("model").and_then(Value::as_str).unwrap_or_default(),
            number,
            wants_usage: asked.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)),
        };
        let (whole, events): (Whole, Streamed) = match path {
            path if path.ends_with("/messages") => (messages::whole, messages::events),
            path if path.ends_with("/chat/completions") => (chat::whole, chat::events),
            path if path.ends_with("/responses") => (responses::whole, responses::events),
            _ => return not_found(path),
        };
        let mut pieces = vec![Piece::Wait(turn.wait)];
        if is_stream {
            let events = events(&turn, &request).into_iter();
            pieces.extend(events.map(|event| Piece::Bytes(event.into_bytes())));
        } else {
            pieces.push(Piece::Bytes(whole(&turn, &request).to_string().into_bytes()));
        }
        let kind = if is_stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        let id = format!("req_{number}");
        Raw {
            status: 200,
            headers: owned(&[("content-type", kind), ("request-id", &id), ("x-request-id", &id)]),
            pieces,
        }
    }
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let headers = headers.iter();
    headers
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn not_found(path: &str) -> Raw {
    match Step::error(404, &[], "not_found_error", &format!("no such path: {path}")) {
        Step::Raw(raw) => raw,
        Step::Turn(_) => Raw {
            status: 404,
            headers: Vec::new(),
            pieces: Vec::new(),
        },
    }
}

/// What of a request the answer depends on.
struct Asking<'request> {
    model: &'request str,
    number: usize,
    wants_usage: bool,
}

/// Text in pieces of a few characters, as models stream it.
fn words(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters
        .chunks(12)
        .map(|chunk| chunk.iter().collect())
        .collect()
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub body: String,
}

#[derive(Clone, Default)]
struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server. It ends when it is dropped.
pub struct ModelServer {
    pub address: SocketAddr,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    script: Script,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ModelServer {
    /// On loopback. It lists no models to whoever asks, without counting that.
    pub async fn start(steps: impl IntoIterator<Item = Step>) -> std::io::Result<Self> {
        Self::start_at("127.0.0.1:0", steps).await
    }

    pub async fn start_at(address: &str, steps: impl IntoIterator<Item = Step>) -> std::io::Result<Self> {
        let script = Script {
            steps: Arc::new(Mutex::new(steps.into_iter().collect())),
            asked: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(answer).with_state(script.clone());
        let task = tokio::spawn(async move {
            // It serves until it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            url: format!("http://{address}"),
            script,
            task,
        })
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.script.asked).clone()
    }

    /// Adds to the script.
    pub fn then(&self, steps: impl IntoIterator<Item = Step>) {
        lock(&self.script.steps).extend(steps);
    }

    /// Forgets what is left of the script.
    pub fn clear(&self) {
        lock(&self.script.steps).clear();
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = head.uri.path().to_owned();
    if head.method == Method::GET && path.ends_with("/models") {
        return axum::Json(json!({"object": "list", "data": []})).into_response();
    }
    let number = {
        let mut asked = lock(&script.asked);
        asked.push(Asked {
            path: path.clone(),
            headers: head.headers,
            body: body.clone(),
        });
        asked.len()
    };
    let step = lock(&script.steps).pop_front();
    let over = || {
        Step::error(
            418,
            &[("x-should-retry", "false")],
            "invalid_request_error",
            "the script is over",
        )
    };
    let asked = serde_json::from_str(&body).unwrap_or_default();
    respond(step.unwrap_or_else(over).answer(&path, &asked, number))
}

fn respond(raw: Raw) -> Response {
    let mut response = Response::builder().status(raw.status);
    for (name, value) in raw.headers {
        response = response.header(name, value);
    }
    let pieces = stream::unfold(raw.pieces.into_iter(), |mut pieces| async move {
        loop {
            match pieces.next()? {
                Piece::Bytes(bytes) => return Some((Ok(Bytes::from(bytes)), pieces)),
                Piece::Wait(time) => tokio::time::sleep(time).await,
                Piece::Cut => {
                    // What came before goes out while the body has nothing more.
                    tokio::task::yield_now().await;
                    return Some((Err(std::io::Error::other("cut")), Vec::new().into_iter()));
                }
            }
        }
    });
    let body = Body::from_stream(pieces);
    response.body(body).unwrap_or_default()
}
