//! Takes a sample Workflow through its stages and shows what happens.

use std::process::ExitCode;

use clap::Parser as _;
use stagecraft_e2e::demo::{self, Arguments, Style};

#[tokio::main]
async fn main() -> ExitCode {
    let style = Style::of_standard_output();
    match demo::run(Arguments::parse(), style).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{} {error:#}", style.bad("The demo failed:"));
            ExitCode::FAILURE
        }
    }
}
