//! What a stage left behind, looked at with real git.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use stagecraft_api::Digest;
use stagecraft_api::status::WorkspaceRef;
use stagecraft_e2e::scenario::gateway::{Gateway, operator_token};
use stagecraft_e2e::scenario::{World, kubectl};
use tempfile::TempDir;

/// A repository with the commits of one bundle.
pub struct History {
    folder: TempDir,
}

impl History {
    /// Fetches the bundle from the gateway as the operator may, and checks that it is what the status names.
    pub async fn fetch(
        world: &World,
        gateway: &Gateway,
        uid: &str,
        workspace: &WorkspaceRef,
    ) -> anyhow::Result<Self> {
        let token = operator_token(&world.client, &world.release).await?;
        let path = format!("/v1/operator/blobs/{uid}/{}", workspace.bundle);
        let answer = gateway.ask(Method::GET, &path, Some(&token), None).await?;
        ensure!(
            answer.status().is_success(),
            "the bundle is not to be had: {}",
            answer.status()
        );
        let bytes = answer.bytes().await?;
        assert_eq!(
            Digest::of(&bytes),
            workspace.bundle,
            "I4: the bundle is not what its digest says"
        );
        assert_eq!(bytes.len() as u64, workspace.bytes);

        let history = Self {
            folder: TempDir::new()?,
        };
        let bundle = history.folder.path().join("bundle");
        std::fs::write(&bundle, &bytes)?;
        history.git(&["init", "--quiet", "--bare", "repository"]).await?;
        history
            .git(&["-C", "repository", "bundle", "verify", "--quiet", "../bundle"])
            .await?;
        history
            .git(&[
                "-C",
                "repository",
                "fetch",
                "--quiet",
                "../bundle",
                "+refs/*:refs/bundle/*",
                "+HEAD:refs/bundle/head",
            ])
            .await
            .or(history
                .git(&[
                    "-C",
                    "repository",
                    "fetch",
                    "--quiet",
                    "../bundle",
                    "+refs/*:refs/bundle/*",
                ])
                .await)?;
        history
            .git(&["-C", "repository", "fsck", "--strict", "--no-dangling"])
            .await?;
        Ok(history)
    }

    /// A commit and everything before it, newest first.
    pub async fn commits(&self, commit: &str) -> anyhow::Result<Vec<String>> {
        let text = self
            .git(&["-C", "repository", "rev-list", "--topo-order", commit])
            .await?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Mode and path of every file of a commit.
    pub async fn files(&self, commit: &str) -> anyhow::Result<Vec<(String, PathBuf)>> {
        let text = self
            .git(&["-C", "repository", "ls-tree", "-r", "-z", commit])
            .await?;
        text.split_terminator('\0')
            .map(|line| {
                let (attributes, path) = line.split_once('\t').context("git ls-tree")?;
                let mode = attributes.split(' ').next().unwrap_or_default();
                Ok((mode.to_owned(), PathBuf::from(path)))
            })
            .collect()
    }

    /// What a file of a commit says.
    pub async fn text(&self, commit: &str, path: &str) -> anyhow::Result<String> {
        self.git(&["-C", "repository", "show", &format!("{commit}:{path}")])
            .await
    }

    async fn git(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let folder = self.folder.path().to_string_lossy().into_owned();
        let mut all = vec!["-C", folder.as_str(), "-c", "safe.directory=*"];
        all.extend(arguments);
        kubectl::output("git", &all).await
    }
}
