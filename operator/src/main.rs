use std::process::ExitCode;

use clap::Parser as _;
use stagecraft_operator::args::{Arguments, Command};
use stagecraft_operator::{run, telemetry, uninstall};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    telemetry::start(arguments.log_format);
    let outcome = match arguments.command {
        Command::Run(settings) => run::run(*settings).await,
        Command::Uninstall(settings) => uninstall::uninstall(settings).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
