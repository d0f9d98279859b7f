//! The service account of stages that deploy, over a mock API server.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Request, Response};
use kube::Client;
use kube::client::Body as ClientBody;
use serde_json::{Value, json};
use stagecraft_operator::permissions::{
    self, ModelKeys, PermissionError, ensure_deployer, ensure_model_keys,
};

use crate::job::workflow;

const ROLE: &str = "release-deployer";
const NAME: &str = "flow-deployer-";

/// Keeps what is created by path, and what was asked of it.
#[derive(Default)]
struct Server {
    objects: Mutex<HashMap<String, Value>>,
    calls: Mutex<Vec<String>>,
    refuse: Option<u16>,
}

impl Server {
    fn client(self: &Arc<Self>) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<ClientBody>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    async fn answer(&self, request: Request<ClientBody>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let body = body.collect_bytes().await.unwrap();
        self.calls
            .lock()
            .unwrap()
            .push(format!("{} {}", parts.method, path.rsplit('/').next().unwrap()));
        if path == "/version" {
            return reply(
                200,
                &json!({"major": "1", "minor": "33", "gitVersion": "", "gitCommit": "",
                "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
            );
        }
        if let Some(code) = self.refuse {
            return failure(code, "Forbidden");
        }
        let mut objects = self.objects.lock().unwrap();
        match parts.method.as_str() {
            "POST" => {
                let object: Value = serde_json::from_slice(&body).unwrap();
                let path = format!(
                    "{path}/{}",
                    object.pointer("/metadata/name").and_then(Value::as_str).unwrap()
                );
                if objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                objects.insert(path, object.clone());
                reply(201, &object)
            }
            "DELETE" => match objects.remove(&path) {
                Some(object) => reply(200, &object),
                None => failure(404, "NotFound"),
            },
            _ => objects
                .get(&path)
                .map_or_else(|| failure(404, "NotFound"), |object| reply(200, object)),
        }
    }

    /// The object of this plural.
    fn object(&self, plural: &str) -> Value {
        let objects = self.objects.lock().unwrap();
        let found = objects.iter().find(|(path, _)| path.contains(plural));
        found.unwrap().1.clone()
    }

    fn change(&self, plural: &str, change: impl FnOnce(&mut Value)) {
        let mut objects = self.objects.lock().unwrap();
        let found = objects.iter_mut().find(|(path, _)| path.contains(plural));
        change(found.unwrap().1);
    }

    fn calls(&self) -> Vec<String> {
        let mut calls = std::mem::take(&mut *self.calls.lock().unwrap());
        calls.sort();
        calls
    }
}

fn reply(status: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("the server says {reason}"), "reason": reason, "code": code});
    reply(code, &body)
}

#[tokio::test]
async fn the_account_is_the_workflows_and_may_what_the_cluster_role_says() {
    let server = Arc::new(Server::default());
    ensure_deployer(&server.client(), &workflow(), ROLE)
        .await
        .unwrap();
    let (account, binding) = (server.object("serviceaccounts"), server.object("rolebindings"));
    for object in [&account, &binding] {
        let metadata = &object["metadata"];
        assert!(metadata["name"].as_str().unwrap().starts_with(NAME), "{metadata}");
        assert_eq!(metadata["namespace"], "here");
        assert_eq!(metadata["ownerReferences"][0]["kind"], "Workflow");
        assert_eq!(metadata["ownerReferences"][0]["controller"], true);
        assert_eq!(metadata["labels"]["app.kubernetes.io/managed-by"], "stagecraft");
        assert_eq!(
            metadata["labels"]["stagecraft.dev/workflow-uid"],
            metadata["ownerReferences"][0]["uid"]
        );
    }
    assert_eq!(account["automountServiceAccountToken"], false);
    assert_eq!(
        binding["roleRef"],
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ROLE})
    );
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": account["metadata"]["name"], "namespace": "here"}])
    );
}

#[tokio::test]
async fn what_is_there_already_is_left_alone() {
    let server = Arc::new(Server::default());
    ensure_deployer(&server.client(), &workflow(), ROLE)
        .await
        .unwrap();
    server.change("serviceaccounts", |account| {
        account["imagePullSecrets"] = json!([{"name": "theirs"}]);
    });
    server.calls();
    ensure_deployer(&server.client(), &workflow(), ROLE)
        .await
        .unwrap();
    let calls = server.calls();
    assert!(calls.iter().all(|call| !call.starts_with("DELETE")), "{calls:?}");
    assert_eq!(
        server.object("serviceaccounts")["imagePullSecrets"][0]["name"],
        "theirs"
    );
}

#[tokio::test]
async fn a_binding_to_the_role_of_an_earlier_release_is_made_anew() {
    let server = Arc::new(Server::default());
    ensure_deployer(&server.client(), &workflow(), "another-release")
        .await
        .unwrap();
    ensure_deployer(&server.client(), &workflow(), ROLE)
        .await
        .unwrap();
    assert_eq!(server.object("rolebindings")["roleRef"]["name"], ROLE);
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_not_touched_and_named() {
    for plural in ["serviceaccounts", "rolebindings"] {
        let server = Arc::new(Server::default());
        ensure_deployer(&server.client(), &workflow(), ROLE)
            .await
            .unwrap();
        server.change(plural, |object| {
            object["metadata"]["ownerReferences"] = json!([]);
        });
        let before = server.object(plural);
        let error = ensure_deployer(&server.client(), &workflow(), ROLE)
            .await
            .unwrap_err();
        assert!(matches!(error, PermissionError::Foreign { .. }), "{error:?}");
        let reason = error.refusal().unwrap();
        assert!(reason.contains(NAME) && reason.contains("delete it"), "{reason}");
        assert_eq!(server.object(plural), before);
    }
}

#[tokio::test]
async fn only_a_definite_answer_is_a_refusal() {
    for (code, definite) in [(403, true), (422, true), (429, false), (500, false)] {
        let server = Arc::new(Server {
            refuse: Some(code),
            ..Server::default()
        });
        let error = ensure_deployer(&server.client(), &workflow(), ROLE)
            .await
            .unwrap_err();
        assert_eq!(error.refusal().is_some(), definite, "{code}: {error:?}");
    }
}

#[tokio::test]
async fn the_gateway_may_read_keys_where_a_workflow_names_a_provider() {
    let server = Arc::new(Server::default());
    let keys = ModelKeys {
        cluster_role: "release-model-keys".to_owned(),
        service_account: "release-gateway".to_owned(),
        namespace: "release".to_owned(),
    };
    for _ in 0..2 {
        ensure_model_keys(&server.client(), &workflow(), &keys)
            .await
            .unwrap();
    }
    let binding = server.object("rolebindings");
    assert!(
        binding["metadata"]["name"]
            .as_str()
            .unwrap()
            .starts_with("flow-models-")
    );
    assert_eq!(binding["metadata"]["namespace"], "here");
    assert_eq!(binding["metadata"]["ownerReferences"][0]["kind"], "Workflow");
    assert_eq!(binding["roleRef"]["name"], "release-model-keys");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": "release-gateway", "namespace": "release"}])
    );
    assert!(
        server
            .calls()
            .iter()
            .all(|call| !call.contains("serviceaccounts"))
    );
}

#[test]
fn a_workflow_without_a_uid_gets_nothing() {
    let mut workflow = workflow();
    workflow.metadata.uid = None;
    assert!(matches!(
        permissions::service_account(&workflow),
        Err(PermissionError::NoOwner)
    ));
}
