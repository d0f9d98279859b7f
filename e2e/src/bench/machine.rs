//! What was measured, on what.

use std::fs;

use jiff::Zoned;
use kube::Client;

use crate::scenario::on_this_machine;

/// Versions, machine, time.
pub async fn describe(client: &Client) -> anyhow::Result<String> {
    let cluster = client.apiserver_version().await?;
    let first = |file: &str, prefix: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(prefix))
            .unwrap_or_default();
        line.split_once(':')
            .map_or_else(String::new, |(_, value)| value.trim().to_owned())
    };
    let place = if on_this_machine() {
        "dev cluster on this machine"
    } else {
        "cluster of the kubeconfig"
    };
    Ok([
        format!(
            "Stagecraft {} benchmark, {}",
            env!("CARGO_PKG_VERSION"),
            Zoned::now().strftime("%F %T %Z")
        ),
        format!("  Kubernetes  {} ({place})", cluster.git_version),
        format!(
            "  machine     {}, {} cores, {}",
            first("/proc/cpuinfo", "model name"),
            std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            first("/proc/meminfo", "MemTotal"),
        ),
        format!(
            "  kernel      {}",
            fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
        ),
        String::new(),
    ]
    .join("\n"))
}
