//! The sidecar: claims the Pod's task, prepares its volumes, serves the agent on loopback, judges what it did, commits,
//! uploads and reports it.
//!
//! Reading order: [`attempt`] is the course from claim to result; [`journal`] is what it remembers; [`prepare`], [`judge`]
//! and [`collect`] are its steps, [`image`] one that the agent asks for, [`evidence`] what it is judged by where it checks generated code, [`integrate`] what brings work to a branch, on
//! [`git`]; [`gateway`], [`heartbeat`] and [`events`] speak to the gateway, and [`models`] for the agent; [`server`] to agent and launcher.

pub mod args;
pub mod attempt;
pub mod collect;
pub mod events;
pub mod evidence;
pub mod gateway;
pub mod git;
pub mod heartbeat;
pub mod image;
pub mod integrate;
pub mod journal;
pub mod judge;
pub mod layout;
pub mod models;
pub mod prepare;
pub mod ready;
pub mod server;
pub mod telemetry;

use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Instrument as _;

use self::args::{Arguments, Command, ServeArguments};
use self::attempt::Attempt;
use self::events::Events;
use self::evidence::session::Session;
use self::gateway::{Gateway, GatewaySettings};
use self::image::Images;
use self::journal::{Journal, Progress};
use self::layout::Layout;
use self::models::Models;
use self::server::Server;

/// Runs a command of the runner.
pub fn main(arguments: Arguments) -> anyhow::Result<()> {
    let layout = Layout::new(arguments.root);
    match arguments.command {
        Command::AwaitReady => {
            ready::wait(&layout);
            Ok(())
        }
        Command::Serve(arguments) => {
            telemetry::start(arguments.log_format);
            // One thread is enough for what mostly waits; git has threads of its own.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let span = telemetry::span();
            let outcome = runtime.block_on(serve(layout, arguments).instrument(span));
            runtime.shutdown_background();
            outcome
        }
    }
}

/// Serves until SIGTERM. The kubelet sends it when the agent's container has ended.
async fn serve(layout: Layout, arguments: ServeArguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    // What the runner makes must be writable by the agent's group.
    rustix::process::umask(rustix::fs::Mode::WOTH);
    let attempt = start(layout, arguments).await?;
    let journal = Arc::clone(&attempt.journal);
    let course = attempt.run();
    tokio::pin!(course);
    tokio::select! {
        outcome = &mut course => {
            outcome?;
            terminate.recv().await;
        }
        _ = terminate.recv() => {
            let concluding = concluding(&journal.read());
            if concluding {
                tracing::info!("told to end, handing in the result first");
                course.await?;
            } else {
                tracing::info!("told to end before the agent's command did: the Pod's own status has to tell why");
            }
        }
    }
    Ok(())
}

async fn start(layout: Layout, arguments: ServeArguments) -> anyhow::Result<Attempt> {
    // The first to be installed counts; reqwest would choose the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let gateway = Arc::new(Gateway::new(GatewaySettings {
        url: arguments.gateway_url,
        address: arguments.gateway_address,
        certificate_authority: arguments.gateway_ca,
        token_file: arguments.token_file,
    })?);
    let journal = Arc::new(Journal::open(layout.journal())?);
    let (events, sending) = Events::start(Arc::clone(&gateway));
    tokio::spawn(sending.in_current_span());
    let listener = TcpListener::bind(arguments.listen)
        .await
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let server = server::router(Server {
        journal: Arc::clone(&journal),
        events: events.clone(),
        images: Arc::new(Images::new(
            layout.clone(),
            Arc::clone(&journal),
            Arc::clone(&gateway),
        )),
        session: Arc::new(Session::new(layout.clone(), Arc::clone(&journal))),
        models: Models {
            gateway: Arc::clone(&gateway),
            journal: Arc::clone(&journal),
        },
    });
    tokio::spawn(async move { axum::serve(listener, server).await }.in_current_span());
    Ok(Attempt {
        layout,
        journal,
        gateway,
        events,
    })
}

/// Whether there is something to hand in that is not handed in yet.
fn concluding(progress: &Progress) -> bool {
    progress.ending.is_none() && (progress.exit.is_some() || progress.conclusion.is_some())
}
