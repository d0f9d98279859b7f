//! Processes of a Pod's containers, on the machine that the dev cluster runs on. They are found by the control group that
//! the kubelet puts them into, so no tool of the container runtime is needed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};

/// Pause between two looks at the processes of this machine.
const LOOK: Duration = Duration::from_millis(1);

/// One process in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    /// Its number inside the container; the first one is 1.
    pub inner_pid: u32,
    /// Program and arguments.
    pub command: String,
}

/// Identifier that the container runtime gave to a container of a Pod.
pub fn container_id(pod: &Pod, container: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let sidecars = status.init_container_statuses.iter().flatten();
    let found = sidecars
        .chain(status.container_statuses.iter().flatten())
        .find(|status| status.name == container)?;
    let id = found.container_id.as_deref()?;
    Some(id.rsplit('/').next().unwrap_or(id).to_owned())
}

/// Processes of one container of a Pod.
pub fn of_container(pod: &Pod, container: &str) -> anyhow::Result<Vec<Process>> {
    let id =
        container_id(pod, container).with_context(|| format!("container {container} has not started"))?;
    in_control_group(&id)
}

/// Every process whose control group's path holds `part`, such as a container's identifier or a Pod's UID.
pub fn in_control_group(part: &str) -> anyhow::Result<Vec<Process>> {
    ensure!(!part.is_empty(), "every process would match");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // Processes end while we look: one that cannot be read is gone.
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        if read("cgroup").contains(part) {
            found.push(Process {
                pid,
                inner_pid: inner_pid(&read("status")).unwrap_or(pid),
                command: read("cmdline").replace('\0', " ").trim_end().to_owned(),
            });
        }
    }
    Ok(found)
}

fn inner_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}

/// Waits for a process of a Pod whose name begins with `pod` and whose command begins with `command`, and kills it at once. An
/// agent may be done within hundredths of a second, so nothing is asked of the API server.
pub async fn kill_first(pod: String, command: &'static str, limit: Duration) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(move || {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            for entry in fs::read_dir("/proc")? {
                let Ok(pid) = entry?.file_name().to_string_lossy().parse::<i32>() else {
                    continue;
                };
                let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
                let is_wanted = read("cmdline").replace('\0', " ").starts_with(command)
                    && read("root/etc/hostname").starts_with(&pod);
                if is_wanted
                    && let Some(process) = Pid::from_raw(pid)
                    && kill_process(process, Signal::KILL).is_ok()
                {
                    return Ok(());
                }
            }
            std::thread::sleep(LOOK);
        }
        anyhow::bail!(
            "no process {command} of a Pod {pod}... was seen within {} s",
            limit.as_secs()
        )
    })
    .await?
}

/// SIGKILL.
pub async fn kill(process: &Process) -> anyhow::Result<()> {
    super::kubectl::output("kill", &["-KILL", &process.pid.to_string()]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_inner_pid_is_the_last_one() {
        assert_eq!(inner_pid("Name:\ta\nNSpid:\t1200\t7\nUid:\t0"), Some(7));
        assert_eq!(inner_pid("Name:\ta"), None);
    }
}
