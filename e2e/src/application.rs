//! Calls an application that a Workflow deployed, over HTTP.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use kube::api::Api;
use serde_json::{Map, Value};
use stagecraft_api::WorkflowStatus;

use crate::scenario::on_this_machine;

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// An application and where it is.
pub struct Application {
    client: Client,
    namespace: String,
    service: String,
    address: String,
}

impl Application {
    /// The application that a Workflow deployed, if it did.
    pub async fn of(client: &Client, status: &WorkflowStatus) -> anyhow::Result<Option<Self>> {
        let deployed = status.stages.iter().rev().find_map(|stage| {
            Some((
                text(&stage.outputs, "namespace")?,
                text(&stage.outputs, "service")?,
            ))
        });
        let Some((namespace, service)) = deployed else {
            return Ok(None);
        };
        let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
        let found = services.get(&service).await.with_context(|| {
            format!("Service {service} of namespace {namespace}, which the Workflow names")
        })?;
        let address = found.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
        Ok(Some(Self {
            client: client.clone(),
            namespace,
            service,
            address,
        }))
    }

    /// Where this machine reaches it, or the command that makes it so.
    pub fn address(&self) -> String {
        if on_this_machine() {
            format!("http://{}/", self.address)
        } else {
            format!(
                "http://127.0.0.1:8080/ after kubectl -n {} port-forward service/{} 8080:80",
                self.namespace, self.service
            )
        }
    }

    /// The body of the answer to `GET PATH`, which must be 200. The dev cluster's node is this machine, so that Services can be
    /// called; elsewhere the API server passes the request on.
    pub async fn get(&self, path: &str) -> anyhow::Result<String> {
        let path = path.trim_start_matches('/');
        if !on_this_machine() {
            let Self {
                namespace, service, ..
            } = self;
            let path = format!("/api/v1/namespaces/{namespace}/services/{service}:80/proxy/{path}");
            let request = http::Request::get(path).body(Vec::new())?;
            return Ok(self.client.request_text(request).await?);
        }
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        let answer = http.get(format!("http://{}/{path}", self.address)).send().await?;
        ensure!(
            answer.status().is_success(),
            "/{path} was answered with {}",
            answer.status()
        );
        Ok(answer.text().await?)
    }

    /// Loads the page and the scripts that it names, as a browser would. Answers its title.
    pub async fn visit(&self) -> anyhow::Result<String> {
        let page = self.get("/").await?;
        let title = between(&page, "<title>", "</title>").context("the page has no title")?;
        let scripts: Vec<&str> = page
            .split("src=\"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"').map(|(source, _)| source))
            .collect();
        ensure!(!scripts.is_empty(), "the page names no script");
        for script in scripts {
            let code = self.get(script.trim_start_matches('.')).await?;
            ensure!(!code.contains("<html"), "{script} is not a script");
        }
        Ok(title.trim().to_owned())
    }
}

fn text(outputs: &Map<String, Value>, field: &str) -> Option<String> {
    Some(outputs.get(field)?.as_str()?.to_owned())
}

fn between<'text>(text: &'text str, start: &str, end: &str) -> Option<&'text str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(inner, _)| inner)
}
