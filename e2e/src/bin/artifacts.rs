//! Fetches what a Workflow left behind.

use std::process::ExitCode;

use clap::Parser as _;
use stagecraft_e2e::artifacts::{self, Arguments};

#[tokio::main]
async fn main() -> ExitCode {
    match artifacts::run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stagecraft-artifacts: {error:#}");
            ExitCode::FAILURE
        }
    }
}
