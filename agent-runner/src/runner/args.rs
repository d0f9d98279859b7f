//! Command line and environment of the runner.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::loopback;

/// The sidecar of a Stagecraft stage Pod.
#[derive(Parser, Debug)]
#[command(name = "stagecraft-runner", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    /// Where the volumes are mounted.
    #[arg(
        long,
        env = "STAGECRAFT_ROOT",
        default_value = "/",
        hide = true,
        global = true
    )]
    pub root: PathBuf,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Claim the Pod's task, serve the agent, report the result.
    Serve(ServeArguments),
    /// Wait until the agent may start.
    AwaitReady,
}

#[derive(Args, Debug, Clone)]
pub struct ServeArguments {
    /// URL of the gateway; its name stands in the gateway's certificate.
    #[arg(long, env = "STAGECRAFT_GATEWAY_URL")]
    pub gateway_url: String,
    /// Address and port of the gateway: no name is looked up.
    #[arg(long, env = "STAGECRAFT_GATEWAY_ADDRESS")]
    pub gateway_address: SocketAddr,
    /// Certificate authority of the gateway, as PEM text. No other is trusted.
    #[arg(long, env = "STAGECRAFT_GATEWAY_CA", hide_env_values = true)]
    pub gateway_ca: String,
    /// File with the Pod's token; read at each request, because it is rotated.
    #[arg(
        long,
        env = "STAGECRAFT_TOKEN_FILE",
        default_value = "/var/run/secrets/stagecraft/token/token"
    )]
    pub token_file: PathBuf,
    #[arg(long, env = "STAGECRAFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Where agent and launcher reach the runner.
    #[arg(long, env = "STAGECRAFT_LISTEN", default_value = loopback::ADDRESS, hide = true)]
    pub listen: SocketAddr,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}
