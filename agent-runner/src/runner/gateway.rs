//! The runner's client of the gateway.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;
use stagecraft_api::protocol::{
    BranchEntry, BranchReply, ClaimReply, ClaimRequest, ErrorReply, EventsRequest, HeartbeatReply,
    HeartbeatRequest, MoveBranchRequest, PushImageReply, PushImageRequest, ResultReply,
};
use stagecraft_api::result::AttemptResult;
use stagecraft_api::{Digest, StructuredError};

use stagecraft_api::error::chain;

/// Why the gateway did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// It may do so later.
    #[error("the gateway cannot be reached or is busy: {message}")]
    Away {
        message: String,
        retry_after: Option<Duration>,
    },
    /// It never will.
    #[error("the gateway refused with status {status}: {}", error.message)]
    Refused {
        status: StatusCode,
        error: Box<StructuredError>,
    },
    #[error("a local file cannot be read or written")]
    File(#[from] std::io::Error),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("STAGECRAFT_GATEWAY_URL {0:?} is not a URL with a host")]
    Url(String),
    #[error("the HTTP client cannot be made; is STAGECRAFT_GATEWAY_CA valid PEM?")]
    Client(#[from] reqwest::Error),
}

/// Where the gateway is and how it is trusted.
pub struct GatewaySettings {
    pub url: String,
    pub address: SocketAddr,
    pub certificate_authority: String,
    pub token_file: PathBuf,
}

pub struct Gateway {
    http: reqwest::Client,
    /// For calls of models, which may be silent for long; the gateway knows for how long.
    patient: reqwest::Client,
    url: String,
    token_file: PathBuf,
}

/// Longest time for a small request.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Slowest transfer of a blob that is waited for, in bytes per second.
const SLOWEST: u64 = 128 * 1024;
/// Longest silence of a model: more than any ModelProvider allows.
const MODEL_SILENCE: Duration = Duration::from_mins(70);
/// First and longest pause between tries; each is lengthened by chance, so that Pods do not come in step.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];
/// Longest pause that the gateway may ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_mins(1);
/// Pause after a refused token.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(5);
/// What the gateway answers when it does not know of the claim: it has been restored, or the claim never arrived.
const NOT_CLAIMED: &str = "NotClaimed";
/// What the registry behind the gateway answers. Whether to ask again is decided by who asked.
const OF_REGISTRY: [&str; 2] = ["RegistryUnavailable", "RegistryRefused"];
/// Longest time for a push. The gateway goes on when it is over, and the next try finds what is done.
const PUSH_TIMEOUT: Duration = Duration::from_mins(10);

impl Gateway {
    pub fn new(settings: GatewaySettings) -> Result<Self, SettingsError> {
        let GatewaySettings {
            url,
            address,
            certificate_authority,
            token_file,
        } = settings;
        let parsed = reqwest::Url::parse(&url).map_err(|_| SettingsError::Url(url.clone()))?;
        let host = parsed.host_str().ok_or_else(|| SettingsError::Url(url.clone()))?;
        let roots = reqwest::Certificate::from_pem_bundle(certificate_authority.as_bytes())?;
        let client = |longest_silence| {
            reqwest::Client::builder()
                .tls_certs_only(roots.clone())
                .no_proxy()
                .https_only(true)
                .redirect(reqwest::redirect::Policy::none())
                .resolve(host, address)
                .connect_timeout(Duration::from_secs(5))
                .read_timeout(longest_silence)
                .build()
        };
        Ok(Self {
            http: client(Duration::from_mins(1))?,
            patient: client(MODEL_SILENCE)?,
            url: url.trim_end_matches('/').to_owned(),
            token_file,
        })
    }

    /// Asks for the Pod's task, once.
    pub async fn claim(&self) -> Result<ClaimReply, GatewayError> {
        let request = ClaimRequest {
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.post("/v1/claim", &request).await
    }

    /// Says that the attempt lives, once.
    pub async fn heartbeat(&self, state: &str) -> Result<HeartbeatReply, GatewayError> {
        let request = HeartbeatRequest {
            state: state.to_owned(),
        };
        self.post("/v1/heartbeat", &request).await
    }

    /// Hands over progress, once.
    pub async fn events(&self, request: &EventsRequest) -> Result<(), GatewayError> {
        let request = self.request(Method::POST, "/v1/events").await?.json(request);
        accept(request.timeout(TIMEOUT)).await.map(drop)
    }

    /// Reports the result until the gateway has taken or refused it.
    pub async fn report(&self, result: &AttemptResult) -> Result<ResultReply, GatewayError> {
        self.persist("report the result", || self.post("/v1/result", result))
            .await
    }

    /// Uploads a blob until the gateway has taken or refused it.
    pub async fn upload(&self, digest: &Digest, bytes: u64, file: &Path) -> Result<(), GatewayError> {
        self.persist("upload a blob", || async {
            let body = tokio::fs::File::open(file).await?;
            let request = self
                .request(Method::PUT, &format!("/v1/blobs/{digest}"))
                .await?
                .header(header::CONTENT_LENGTH, bytes)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .timeout(transfer_time(bytes))
                .body(body);
            accept(request).await.map(drop)
        })
        .await
    }

    /// Has an uploaded image pushed until the gateway or the registry behind it has taken or refused it.
    pub async fn push_image(&self, manifest: &Digest) -> Result<PushImageReply, GatewayError> {
        let body = PushImageRequest {
            manifest: manifest.clone(),
        };
        self.persist("push an image", || async {
            let request = self.request(Method::POST, "/v1/images").await?.json(&body);
            let response = accept(request.timeout(PUSH_TIMEOUT)).await?;
            response.json().await.map_err(away)
        })
        .await
    }

    /// Downloads a blob of the task until it is there or refused. Reads at most `bytes` and one more; whether it is the
    /// right one is for the caller to see.
    pub async fn download(&self, digest: &Digest, bytes: u64, file: &Path) -> Result<(), GatewayError> {
        self.fetch(&format!("/v1/blobs/{digest}"), bytes, file).await
    }

    /// Asks where the task's branch stands until the gateway has answered or refused.
    pub async fn branch(&self, branch: &str) -> Result<BranchReply, GatewayError> {
        self.persist("read the branch", || async {
            let request = self.request(Method::GET, &branch_path(branch)).await?;
            accept(request.timeout(TIMEOUT)).await?.json().await.map_err(away)
        })
        .await
    }

    /// Downloads the bundle that the branch stands at by then, as [`Self::download`] does.
    pub async fn download_tip(&self, branch: &str, bytes: u64, file: &Path) -> Result<(), GatewayError> {
        self.fetch(&format!("{}/bundle", branch_path(branch)), bytes, file)
            .await
    }

    /// Moves the branch until the gateway has done it or refused. The gateway copies the bundle meanwhile.
    pub async fn move_branch(
        &self,
        branch: &str,
        body: &MoveBranchRequest,
    ) -> Result<BranchEntry, GatewayError> {
        self.persist("move the branch", || async {
            let request = self.request(Method::POST, &branch_path(branch)).await?.json(body);
            let response = accept(request.timeout(transfer_time(body.workspace.bytes))).await?;
            response.json().await.map_err(away)
        })
        .await
    }

    /// Passes a call of a model on, once. Whatever the gateway answers is the answer.
    pub async fn call_model(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: reqwest::Body,
    ) -> Result<Response, GatewayError> {
        let token = self.token().await?;
        let request = self
            .patient
            .request(method, format!("{}/v1/models/{path}", self.url));
        // Its own authorization comes last: the agent has none that counts.
        // In a trailer the gateway tells what only the end of an answer tells.
        let request = request.headers(headers).header(header::TE, "trailers");
        let request = request.bearer_auth(token.trim()).body(body);
        request.send().await.map_err(away)
    }

    async fn fetch(&self, path: &str, bytes: u64, file: &Path) -> Result<(), GatewayError> {
        self.persist("download a blob", || async {
            let request = self
                .request(Method::GET, path)
                .await?
                .timeout(transfer_time(bytes));
            let mut response = accept(request).await?;
            let mut target = tokio::fs::File::create(file).await?;
            let mut received = 0;
            while let Some(chunk) = response.chunk().await.map_err(away)? {
                tokio::io::AsyncWriteExt::write_all(&mut target, &chunk).await?;
                received += chunk.len() as u64;
                if received > bytes {
                    break;
                }
            }
            tokio::io::AsyncWriteExt::flush(&mut target).await?;
            Ok(())
        })
        .await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, GatewayError> {
        let request = self.request(Method::POST, path).await?.json(body);
        accept(request.timeout(TIMEOUT)).await?.json().await.map_err(away)
    }

    async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, GatewayError> {
        let token = self.token().await?;
        Ok(self
            .http
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(token.trim()))
    }

    /// The kubelet rotates the token, so it is read at each use.
    async fn token(&self) -> Result<String, GatewayError> {
        let read = tokio::fs::read_to_string(&self.token_file).await;
        read.map_err(|error| {
            let message = format!("the token {} cannot be read: {error}", self.token_file.display());
            GatewayError::Away {
                message,
                retry_after: None,
            }
        })
    }

    /// Tries for ever while the gateway is away; claims again when it has forgotten.
    async fn persist<T, F: Future<Output = Result<T, GatewayError>>>(
        &self,
        what: &str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, GatewayError> {
        loop {
            let outcome = with_retries(what, &mut attempt).await;
            match outcome {
                Err(GatewayError::Refused { error, .. }) if error.code == NOT_CLAIMED => {
                    tracing::info!("the gateway does not know of the claim, claiming again");
                    with_retries("claim", || self.claim()).await?;
                }
                // The token may be about to be rotated.
                Err(GatewayError::Refused {
                    status: StatusCode::UNAUTHORIZED,
                    error,
                }) => {
                    tracing::warn!(error = %error.message, "the gateway does not accept the token, cannot {what}");
                    tokio::time::sleep(UNAUTHORIZED_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }
}

/// Tries for ever while the gateway is away.
pub async fn with_retries<T, F: Future<Output = Result<T, GatewayError>>>(
    what: &str,
    attempt: impl FnMut() -> F,
) -> Result<T, GatewayError> {
    let [first, longest] = PAUSES;
    let backoff = ExponentialBuilder::default()
        .with_min_delay(first)
        .with_max_delay(longest)
        .with_jitter()
        .without_max_times();
    attempt
        .retry(backoff)
        .when(|error| matches!(error, GatewayError::Away { .. }))
        .adjust(|error, pause| match error {
            GatewayError::Away {
                retry_after: Some(wait),
                ..
            } => pause.map(|pause| pause.max(*wait)),
            _ => pause,
        })
        .notify(|error, pause| tracing::warn!(error = %error, ?pause, "cannot {what}, trying again"))
        .await
}

fn branch_path(branch: &str) -> String {
    format!("/v1/branches/{branch}")
}

fn transfer_time(bytes: u64) -> Duration {
    Duration::from_secs(60 + bytes / SLOWEST)
}

fn away(error: reqwest::Error) -> GatewayError {
    GatewayError::Away {
        message: chain(&error.without_url()),
        retry_after: None,
    }
}

async fn accept(request: RequestBuilder) -> Result<Response, GatewayError> {
    let response = request.send().await.map_err(away)?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(|seconds| Duration::from_secs(seconds).min(LONGEST_RETRY_AFTER));
    let reply: Option<ErrorReply> = response.json().await.ok();
    let error = reply.map_or_else(
        || {
            let message = format!("the gateway answered with status {status}");
            StructuredError::new("GatewayRefused", stagecraft_api::Category::Unknown, message)
        },
        |reply| reply.error.bounded(),
    );
    if may_pass(status) && !OF_REGISTRY.contains(&error.code.as_str()) {
        return Err(GatewayError::Away {
            message: format!("status {status}: {}", error.message),
            retry_after,
        });
    }
    Err(GatewayError::Refused {
        status,
        error: Box::new(error),
    })
}

/// 400 may pass because a body may end early on its way.
fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::BAD_REQUEST
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        )
}
