//! What the operator takes of the machine, read from its process: only where that runs on this machine.

use std::fs;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};

use super::Bench;
use crate::scenario::{on_this_machine, processes};

/// Ticks of processor time in a second: fixed on Linux for everything that /proc shows.
const TICKS: f64 = 100.0;

/// What the operator has taken so far.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    cpu_seconds: f64,
    peak_mebibytes: f64,
}

/// Starts the operator anew, so that its peak is its own, and answers what that took.
pub async fn restarted(bench: &Bench) -> anyhow::Result<Option<Cost>> {
    if on_this_machine() {
        bench
            .release
            .restart(&bench.client, &bench.release.operator)
            .await?;
        // Until it leads again it does not work: one Workflow sees it through.
        bench.run_workflow("after-restart").await?;
    }
    now(bench).await
}

/// What the operator has taken so far; None where its process cannot be seen.
pub async fn now(bench: &Bench) -> anyhow::Result<Option<Cost>> {
    if !on_this_machine() {
        return Ok(None);
    }
    let pods: Api<Pod> = Api::namespaced(bench.client.clone(), &bench.release.namespace);
    let ours = ListParams::default().labels(&bench.release.operator.selector);
    let pod = pods
        .list(&ours)
        .await?
        .items
        .pop()
        .context("the operator has no Pod")?;
    let process = processes::of_container(&pod, "operator")?
        .into_iter()
        .find(|process| process.inner_pid == 1)
        .context("the operator's process is not to be found")?;
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", process.pid));
    let cpu_seconds = cpu_seconds(&read("stat")?).context("/proc/PID/stat")?;
    let peak_mebibytes = peak_mebibytes(&read("status")?).context("/proc/PID/status")?;
    Ok(Some(Cost {
        cpu_seconds,
        peak_mebibytes,
    }))
}

/// User and system time: fields 14 and 15, counted after the name, which may hold anything but a closing parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn peak_mebibytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "there are far fewer than 2^52 Workflows"
)]
pub fn report(workflows: usize, before: Option<Cost>, after: Option<Cost>) -> String {
    let (Some(before), Some(after)) = (before, after) else {
        return "Operator: not measured, its process does not run on this machine\n".to_owned();
    };
    let used = after.cpu_seconds - before.cpu_seconds;
    format!(
        "Operator, {workflows} Workflow{}\n  {:.3} CPU seconds a Workflow ({used:.2} in all)\n  peak memory {:.1} MiB\n",
        if workflows == 1 { "" } else { "s" },
        used / workflows as f64,
        after.peak_mebibytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_peaks_are_read_from_proc() {
        let stat =
            "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1000 200 18446744073709551615";
        assert!((cpu_seconds(stat).unwrap() - 3.0).abs() < 1e-9);
        assert!((peak_mebibytes("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n").unwrap() - 2.0).abs() < 1e-9);
    }
}
