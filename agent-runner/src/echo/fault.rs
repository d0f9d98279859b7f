//! The ways in which the echo agent misbehaves.

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use signal_hook::consts::SIGTERM;
use stagecraft_api::payload::EchoFault;
use stagecraft_api::result::AgentResult;
use stagecraft_api::{Category, StructuredError, limit};

use crate::task::Places;

/// Hidden command of the child that stays.
pub const LINGER: &str = "linger";

/// Exit status of [`EchoFault::Exit`].
const FAULT_STATUS: u8 = 3;
/// Size of the result of [`EchoFault::HugeResult`].
const HUGE_RESULT_BYTES: usize = 50 * 1024 * 1024;
/// What is allocated at a time by [`EchoFault::LeakMemory`].
const LEAK_BYTES: usize = 16 * 1024 * 1024;

/// Misbehaves; `result` is what a proper end would have written.
pub fn commit(fault: EchoFault, places: &Places, mut result: AgentResult) -> anyhow::Result<ExitCode> {
    println!("echo: committing the fault {fault:?}");
    match fault {
        EchoFault::Exit => return Ok(ExitCode::from(FAULT_STATUS)),
        EchoFault::Report => {
            result.error = Some(
                StructuredError::new(
                    "EchoFault",
                    Category::Execution,
                    "the payload asked for a failure",
                )
                .suggest("remove fault from the stage's payload"),
            );
            places.write_result(&result)?;
        }
        EchoFault::Hang => hang()?,
        EchoFault::LeakMemory => leak(),
        EchoFault::NoResult => {}
        EchoFault::MalformedResult => {
            std::fs::write(&places.result, "this is {not JSON\n").context("cannot write the result")?;
        }
        EchoFault::HugeResult => write_huge_result(places)?,
        EchoFault::HugeOutputs => {
            let text = "x".repeat(limit::OUTPUTS_BYTES + 1);
            result.outputs.insert("huge".to_owned(), json!(text));
            places.write_result(&result)?;
        }
        EchoFault::ForkChild => {
            places.write_result(&result)?;
            leave_child()?;
        }
        EchoFault::KillSelf => {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
            hang()?;
        }
        EchoFault::Escape => {
            escape(places)?;
            places.write_result(&result)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The child that stays.
pub fn linger() -> ExitCode {
    match ignore_termination() {
        Ok(()) => {
            println!("echo: the child stays");
            sleep_for_ever()
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn hang() -> anyhow::Result<()> {
    ignore_termination()?;
    println!("echo: hanging");
    sleep_for_ever()
}

/// A handler that only sets a flag nobody reads.
fn ignore_termination() -> std::io::Result<()> {
    signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false))).map(drop)
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_hours(1));
    }
}

/// Every page is written to, because untouched ones take no memory.
fn leak() -> ! {
    let mut leaked = Vec::new();
    loop {
        leaked.push(std::hint::black_box(vec![0xAA_u8; LEAK_BYTES]));
        std::hint::black_box(&leaked);
    }
}

fn write_huge_result(places: &Places) -> anyhow::Result<()> {
    let mut file = std::fs::File::create(&places.result).context("cannot write the result")?;
    file.write_all(b"{\"summary\": \"")?;
    let chunk = vec![b'x'; 1024 * 1024];
    for _ in 0..HUGE_RESULT_BYTES / chunk.len() {
        file.write_all(&chunk)?;
    }
    file.write_all(b"\"}")?;
    Ok(())
}

fn leave_child() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("cannot find the own program")?;
    let child = Command::new(program)
        .arg(LINGER)
        .spawn()
        .context("cannot start the child")?;
    println!("echo: left the child {}", child.id());
    Ok(())
}

fn escape(places: &Places) -> anyhow::Result<()> {
    use std::os::unix::fs::symlink;

    let workspace = &places.workspace;
    symlink("/etc/passwd", workspace.join("escape-passwd"))?;
    symlink("../../..", workspace.join("escape-up"))?;
    let git = workspace.join(".git");
    std::fs::create_dir_all(git.join("hooks"))?;
    std::fs::write(
        git.join("config"),
        "[core]\n\tfsmonitor = \"touch /tmp/escaped\"\n",
    )?;
    std::fs::write(git.join("hooks/pre-commit"), "#!/bin/sh\ntouch /tmp/escaped\n")?;
    Ok(())
}
