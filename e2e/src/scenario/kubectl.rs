//! Commands on this machine: kubectl, helm, git, make.

use std::path::PathBuf;
use std::process::{Output, Stdio};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

/// The repository that these tests belong to.
pub fn repository() -> PathBuf {
    let package = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    package.parent().map(PathBuf::from).unwrap_or(package)
}

/// The cache in which the dev cluster keeps its tools and state.
pub fn cache() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    from("STAGECRAFT_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|home| home.join("stagecraft")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/stagecraft")))
        .unwrap_or_else(|| PathBuf::from("/tmp/stagecraft"))
}

/// A command that finds the dev cluster's tools, and ends with the scenario.
pub fn command(program: &str) -> Command {
    let mut paths = vec![cache().join("bin")];
    paths.extend(std::env::split_paths(
        &std::env::var_os("PATH").unwrap_or_default(),
    ));
    let mut command = Command::new(program);
    if let Ok(path) = std::env::join_paths(paths) {
        command.env("PATH", path);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// What a command wrote to standard output. An error carries what it wrote to standard error.
pub async fn output(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    text(program, arguments, &run(program, arguments).await?)
}

async fn run(program: &str, arguments: &[&str]) -> anyhow::Result<Output> {
    command(program)
        .args(arguments)
        .output()
        .await
        .with_context(|| format!("{program} cannot be run"))
}

fn text(program: &str, arguments: &[&str], output: &Output) -> anyhow::Result<String> {
    ensure!(
        output.status.success(),
        "{program} {} ended with {}: {}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Standard output and standard error of kubectl, for people.
pub async fn shown(arguments: &[&str]) -> String {
    match run("kubectl", arguments).await {
        Ok(output) => format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => format!("{error:#}\n"),
    }
}
