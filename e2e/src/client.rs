//! The way to the cluster.

use anyhow::Context as _;
use kube::Client;

/// A client of the cluster that the kubeconfig names.
pub async fn connect() -> anyhow::Result<Client> {
    // A second call finds the provider in place, which is what it wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let config = kube::Config::infer()
        .await
        // What kube says of itself holds the whole chain of causes already.
        .map_err(|error| {
            anyhow::anyhow!(
                "no cluster: set KUBECONFIG, for example with `export KUBECONFIG=$(make -s kubeconfig)`\n{error}"
            )
        })?;
    let url = config.cluster_url.clone();
    let client = Client::try_from(config).context("the kubeconfig cannot be used")?;
    client.apiserver_version().await.with_context(|| {
        format!("the API server at {url} does not answer; start the dev cluster with `make up`")
    })?;
    Ok(client)
}
