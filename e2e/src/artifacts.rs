//! Fetches what a Workflow left behind: every artifact of its stages, and the git history.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use reqwest::Method;
use stagecraft_api::{Digest, StagePhase, Workflow};

use crate::scenario::gateway::{Gateway, operator_token};
use crate::scenario::release::Release;

/// Name of the file with the git history.
const HISTORY: &str = "workspace.bundle";

/// Fetches the artifacts of a Workflow into a directory, as STAGE/ARTIFACT, and its git history as a bundle.
#[derive(Parser, Debug)]
#[command(name = "stagecraft-artifacts", version)]
pub struct Arguments {
    /// Name of the Workflow, or NAMESPACE/NAME.
    workflow: String,

    /// Namespace of the Workflow, unless it stands before its name.
    #[arg(long, default_value = "stagecraft-demo")]
    namespace: String,

    /// Directory to write to; it is made when it is not there. Default: artifacts/WORKFLOW.
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// Fetches everything and prints what it wrote.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let (namespace, name) = match arguments.workflow.split_once('/') {
        Some((namespace, name)) => (namespace, name),
        None => (arguments.namespace.as_str(), arguments.workflow.as_str()),
    };
    let client = crate::client::connect().await?;
    let api: Api<Workflow> = Api::namespaced(client.clone(), namespace);
    let workflow = api.get_opt(name).await?.with_context(|| {
        format!("namespace {namespace} has no Workflow {name}: `kubectl get workflows -A` lists them")
    })?;
    let directory = arguments
        .directory
        .unwrap_or_else(|| Path::new("artifacts").join(name));
    let count = fetch(&client, &workflow, &directory).await?;
    if count == 0 {
        println!("Workflow {name} has left nothing behind so far");
    } else if directory.join(HISTORY).is_file() {
        println!(
            "\nThe history: git clone {}/{HISTORY} {name}",
            directory.display()
        );
    }
    Ok(())
}

/// Fetches what the stages of `workflow` left behind. Answers how many files it wrote.
pub async fn fetch(client: &Client, workflow: &Workflow, directory: &Path) -> anyhow::Result<usize> {
    let release = Release::find(client).await?;
    let gateway = Gateway::reach(client, &release).await?;
    let store = Store {
        token: operator_token(client, &release)
            .await
            .context("fetching needs the right to make tokens for the operator's service account")?,
        gateway,
        uid: workflow.uid().unwrap_or_default(),
    };
    let status = workflow.status.clone().unwrap_or_default();
    let mut count = 0;
    let mut history = None;
    for stage in &status.stages {
        for artifact in &stage.artifacts {
            let relative = Path::new(&stage.name).join(&artifact.name);
            store.write(&artifact.digest, directory, &relative).await?;
            count += 1;
        }
        if stage.phase == StagePhase::Succeeded {
            history = stage.workspace.clone().or(history);
        }
    }
    if let Some(history) = history {
        store
            .write(&history.bundle, directory, Path::new(HISTORY))
            .await?;
        count += 1;
    }
    Ok(count)
}

/// The gateway's store as the operator sees it.
struct Store {
    gateway: Gateway,
    token: String,
    uid: String,
}

impl Store {
    async fn write(&self, digest: &Digest, directory: &Path, relative: &Path) -> anyhow::Result<()> {
        if !relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)))
        {
            bail!(
                "an artifact calls itself {}, which is no place below the directory",
                relative.display()
            );
        }
        let path = format!("/v1/operator/blobs/{}/{digest}", self.uid);
        let answer = self
            .gateway
            .ask(Method::GET, &path, Some(&self.token), None)
            .await?;
        let status = answer.status();
        ensure!(
            status.is_success(),
            "{} is not to be had: {status}",
            relative.display()
        );
        let bytes = answer.bytes().await?;
        ensure!(
            Digest::of(&bytes) == *digest,
            "{} is not what its digest says",
            relative.display()
        );
        let file = directory.join(relative);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        std::fs::write(&file, &bytes).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{:>10} bytes  {}", bytes.len(), file.display());
        Ok(())
    }
}
