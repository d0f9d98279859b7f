//! Measures the installed release.

use std::process::ExitCode;

use clap::Parser as _;
use stagecraft_e2e::bench;

#[tokio::main]
async fn main() -> ExitCode {
    match bench::run(bench::Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the benchmark failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
