//! What a Pod that ended without a result says of itself.

use stagecraft_api::error::{Category, StructuredError};

use crate::observation::{ContainerEnd, PodEvidence};

/// The error of the attempt. What the cluster did comes before what the agent's container says.
pub fn post_mortem(pod: &PodEvidence) -> StructuredError {
    if let Some(reason) = &pod.reason {
        return ended_by_kubernetes(reason);
    }
    if pod.deleting_since.is_some() {
        return StructuredError::new(
            "PodDeleted",
            Category::Network,
            "the Pod was deleted before it reported a result",
        );
    }
    if pod.node_lost_since.is_some() {
        return StructuredError::new(
            "NodeLost",
            Category::Network,
            "the node of the Pod stopped answering",
        );
    }
    match &pod.agent_end {
        Some(end) => container_end(end),
        None => StructuredError::new(
            "PodEnded",
            Category::Unknown,
            "the Pod ended without a result and without saying why; see its logs and Events",
        ),
    }
}

/// The kubelet evicts for two causes and has one reason for both. Only "The node was low on resource" is the cluster's;
/// the other messages say that a volume or container exceeds a limit (kubelet, pkg/kubelet/eviction/eviction_manager.go).
fn ended_by_kubernetes(reason: &str) -> StructuredError {
    if reason.starts_with("Evicted") && reason.contains("exceed") {
        return StructuredError::new(
            "OutOfDisk",
            Category::Resource,
            format!("the agent used more disk than its limit: {reason}"),
        )
        .suggest(
            "raise resources.limits.ephemeral-storage of the stage or its Agent, or make the task smaller",
        );
    }
    StructuredError::new(
        "PodLost",
        Category::Network,
        format!("Kubernetes ended the Pod: {reason}"),
    )
    .suggest("nothing, if the node was short of something for a while: the next attempt starts by itself")
}

fn container_end(end: &ContainerEnd) -> StructuredError {
    let ContainerEnd {
        exit_code,
        reason,
        message,
    } = end;
    match reason.as_str() {
        "OOMKilled" => StructuredError::new(
            "OutOfMemory",
            Category::Resource,
            "the agent's container used more memory than its limit and was killed",
        )
        .suggest("raise resources.limits.memory of the stage or its Agent, or make the task smaller"),
        "ContainerCannotRun" | "StartError" => StructuredError::new(
            "ContainerCannotRun",
            Category::Configuration,
            format!("the agent's container did not start: {message}"),
        )
        .suggest("check spec.image and spec.command of the Agent"),
        _ if *exit_code >= 128 => StructuredError::new(
            "AgentContainerKilled",
            Category::Network,
            format!(
                "the agent's container was killed by signal {} from outside",
                exit_code - 128
            ),
        )
        .suggest("nothing, if it happens once; if it goes on, raise resources.limits.memory of the stage or its Agent: a container runtime may miss that it was memory that ran out"),
        _ => StructuredError::new(
            "AgentContainerEnded",
            Category::Execution,
            format!("the agent's container ended with status {exit_code} ({reason}) and no result"),
        ),
    }
}
