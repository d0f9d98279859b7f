//! The installed release: where its parts are, and how to break them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt as _};
use stagecraft_api::{Workflow, WorkflowTemplate};

use super::kubectl;
use super::waiting::until;

/// Longest time that a part may need to come back.
const RETURN: Duration = Duration::from_mins(2);

/// The release that the scenarios run against.
#[derive(Clone, Debug)]
pub struct Release {
    pub namespace: String,
    pub operator: Part,
    pub gateway: Part,
    pub redis: Part,
}

/// One part of the release.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name of its Deployment or StatefulSet.
    pub name: String,
    /// Selects its Pods.
    pub selector: String,
}

impl Release {
    /// Finds the release, and makes sure that it runs.
    pub async fn find(client: &Client) -> anyhow::Result<Self> {
        let namespace =
            std::env::var("STAGECRAFT_NAMESPACE").unwrap_or_else(|_| "stagecraft-system".to_owned());
        let workflows: Api<Workflow> = Api::all(client.clone());
        workflows
            .list(&ListParams::default().limit(1))
            .await
            .context("Workflows are unknown to this cluster")?;
        let release = Self {
            operator: Part::find(client, &namespace, "operator").await?,
            gateway: Part::find(client, &namespace, "gateway").await?,
            redis: Part::find(client, &namespace, "redis").await?,
            namespace,
        };
        for part in [&release.operator, &release.gateway, &release.redis] {
            release.ready(client, part, &BTreeSet::new()).await?;
        }
        Ok(release)
    }

    /// A template that came with the release.
    pub async fn template(&self, client: &Client, name: &str) -> anyhow::Result<WorkflowTemplate> {
        let templates: Api<WorkflowTemplate> = Api::namespaced(client.clone(), &self.namespace);
        Ok(templates.get(name).await?)
    }

    /// Kills every Pod of a part at once, and does not wait for what replaces them.
    pub async fn kill(&self, client: &Client, part: &Part) -> anyhow::Result<BTreeSet<String>> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let mut killed = BTreeSet::new();
        for pod in pods.list(&ListParams::default().labels(&part.selector)).await? {
            let parameters = DeleteParams::default().grace_period(0);
            pods.delete(&pod.name_any(), &parameters).await?;
            killed.extend(pod.uid());
        }
        ensure!(!killed.is_empty(), "there was no Pod of {} to kill", part.name);
        Ok(killed)
    }

    /// Waits until a part has a ready Pod that is none of `former`.
    pub async fn ready(&self, client: &Client, part: &Part, former: &BTreeSet<String>) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let config = watcher::Config::default().labels(&part.selector);
        let what = format!("{} is ready", part.name);
        until(pods, config, RETURN, &what, |pods| {
            let fresh = |pod: &Pod| pod.uid().is_some_and(|uid| !former.contains(&uid));
            pods.iter().any(|pod| fresh(pod) && is_ready(pod))
        })
        .await?;
        Ok(())
    }

    /// Kills a part and waits until it is back.
    pub async fn restart(&self, client: &Client, part: &Part) -> anyhow::Result<()> {
        let former = self.kill(client, part).await?;
        self.ready(client, part, &former).await
    }

    /// Runs `redis-cli` with these arguments in the release's Redis.
    pub async fn redis(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut all = vec!["-n", &self.namespace, "exec"];
        let target = format!("statefulset/{}", self.redis.name);
        // The password stands in the container's environment and never on this machine's command line.
        let script = "REDISCLI_AUTH=\"$REDIS_PASSWORD\" exec redis-cli --no-raw \"$@\"";
        all.extend([target.as_str(), "--", "sh", "-c", script, "redis-cli"]);
        all.extend(arguments);
        kubectl::output("kubectl", &all).await
    }
}

impl Part {
    async fn find(client: &Client, namespace: &str, component: &str) -> anyhow::Result<Self> {
        let selector = format!("app.kubernetes.io/name=stagecraft,app.kubernetes.io/component={component}");
        let ours = ListParams::default().labels(&selector);
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
        let mut names: Vec<String> = deployments
            .list(&ours)
            .await?
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect();
        names.extend(sets.list(&ours).await?.iter().map(kube::ResourceExt::name_any));
        let name = names
            .pop()
            .with_context(|| format!("namespace {namespace} has no {component} of Stagecraft"))?;
        Ok(Self { name, selector })
    }
}

/// Whether the condition Ready holds, and the Pod stays.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
