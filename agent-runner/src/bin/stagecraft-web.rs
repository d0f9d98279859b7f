//! Serves the files of an application over HTTP: the program of the images that the deployment agent makes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use stagecraft_agent_runner::web;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// How long connections that are open at the end may take.
const DRAIN: Duration = Duration::from_secs(10);

/// Serves the files of a directory over HTTP.
#[derive(Parser, Debug)]
#[command(name = "stagecraft-web", version)]
struct Arguments {
    /// Directory with an index.html.
    #[arg(long)]
    root: PathBuf,
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Arguments { root, listen } = Arguments::parse();
    ensure!(
        root.join(web::INDEX).is_file(),
        "--root {} has no {}: name the directory of a built application",
        root.display(),
        web::INDEX
    );
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("--listen {listen}: cannot listen there"))?;
    println!("serving {} on http://{}", root.display(), listener.local_addr()?);
    let (ending, mut end) = tokio::sync::watch::channel(false);
    let serving = web::serve(listener, root, async move {
        let _ = end.wait_for(|ended| *ended).await;
    });
    let patience = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        ending.send_replace(true);
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = serving => served.context("serving ended"),
        () = patience => Ok(()),
    }
}
