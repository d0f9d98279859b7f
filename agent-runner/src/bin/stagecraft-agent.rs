//! The built-in agents.

use std::process::ExitCode;

use stagecraft_agent_runner::echo;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("echo") => echo::main(),
        Some(echo::LINGER) => echo::linger(),
        _ => {
            eprintln!("usage: stagecraft-agent echo");
            ExitCode::from(2)
        }
    }
}
