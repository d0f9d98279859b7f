//! The gateway as an outsider sees it, with whatever token one has.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Secret, Service, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use reqwest::{Method, Response};
use serde_json::Value;
use stagecraft_api::protocol::{AUDIENCE, GATEWAY_PORT};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;

use super::release::Release;
use super::{kubectl, on_this_machine};

/// A way to the gateway. It ends with this value.
pub struct Gateway {
    http: reqwest::Client,
    url: String,
    _forwarding: Option<Child>,
}

impl Gateway {
    /// Finds a way: the node of the dev cluster is this machine, so that it reaches Services; elsewhere kubectl forwards.
    pub async fn reach(client: &Client, release: &Release) -> anyhow::Result<Self> {
        let (address, forwarding) = if on_this_machine() {
            (service_address(client, release).await?, None)
        } else {
            let (address, child) = forward(release).await?;
            (address, Some(child))
        };
        let host = format!("{}.{}.svc", release.gateway.name, release.namespace);
        let authority = certificate_authority(client, release).await?;
        let http = reqwest::Client::builder()
            .tls_certs_only(reqwest::Certificate::from_pem_bundle(&authority)?)
            .resolve(&host, address)
            .no_proxy()
            .timeout(Duration::from_secs(10))
            .build()?;
        Ok(Self {
            http,
            url: format!("https://{host}:{}", address.port()),
            _forwarding: forwarding,
        })
    }

    /// Asks with this token, or with none.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request.send().await?)
    }
}

async fn service_address(client: &Client, release: &Release) -> anyhow::Result<SocketAddr> {
    let services: Api<Service> = Api::namespaced(client.clone(), &release.namespace);
    let service = services.get(&release.gateway.name).await?;
    let address = service.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let address: IpAddr = address
        .parse()
        .with_context(|| format!("the gateway's Service has the address {address:?}"))?;
    Ok(SocketAddr::new(address, GATEWAY_PORT))
}

async fn forward(release: &Release) -> anyhow::Result<(SocketAddr, Child)> {
    let service = format!("service/{}", release.gateway.name);
    let remote = format!(":{GATEWAY_PORT}");
    let mut forwarding = kubectl::command("kubectl")
        .args(["-n", &release.namespace, "port-forward", &service, &remote])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("kubectl cannot be run")?;
    let output = forwarding.stdout.take().context("kubectl has no output")?;
    let mut lines = BufReader::new(output).lines();
    let first = tokio::time::timeout(Duration::from_secs(10), lines.next_line())
        .await
        .context("kubectl port-forward does not get through to the gateway")??
        .context("kubectl port-forward ended at once")?;
    let port = forwarded_port(&first).with_context(|| format!("kubectl said {first:?}"))?;
    // It says something of every connection, and ends when nobody listens.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((SocketAddr::from(([127, 0, 0, 1], port)), forwarding))
}

/// "Forwarding from 127.0.0.1:40123 -> 8443".
fn forwarded_port(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once("127.0.0.1:")?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The certificate authority that the chart made.
async fn certificate_authority(client: &Client, release: &Release) -> anyhow::Result<Vec<u8>> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &release.namespace);
    for secret in secrets.list(&kube::api::ListParams::default()).await? {
        let name = secret.name_any();
        if let Some(authority) = secret.data.and_then(|mut data| data.remove("ca.crt"))
            && name.starts_with(&release.gateway.name)
        {
            return Ok(authority.0);
        }
    }
    bail!("no Secret of {} holds ca.crt", release.gateway.name)
}

/// A token of a service account, bound to a Pod when one is given: just what the kubelet would mount into it.
pub async fn token(
    client: &Client,
    namespace: &str,
    service_account: &str,
    audience: &str,
    pod: Option<&Pod>,
) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(3600),
            bound_object_ref: pod.map(|pod| BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Pod".to_owned()),
                name: Some(pod.name_any()),
                uid: pod.uid(),
            }),
        },
        ..TokenRequest::default()
    };
    let answer = accounts
        .create_token_request(service_account, &PostParams::default(), &request)
        .await
        .with_context(|| format!("no token for service account {service_account} of {namespace}"))?;
    Ok(answer.status.context("the API server gave no token")?.token)
}

/// The token with which the operator itself asks.
pub async fn operator_token(client: &Client, release: &Release) -> anyhow::Result<String> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &release.namespace);
    let ours = kube::api::ListParams::default().labels(&release.operator.selector);
    let account = pods
        .list(&ours)
        .await?
        .into_iter()
        .find_map(|pod| pod.spec?.service_account_name)
        .context("no Pod of the operator runs")?;
    token(client, &release.namespace, &account, AUDIENCE, None).await
}

#[cfg(test)]
mod tests {
    use super::forwarded_port;

    #[test]
    fn the_forwarded_port_is_read_from_what_kubectl_says() {
        assert_eq!(
            forwarded_port("Forwarding from 127.0.0.1:40123 -> 8443"),
            Some(40_123)
        );
        assert_eq!(forwarded_port("error: no Pod"), None);
    }
}
