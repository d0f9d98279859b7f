//! The operator's client of the gateway.

use std::path::PathBuf;
use std::time::Duration;

use stagecraft_api::AttemptKey;
use stagecraft_api::protocol::StoredWorkflows;
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

pub struct Gateway {
    settings: GatewaySettings,
    http: reqwest::Client,
}

impl Gateway {
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

    /// The certificate authority as PEM text, for the runners.
    pub fn certificate_authority(&self) -> Result<String, GatewayError> {
        Ok(String::from_utf8_lossy(&read(&self.settings.ca_file)?).into_owned())
    }

    /// The stored result of an attempt.
    pub async fn result(&self, key: &AttemptKey) -> Result<Option<AttemptResult>, GatewayError> {
        let AttemptKey {
            workflow_uid,
            stage,
            attempt,
        } = key;
        let response = self
            .get(&format!("/v1/operator/results/{workflow_uid}/{stage}/{attempt}"))
            .send()
            .await?;
        match response.status() {
            reqwest::StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(response.json().await?)),
            status => Err(GatewayError::Status(status)),
        }
    }

    /// UIDs of the Workflows of which the store holds anything.
    pub async fn stored_workflows(&self) -> Result<Vec<String>, GatewayError> {
        let response = self.get("/v1/operator/workflows").send().await?;
        match response.status() {
            status if status.is_success() => Ok(response.json::<StoredWorkflows>().await?.uids),
            status => Err(GatewayError::Status(status)),
        }
    }

    /// Deletes everything that the store holds of a Workflow.
    pub async fn purge(&self, uid: &str) -> Result<(), GatewayError> {
        let url = format!("{}/v1/operator/workflows/{uid}", self.settings.url);
        let response = self.http.delete(url).bearer_auth(self.token()).send().await?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(GatewayError::Status(status)),
        }
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http
            .get(format!("{}{path}", self.settings.url))
            .bearer_auth(self.token())
    }

    /// The kubelet rotates the token, so it is read at each use. Without one the gateway refuses and says so.
    fn token(&self) -> String {
        let text = std::fs::read_to_string(&self.settings.token_file).unwrap_or_default();
        text.trim().to_owned()
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, GatewayError> {
    std::fs::read(path).map_err(|source| GatewayError::File {
        path: path.clone(),
        source,
    })
}
