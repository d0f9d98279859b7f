//! What there is to see of a Workflow that does not get on.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use stagecraft_api::{WorkflowStatus, label};

use super::progress::one_line;
use super::style::Style;

/// Conditions, message and Pods, in words.
pub async fn last_seen(
    client: &Client,
    (namespace, name): (&str, &str),
    status: &WorkflowStatus,
    style: Style,
) -> String {
    let mut lines = vec![style.bold("Last seen")];
    if status.conditions.is_empty() {
        lines.push(
            "  no condition: no operator has looked at the Workflow; `kubectl -n stagecraft-system get pods`"
                .to_owned(),
        );
    }
    for condition in &status.conditions {
        lines.push(format!(
            "  condition {} is {} ({}): {}",
            condition.type_, condition.status, condition.reason, condition.message
        ));
    }
    if !status.stages.is_empty() {
        lines.push(format!(
            "  phase {}, {} stages done: {}",
            status.phase.as_str(),
            status.progress,
            one_line(&status.message)
        ));
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels(&format!("{}={name}", label::WORKFLOW));
    match pods.list(&ours).await {
        Ok(list) if list.items.is_empty() => lines.push("  no Pod".to_owned()),
        Ok(list) => lines.extend(list.items.iter().map(pod_line)),
        Err(error) => lines.push(format!("  Pods cannot be read: {error}")),
    }
    lines.join("\n")
}

fn pod_line(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let sidecars = status.init_container_statuses.unwrap_or_default();
    let containers = status.container_statuses.unwrap_or_default();
    let containers: Vec<String> = sidecars.iter().chain(&containers).map(container_state).collect();
    let phase = status.phase.unwrap_or_else(|| "unknown".to_owned());
    format!("  Pod {} {phase}: {}", pod.name_any(), containers.join(", "))
}

fn container_state(container: &ContainerStatus) -> String {
    let state = container.state.clone().unwrap_or_default();
    let text = if let Some(waiting) = state.waiting {
        let reason = waiting.reason.unwrap_or_default();
        format!("waits ({reason}) {}", waiting.message.unwrap_or_default())
    } else if let Some(ended) = state.terminated {
        format!(
            "ended with {} ({})",
            ended.exit_code,
            ended.reason.unwrap_or_default()
        )
    } else if state.running.is_some() {
        "runs".to_owned()
    } else {
        "unknown".to_owned()
    };
    format!("{} {}", container.name, text.trim_end())
}
