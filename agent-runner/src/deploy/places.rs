//! What the agent is given, and the runner beside it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::chain;
use stagecraft_api::payload::{BuiltInPayload, DeploymentPayload, Payload};
use stagecraft_api::protocol::{ErrorReply, PushImageReply};
use stagecraft_api::{Category, StructuredError};

use crate::loopback::{AgentMessage, ImageRequest};
use crate::task::path_variable;

/// Name of the artifact that is deployed.
const DISTRIBUTION: &str = "dist.tar";
/// Where the agent-runner image has the web server.
const WEB_SERVER: &str = "/usr/local/bin/stagecraft-web";
/// How long progress may take before it is given up: it is for people only.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the agent works, beside what every agent has.
#[derive(Clone, Debug)]
pub struct Places {
    pub artifacts: PathBuf,
    inputs: PathBuf,
    /// The static web server that becomes part of the image.
    pub web_server: PathBuf,
}

impl Places {
    pub fn from_environment() -> anyhow::Result<Self> {
        Ok(Self {
            artifacts: path_variable("STAGECRAFT_ARTIFACTS")?,
            inputs: path_variable("STAGECRAFT_INPUTS")?,
            web_server: std::env::var_os("STAGECRAFT_WEB_SERVER")
                .map_or_else(|| PathBuf::from(WEB_SERVER), PathBuf::from),
        })
    }

    /// The built application, whichever stage left it behind.
    pub fn distribution(&self) -> Result<PathBuf, StructuredError> {
        distribution(&self.inputs)
    }
}

fn distribution(inputs: &Path) -> Result<PathBuf, StructuredError> {
    let missing = |message: String| {
        StructuredError::new("DistributionMissing", Category::Configuration, message)
            .suggest(
                "name one stage that leaves the artifact dist.tar behind in `inputs` of the stage in the template",
            )
            .fatal()
    };
    let stages = std::fs::read_dir(inputs)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| missing(format!("the inputs {} cannot be read: {error}", inputs.display())))?;
    let mut found: Vec<PathBuf> = stages
        .into_iter()
        .map(|stage| stage.path().join(DISTRIBUTION))
        .filter(|file| file.is_file())
        .collect();
    match (found.pop(), found.len()) {
        (Some(file), 0) => Ok(file),
        (None, _) => Err(missing(format!(
            "no stage left the artifact {DISTRIBUTION} behind"
        ))),
        (Some(_), others) => Err(missing(format!(
            "{} stages left an artifact {DISTRIBUTION} behind, and it is not known which one to deploy",
            others + 1
        ))),
    }
}

/// An Agent of another name may run this program too; its payload then has the general form.
pub fn payload(task: &TaskEnvelope) -> anyhow::Result<DeploymentPayload> {
    match &task.payload {
        Payload::BuiltIn(BuiltInPayload::Deployment(payload)) => Ok(payload.clone()),
        Payload::BuiltIn(other) => bail!("the task is for the agent {}", other.agent()),
        Payload::Other { payload, .. } => serde_json::from_value(Value::Object(payload.clone()))
            .context("the payload is not that of the deployment agent"),
    }
}

/// A client for plain HTTP. It knows no certificate authorities: the image has none, and that would end the process.
pub fn plain_http() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .tls_certs_only(std::iter::empty())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(3))
        .build()
}

/// The runner on loopback.
#[derive(Clone, Debug)]
pub struct Runner {
    http: reqwest::Client,
    url: String,
}

impl Runner {
    pub fn new(http: reqwest::Client, url: String) -> Self {
        Self { http, url }
    }

    /// Tells people how far the work is.
    pub async fn tell(&self, message: &str) {
        println!("deployment: {message}");
        let body = AgentMessage {
            message: message.to_owned(),
            fields: Map::new(),
        };
        let request = self.http.post(format!("{}/v1/events", self.url)).json(&body);
        if let Err(error) = request.timeout(PROGRESS_TIMEOUT).send().await {
            println!("deployment: nobody heard of it: {}", chain(&error));
        }
    }

    /// Has an image pushed, whose layout lies in this directory below the artifacts. Answers what nodes pull. Takes as long
    /// as the gateway needs: the attempt's deadline is the bound.
    pub async fn push_image(&self, layout: &str) -> Result<String, StructuredError> {
        let broken = |problem: String| {
            let message = format!("the runner did not push the image: {problem}");
            StructuredError::new("RunnerUnavailable", Category::Dependency, message)
        };
        let body = ImageRequest {
            layout: layout.to_owned(),
        };
        let request = self.http.post(format!("{}/v1/images", self.url)).json(&body);
        let answer = request.send().await.map_err(|error| broken(chain(&error)))?;
        if answer.status().is_success() {
            let reply: PushImageReply = answer.json().await.map_err(|error| broken(chain(&error)))?;
            return Ok(reply.reference);
        }
        let status = answer.status();
        match answer.json::<ErrorReply>().await {
            Ok(reply) => Err(reply.error),
            Err(_) => Err(broken(format!("it answered with status {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_distribution_is_found_and_every_other_number_is_an_error() {
        let inputs = tempfile::tempdir().unwrap();
        let error = distribution(&inputs.path().join("absent")).unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.retryable),
            ("DistributionMissing", false)
        );
        std::fs::create_dir(inputs.path().join("validate")).unwrap();
        assert!(
            distribution(inputs.path())
                .unwrap_err()
                .message
                .contains("no stage")
        );
        let file = inputs.path().join("validate/dist.tar");
        std::fs::write(&file, "").unwrap();
        assert_eq!(distribution(inputs.path()).unwrap(), file);
        std::fs::create_dir(inputs.path().join("integrate")).unwrap();
        std::fs::write(inputs.path().join("integrate/dist.tar"), "").unwrap();
        assert!(
            distribution(inputs.path())
                .unwrap_err()
                .message
                .contains("2 stages")
        );
    }
}
