//! Everything that helps to understand a scenario that failed.

use stagecraft_api::label;

use super::kubectl::shown;
use super::world::World;

/// Prints what the namespace holds and what the release logged.
pub async fn print(world: &World) {
    let namespace = world.namespace.as_str();
    let pods = format!("{}={}", label::MANAGED_BY, label::MANAGED_BY_VALUE);
    section(
        "Workflows",
        &[
            "-n",
            namespace,
            "get",
            "workflows",
            "-o",
            "yaml",
            "--show-managed-fields=false",
        ],
    )
    .await;
    section(
        "Jobs and Pods",
        &["-n", namespace, "get", "jobs,pods", "-o", "wide", "--show-labels"],
    )
    .await;
    section("Pods in detail", &["-n", namespace, "describe", "pods"]).await;
    section(
        "Events",
        &["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"],
    )
    .await;
    section(
        "Logs of the stages",
        &[
            "-n",
            namespace,
            "logs",
            "-l",
            &pods,
            "--all-containers",
            "--prefix",
            "--tail=100",
        ],
    )
    .await;
    let release = world.release.namespace.as_str();
    section("The release", &["-n", release, "get", "pods", "-o", "wide"]).await;
    for part in [&world.release.operator, &world.release.gateway] {
        let title = format!("Logs of {}", part.name);
        section(
            &title,
            &[
                "-n",
                release,
                "logs",
                "-l",
                &part.selector,
                "--prefix",
                "--tail=60",
                "--since=10m",
            ],
        )
        .await;
    }
    let recording = world.seen();
    println!("--- Jobs ever created");
    for job in &recording.jobs {
        println!(
            "{} stage {} attempt {} uid {} revision {}",
            job.name, job.stage, job.attempt, job.uid, job.revision
        );
    }
}

async fn section(title: &str, arguments: &[&str]) {
    println!("--- {title}\n{}", shown(arguments).await);
}
