use std::collections::BTreeMap;

use serde_json::{Map, json};
use stagecraft_api::Workflow;
use stagecraft_api::agent::{AgentResources, EnvironmentVariable, Permission, WorkspaceAccess};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::run::RunAgent;
use stagecraft_operator::job::{PodSettings, job};
use stagecraft_operator::permissions;

pub fn workflow() -> Workflow {
    serde_json::from_value(json!({
        "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
        "metadata": {"name": "flow", "namespace": "here", "uid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11"}, "spec": {}
    }))
    .unwrap()
}

fn task() -> TaskEnvelope {
    serde_json::from_value(json!({
        "apiVersion": "stagecraft.dev/v1alpha1",
        "attempt": {"workflowUid": "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11", "stage": "scaffold", "attempt": 1},
        "workflow": {"namespace": "here", "name": "flow"},
        "traceId": "0f8f7c6e58a14b8e9a430d6d6a6f6d11", "priority": "medium",
        "retryCount": 0, "retryLimit": 3, "timeoutSeconds": 600,
        "createdAt": "2026-11-01T10:00:00Z", "deadline": "2026-11-01T10:10:00Z",
        "context": {"previousOutputs": {}},
        "project": {"name": "flow", "description": "", "requirements": ["add"]},
        "workspace": null, "agent": "writer", "payload": {}, "command": ["writer", "--all"], "outputsSchema": null
    }))
    .unwrap()
}

fn agent() -> RunAgent {
    RunAgent {
        name: "writer".into(),
        version: String::new(),
        image: Some("example/writer:1".into()),
        command: vec!["writer".into(), "--all".into()],
        env: vec![
            EnvironmentVariable {
                name: "MODE".into(),
                value: "quick".into(),
            },
            EnvironmentVariable {
                name: "STAGECRAFT_TASK".into(),
                value: "/elsewhere".into(),
            },
        ],
        resources: AgentResources {
            requests: BTreeMap::new(),
            limits: BTreeMap::from([("memory".into(), "48Mi".into())]),
        },
        outputs_schema: Some(Map::new()),
        workspace: WorkspaceAccess::Write,
        permissions: Vec::new(),
        own: false,
        needs_model: false,
        max_running: None,
    }
}

fn settings() -> PodSettings {
    PodSettings {
        runner_image: "example/agent-runner:1".into(),
        runner_pull_policy: "IfNotPresent".into(),
        gateway_url: "https://stagecraft-gateway.release.svc:8443".into(),
        gateway_address: "10.96.0.7:8443".into(),
        gateway_ca: "PEM".into(),
        log_format: "json".into(),
    }
}

#[test]
fn a_stage_pod_is_as_the_architecture_page_says() {
    let job = job(&workflow(), &agent(), &task(), &settings()).unwrap();
    insta::assert_yaml_snapshot!(job);
}

/// In the cluster the token would be refused to a service account that is not there, so the two names must be one.
#[test]
fn the_agent_of_a_stage_that_deploys_reaches_the_api_server_and_the_runner_does_not() {
    let agent = RunAgent {
        permissions: vec![Permission::Deploy],
        ..agent()
    };
    let job = serde_json::to_value(job(&workflow(), &agent, &task(), &settings()).unwrap()).unwrap();
    let account = permissions::service_account(&workflow()).unwrap();
    let pod = job.pointer("/spec/template/spec").unwrap();
    assert_eq!(pod["serviceAccountName"], json!(account.metadata.name));
    assert_eq!(pod["automountServiceAccountToken"], false);
    let volume = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .find(|volume| volume["name"] == "cluster-access")
        .unwrap();
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(
        token,
        &json!({"expirationSeconds": 3600, "path": "token"}),
        "the API server's own audience"
    );
    let paths = |container: &str| -> Vec<String> {
        let mounts = pod.pointer(container).unwrap()["volumeMounts"]
            .as_array()
            .unwrap();
        mounts
            .iter()
            .map(|mount| mount["mountPath"].as_str().unwrap().to_owned())
            .collect()
    };
    let path = "/var/run/secrets/kubernetes.io/serviceaccount".to_owned();
    assert!(paths("/containers/0").contains(&path));
    assert!(!paths("/initContainers/0").contains(&path));
    for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
        assert_eq!(
            job.pointer(labels).unwrap()["stagecraft.dev/permissions"],
            "deploy"
        );
    }
}

#[test]
fn no_agent_changes_the_variables_of_the_contract() {
    let job = serde_json::to_value(job(&workflow(), &agent(), &task(), &settings()).unwrap()).unwrap();
    let env = job
        .pointer("/spec/template/spec/containers/0/env")
        .unwrap()
        .as_array()
        .unwrap();
    let tasks: Vec<_> = env
        .iter()
        .filter(|variable| variable["name"] == "STAGECRAFT_TASK")
        .collect();
    assert_eq!(
        tasks,
        vec![&json!({"name": "STAGECRAFT_TASK", "value": "/stagecraft/task.json"})]
    );
    assert!(env.contains(&json!({"name": "MODE", "value": "quick"})));
}

#[test]
fn the_agent_holds_no_credential() {
    let job = serde_json::to_value(job(&workflow(), &agent(), &task(), &settings()).unwrap()).unwrap();
    let pod = job.pointer("/spec/template/spec").unwrap();
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod.get("serviceAccountName"), None);
    assert_eq!(job.pointer("/metadata/labels/stagecraft.dev~1permissions"), None);
    let mounts = pod
        .pointer("/containers/0/volumeMounts")
        .unwrap()
        .as_array()
        .unwrap();
    assert!(
        mounts
            .iter()
            .all(|mount| mount["name"] != "token" && mount["name"] != "state"),
        "{mounts:?}"
    );
}
