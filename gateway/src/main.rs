use clap::Parser as _;
use stagecraft_gateway::args::Arguments;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    stagecraft_gateway::telemetry::start(arguments.log_format);
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider was installed before"))?;
    stagecraft_gateway::server::run(arguments).await
}
