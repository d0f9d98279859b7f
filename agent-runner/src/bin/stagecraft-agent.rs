//! The built-in agents.

use std::process::ExitCode;

use stagecraft_agent_runner::{checks, deploy, echo, scaffold};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("echo") => echo::main(),
        Some("deployment") => deploy::main(),
        Some("e2e") => checks::e2e(),
        Some("integration") => checks::integration(),
        Some("scaffold") => scaffold::main(),
        Some("validation") => checks::validation(),
        Some(echo::LINGER) => echo::linger(),
        _ => {
            eprintln!("usage: stagecraft-agent deployment|e2e|echo|integration|scaffold|validation");
            ExitCode::from(2)
        }
    }
}
