//! The operator's client of the gateway.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use stagecraft_api::AttemptKey;
use stagecraft_api::budget::ModelUsage;
use stagecraft_api::protocol::{ProviderReport, StoredWorkflows, UsageReply};
use stagecraft_api::result::AttemptResult;

/// Why the gateway could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    #[error("the file {path} cannot be read")]
    File { path: PathBuf, source: std::io::Error },
    #[error("the gateway's certificate authority is not valid PEM")]
    Certificate(#[source] reqwest::Error),
    #[error("the gateway does not answer")]
    Request(#[from] reqwest::Error),
    #[error("the gateway has nothing under {0:?}")]
    Path(String),
    #[error("the gateway answered with status {0}")]
    Status(reqwest::StatusCode),
}

/// Where the gateway is and how it is trusted.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// `https://NAME.NAMESPACE.svc:PORT`.
    pub url: String,
    pub ca_file: PathBuf,
    pub token_file: PathBuf,
}

/// What the operator asks of the gateway.
pub trait Gateway: Send + Sync {
    /// The stored result of an attempt.
    fn result<'a>(&'a self, key: &'a AttemptKey) -> Answer<'a, Option<AttemptResult>>;

    /// What a Workflow's calls of models took.
    fn usage<'a>(&'a self, uid: &'a str) -> Answer<'a, Vec<ModelUsage>>;

    /// How a ModelProvider does.
    fn provider<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, ProviderReport>;

    /// UIDs of the Workflows of which the store holds anything.
    fn stored_workflows(&self) -> Answer<'_, Vec<String>>;

    /// Deletes everything that the store holds of a Workflow.
    fn purge<'a>(&'a self, uid: &'a str) -> Answer<'a, ()>;
}

pub type Answer<'a, T> = BoxFuture<'a, Result<T, GatewayError>>;

/// The gateway of the release, over HTTPS.
pub struct HttpGateway {
    settings: GatewaySettings,
    http: reqwest::Client,
}

impl HttpGateway {
    pub fn new(settings: GatewaySettings) -> Result<Self, GatewayError> {
        let pem = read(&settings.ca_file)?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(GatewayError::Certificate)?;
        let http = reqwest::Client::builder()
            .tls_certs_only(roots)
            .connect_timeout(Duration::from_secs(1))
            .timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self { settings, http })
    }

    fn get(&self, path: &[&str]) -> Result<reqwest::RequestBuilder, GatewayError> {
        Ok(self.http.get(self.url(path)?).bearer_auth(self.token()))
    }

    /// Where something of the operator's is. Whatever a segment holds, it leads to nothing else.
    fn url(&self, path: &[&str]) -> Result<reqwest::Url, GatewayError> {
        let base = &self.settings.url;
        operator_url(base, path).ok_or_else(|| GatewayError::Path(path.join("/")))
    }

    /// The kubelet rotates the token, so it is read at each use. Without one the gateway refuses and says so.
    fn token(&self) -> String {
        let text = std::fs::read_to_string(&self.settings.token_file).unwrap_or_default();
        text.trim().to_owned()
    }
}

impl Gateway for HttpGateway {
    fn result<'a>(&'a self, key: &'a AttemptKey) -> Answer<'a, Option<AttemptResult>> {
        let AttemptKey {
            workflow_uid,
            stage,
            attempt,
        } = key;
        let attempt = attempt.to_string();
        Box::pin(async move {
            let path = ["results", workflow_uid, stage, &attempt];
            let response = self.get(&path)?.send().await?;
            match response.status() {
                reqwest::StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => Ok(Some(response.json().await?)),
                status => Err(GatewayError::Status(status)),
            }
        })
    }

    fn usage<'a>(&'a self, uid: &'a str) -> Answer<'a, Vec<ModelUsage>> {
        Box::pin(async move {
            let response = self.get(&["usage", uid])?.send().await?;
            match response.status() {
                status if status.is_success() => Ok(response.json::<UsageReply>().await?.by),
                status => Err(GatewayError::Status(status)),
            }
        })
    }

    fn provider<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, ProviderReport> {
        Box::pin(async move {
            // Longer than the gateway waits for the provider.
            let request = self.get(&["providers", namespace, name])?;
            let response = request.timeout(Duration::from_secs(15)).send().await?;
            match response.status() {
                status if status.is_success() => Ok(response.json().await?),
                status => Err(GatewayError::Status(status)),
            }
        })
    }

    fn stored_workflows(&self) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let response = self.get(&["workflows"])?.send().await?;
            match response.status() {
                status if status.is_success() => Ok(response.json::<StoredWorkflows>().await?.uids),
                status => Err(GatewayError::Status(status)),
            }
        })
    }

    fn purge<'a>(&'a self, uid: &'a str) -> Answer<'a, ()> {
        Box::pin(async move {
            let url = self.url(&["workflows", uid])?;
            let response = self.http.delete(url).bearer_auth(self.token()).send().await?;
            match response.status() {
                status if status.is_success() => Ok(()),
                status => Err(GatewayError::Status(status)),
            }
        })
    }
}

/// The address of something of the operator's. None where the base is no URL, or a segment can be none: UIDs come from Redis, too.
pub fn operator_url(base: &str, path: &[&str]) -> Option<reqwest::Url> {
    let is_segment = |text: &&str| !matches!(*text, "" | "." | "..") && !text.chars().any(char::is_control);
    if !path.iter().all(is_segment) {
        return None;
    }
    let mut url = reqwest::Url::parse(base).ok()?;
    url.path_segments_mut()
        .ok()?
        .pop_if_empty()
        .extend(["v1", "operator"])
        .extend(path);
    Some(url)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, GatewayError> {
    std::fs::read(path).map_err(|source| GatewayError::File {
        path: path.clone(),
        source,
    })
}
