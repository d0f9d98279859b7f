//! Serves the files of an application over HTTP: the program of the images that the deployment agent makes.

use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use stagecraft_agent_runner::web;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing::warn;

/// How long connections that are open at the end may take. Less than the 10 s after which a Pod of an application is
/// killed, so that the program ends by itself.
const DRAIN: Duration = Duration::from_secs(8);
/// Port without --listen and PORT.
const DEFAULT_PORT: u16 = 8080;

/// Serves the files of a directory over HTTP.
#[derive(Parser, Debug)]
#[command(name = "stagecraft-web", version)]
struct Arguments {
    /// Directory with an index.html.
    #[arg(long, value_name = "DIRECTORY")]
    root: PathBuf,
    /// Address and port to listen on. By default all addresses, with the port of the environment variable PORT or 8080.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let Arguments { root, listen } = Arguments::parse();
    check(&root)?;
    let address = address(listen, std::env::var("PORT").ok().as_deref())?;
    let ending = ending()?;
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}: name another address by --listen, or another port by PORT")
    })?;
    println!("serving {} on http://{}", root.display(), listener.local_addr()?);
    serve(listener, root, ending).await
}

fn check(root: &Path) -> anyhow::Result<()> {
    let remedy = "name the directory of a built application";
    ensure!(
        root.is_dir(),
        "--root {}: there is no such directory; {remedy}",
        root.display()
    );
    ensure!(
        web::has_index(root),
        "--root {}: it has no file {}; {remedy}",
        root.display(),
        web::INDEX
    );
    Ok(())
}

fn address(listen: Option<SocketAddr>, port: Option<&str>) -> anyhow::Result<SocketAddr> {
    let port = match (listen, port) {
        (Some(listen), _) => return Ok(listen),
        (None, None) => DEFAULT_PORT,
        (None, Some(port)) => match port.parse() {
            Ok(port) => port,
            Err(_) => bail!(
                "PORT is \"{port}\": set it to a number up to {}, or unset it",
                u16::MAX
            ),
        },
    };
    Ok((Ipv4Addr::UNSPECIFIED, port).into())
}

/// Ends when the program is told to. It listens from now on: nothing else ends process 1 of a container.
fn ending() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn serve(listener: TcpListener, root: PathBuf, ending: impl Future<Output = ()>) -> anyhow::Result<()> {
    let (end, mut ended) = watch::channel(false);
    let serving = web::serve(listener, root, async move {
        // An error is that nobody can say it any more, which is an end too.
        let _ = ended.wait_for(|ended| *ended).await;
    });
    let draining = async {
        ending.await;
        end.send_replace(true);
        tokio::time::sleep(DRAIN).await;
        warn!(
            "connections were still open after {} s and are cut",
            DRAIN.as_secs()
        );
    };
    tokio::select! {
        served = serving => served.context("serving ended"),
        () = draining => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_the_environment_counts_unless_an_address_is_given() {
        let given = "127.0.0.1:1".parse().unwrap();
        for (listen, port, expected) in [
            (None, None, "0.0.0.0:8080"),
            (None, Some("9090"), "0.0.0.0:9090"),
            (Some(given), Some("9090"), "127.0.0.1:1"),
            (Some(given), Some("http"), "127.0.0.1:1"),
        ] {
            assert_eq!(address(listen, port).unwrap().to_string(), expected);
        }
        for port in ["http", "", "65536", "-1"] {
            let said = address(None, Some(port)).unwrap_err().to_string();
            assert!(said.starts_with(&format!("PORT is \"{port}\": set it")), "{said}");
        }
    }
}
