//! Wraps the agent's command in an agent container. ARCHITECTURE.md, "A stage Pod".

use std::process::ExitCode;

use stagecraft_agent_runner::launcher;

fn main() -> ExitCode {
    launcher::main(std::env::args_os().skip(1))
}
