//! The sidecar of every stage Pod. ARCHITECTURE.md, "A stage Pod".

use clap::Parser as _;
use stagecraft_agent_runner::runner::{self, args::Arguments};

fn main() -> anyhow::Result<()> {
    runner::main(Arguments::parse())
}
