//! The one place that makes a stage's Job. ARCHITECTURE.md, "A stage Pod", is its description.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use kube::Resource as _;
use serde_json::{Value, json};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::protocol::AUDIENCE;
use stagecraft_api::run::RunAgent;
use stagecraft_api::{Workflow, label, name};

use crate::permissions;

/// What every stage Pod of this installation has in common.
#[derive(Clone, Debug)]
pub struct PodSettings {
    pub runner_image: String,
    pub runner_pull_policy: String,
    /// `https://NAME.NAMESPACE.svc:PORT`: the name stands in the gateway's certificate.
    pub gateway_url: String,
    /// ClusterIP and port: stage Pods need no DNS.
    pub gateway_address: String,
    /// Certificate authority of the gateway, as PEM.
    pub gateway_ca: String,
    pub log_format: String,
}

/// UID of the runner's container.
const RUNNER_UID: i64 = 65_532;
/// UID of the agent's container, forced upon every image.
const AGENT_UID: i64 = 65_533;
/// Group of the volumes that both share.
const SHARED_GID: i64 = 65_531;
/// How long a Pod may take to hand in its work when it has to go, in seconds: 20 of them are the agent's. Not longer: the node takes a few
/// more to put it away, when a namespace is deleted Kubernetes looks again only after half of the longest grace in it, and all has to be
/// gone within a minute, whether the gateway answers or not.
const GRACE_SECONDS: i64 = 45;
/// Volume with which the agent of a stage that deploys reaches the API server.
const CLUSTER_ACCESS: &str = "cluster-access";
/// Where clients of Kubernetes look for it.
const CLUSTER_ACCESS_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const RUNNER_URL: &str = "http://127.0.0.1:9411";
/// SDKs refuse to start without a key; the real one never leaves the gateway.
const PLACEHOLDER_KEY: &str = "held-by-the-stagecraft-gateway";

/// Why a Job cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error("the Workflow has no UID")]
    NoOwner,
    #[error("the run of the Workflow is not at hand")]
    NoRun,
    #[error("the Job could not be put together")]
    Encode(#[from] serde_json::Error),
}

/// The Job of one attempt.
pub fn job(
    workflow: &Workflow,
    agent: &RunAgent,
    task: &TaskEnvelope,
    settings: &PodSettings,
) -> Result<Job, JobError> {
    let owner = workflow.controller_owner_ref(&()).ok_or(JobError::NoOwner)?;
    let labels = labels(agent, task);
    let job = json!({
        "metadata": {
            "name": name::job(&task.workflow.name, &task.attempt),
            "namespace": task.workflow.namespace,
            "labels": labels,
            "annotations": {label::ENVELOPE: serde_json::to_string(task)?},
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": 0,
            "template": {
                "metadata": {"labels": labels},
                "spec": pod(agent, task, settings),
            },
        },
    });
    Ok(serde_json::from_value(job)?)
}

fn labels(agent: &RunAgent, task: &TaskEnvelope) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        (label::MANAGED_BY, label::MANAGED_BY_VALUE.to_owned()),
        (label::WORKFLOW, task.workflow.name.clone()),
        (label::WORKFLOW_UID, task.attempt.workflow_uid.clone()),
        (label::STAGE, task.attempt.stage.clone()),
        (label::ATTEMPT, task.attempt.attempt.to_string()),
        (label::AGENT, task.payload.agent().to_owned()),
    ]);
    if permissions::deploys(agent) {
        labels.insert(label::PERMISSIONS, label::PERMISSION_DEPLOY.to_owned());
    }
    labels
}

fn pod(agent: &RunAgent, task: &TaskEnvelope, settings: &PodSettings) -> Value {
    let mut pod = json!({
        "restartPolicy": "Never",
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        // A node that does not answer gives its Pods up after a minute; the default is five.
        "tolerations": [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
        ],
        "securityContext": {
            "runAsNonRoot": true,
            "fsGroup": SHARED_GID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [runner(settings)],
        "containers": [agent_container(agent, task, settings)],
        "volumes": [
            {"name": "stagecraft", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "work", "emptyDir": {}},
            {"name": "state", "emptyDir": {}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "token", "projected": {"defaultMode": 0o400, "sources": [
                {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
            ]}},
        ],
    });
    if permissions::deploys(agent) {
        let account = name::deployer(&task.workflow.name, &task.attempt.workflow_uid);
        set(&mut pod, "", "serviceAccountName", json!(account));
        push(&mut pod, "/volumes", cluster_access());
        let mount = json!({"name": CLUSTER_ACCESS, "mountPath": CLUSTER_ACCESS_PATH, "readOnly": true});
        push(&mut pod, "/containers/0/volumeMounts", mount);
    }
    pod
}

/// What Kubernetes would mount by itself, but into both containers.
fn cluster_access() -> Value {
    json!({"name": CLUSTER_ACCESS, "projected": {"defaultMode": 0o440, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3600, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}})
}

fn set(object: &mut Value, pointer: &str, field: &str, value: Value) {
    if let Some(fields) = object.pointer_mut(pointer).and_then(Value::as_object_mut) {
        fields.insert(field.to_owned(), value);
    }
}

fn push(object: &mut Value, pointer: &str, value: Value) {
    if let Some(list) = object.pointer_mut(pointer).and_then(Value::as_array_mut) {
        list.push(value);
    }
}

fn security_context(uid: i64) -> Value {
    json!({
        "runAsUser": uid,
        "runAsGroup": uid,
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// The sidecar: a native one, so that it starts first, ends last and is restarted by itself.
fn runner(settings: &PodSettings) -> Value {
    json!({
        "name": "runner",
        "image": settings.runner_image,
        "imagePullPolicy": settings.runner_pull_policy,
        "restartPolicy": "Always",
        "command": ["/usr/local/bin/stagecraft-runner", "serve"],
        "lifecycle": {"postStart": {"exec": {"command": ["/usr/local/bin/stagecraft-runner", "await-ready"]}}},
        "env": [
            {"name": "STAGECRAFT_GATEWAY_URL", "value": settings.gateway_url},
            {"name": "STAGECRAFT_GATEWAY_ADDRESS", "value": settings.gateway_address},
            {"name": "STAGECRAFT_GATEWAY_CA", "value": settings.gateway_ca},
            {"name": "STAGECRAFT_TOKEN_FILE", "value": "/var/run/secrets/stagecraft/token/token"},
            {"name": "STAGECRAFT_LOG_FORMAT", "value": settings.log_format},
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": security_context(RUNNER_UID),
        "volumeMounts": [
            {"name": "stagecraft", "mountPath": "/stagecraft"},
            {"name": "work", "mountPath": "/work"},
            {"name": "state", "mountPath": "/state"},
            {"name": "token", "mountPath": "/var/run/secrets/stagecraft/token", "readOnly": true},
        ],
    })
}

fn agent_container(agent: &RunAgent, task: &TaskEnvelope, settings: &PodSettings) -> Value {
    let mut command = vec!["/stagecraft/bin/stagecraft-launcher".to_owned(), "--".to_owned()];
    command.extend(task.command.iter().cloned());
    let (image, pull_policy) = match &agent.image {
        Some(image) => (image, "IfNotPresent"),
        None => (&settings.runner_image, settings.runner_pull_policy.as_str()),
    };
    json!({
        "name": "agent",
        "image": image,
        "imagePullPolicy": pull_policy,
        "command": command,
        "workingDir": "/work/workspace",
        "env": agent_environment(agent),
        "resources": agent.resources.with_defaults(),
        "securityContext": security_context(AGENT_UID),
        "volumeMounts": [
            {"name": "stagecraft", "mountPath": "/stagecraft", "readOnly": true},
            {"name": "work", "mountPath": "/work"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}

/// The contract's variables come last and so win over the Agent's own.
fn agent_environment(agent: &RunAgent) -> Vec<Value> {
    let contract = [
        ("STAGECRAFT_TASK", "/stagecraft/task.json"),
        ("STAGECRAFT_WORKSPACE", "/work/workspace"),
        ("STAGECRAFT_RESULT", "/work/result.json"),
        ("STAGECRAFT_ARTIFACTS", "/work/artifacts"),
        ("STAGECRAFT_INPUTS", "/work/inputs"),
        ("STAGECRAFT_RUNNER_URL", RUNNER_URL),
        ("HOME", "/work/home"),
        ("TMPDIR", "/tmp"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9411/anthropic"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:9411/openai/v1"),
        ("ANTHROPIC_API_KEY", PLACEHOLDER_KEY),
        ("OPENAI_API_KEY", PLACEHOLDER_KEY),
    ];
    let own = agent
        .env
        .iter()
        .filter(|variable| !contract.iter().any(|(name, _)| *name == variable.name));
    own.map(|variable| json!({"name": variable.name, "value": variable.value}))
        .chain(
            contract
                .iter()
                .map(|(name, value)| json!({"name": name, "value": value})),
        )
        .collect()
}
