//! A mock API server: objects by path, tokens by text.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::{Request, Response};
use serde_json::{Value, json};
use stagecraft_api::{label, name};

pub const UID: &str = "0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11";
pub const OPERATOR: &str = "system:serviceaccount:stagecraft:stagecraft-operator";

#[derive(Default)]
pub struct Cluster {
    objects: Mutex<HashMap<String, Value>>,
    tokens: Mutex<HashMap<String, Value>>,
    pub down: AtomicBool,
    pub reviews: AtomicUsize,
}

impl Cluster {
    pub fn client(self: &Arc<Self>) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, std::convert::Infallible>(cluster.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let reply = |status: u16, body: &Value| {
            Response::builder()
                .status(status)
                .body(Body::from(body.to_string()))
                .unwrap()
        };
        let failure = |code: u16| {
            let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "no", "reason": if code == 404 { "NotFound" } else { "ServiceUnavailable" }, "code": code});
            reply(code, &body)
        };
        if self.down.load(Ordering::SeqCst) {
            return failure(503);
        }
        if path == "/version" {
            let version = json!({"major": "1", "minor": "33", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            return reply(200, &version);
        }
        if path == "/apis/authentication.k8s.io/v1/tokenreviews" {
            self.reviews.fetch_add(1, Ordering::SeqCst);
            let body = request.into_body().collect_bytes().await.unwrap();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(review["spec"]["audiences"], json!(["stagecraft-gateway"]));
            let token = review["spec"]["token"].as_str().unwrap().to_owned();
            let known = self.tokens.lock().unwrap().get(&token).cloned();
            review["status"] = known.unwrap_or_else(|| json!({"authenticated": false, "error": "no"}));
            return reply(201, &review);
        }
        let found = self.objects.lock().unwrap().get(&path).cloned();
        found.map_or_else(|| failure(404), |object| reply(200, &object))
    }

    pub fn put(&self, path: &str, object: Value) {
        self.objects.lock().unwrap().insert(path.to_owned(), object);
    }

    pub fn remove(&self, path: &str) {
        assert!(self.objects.lock().unwrap().remove(path).is_some(), "{path}");
    }

    pub fn token(&self, token: &str, username: &str, pod: Option<(&str, &str)>, audience: &str) {
        let extra = pod.map_or_else(
            || json!({}),
            |(name, uid)| {
                json!({"authentication.kubernetes.io/pod-name": [name],
                    "authentication.kubernetes.io/pod-uid": [uid]})
            },
        );
        let status = json!({"authenticated": true, "audiences": [audience],
            "user": {"username": username, "extra": extra}});
        self.tokens.lock().unwrap().insert(token.to_owned(), status);
    }

    pub fn pod(&self, pod: &str, owner: Option<&str>) {
        let owners = owner.map_or_else(
            || json!([]),
            |job| {
                json!([{"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": format!("{job}-uid"),
                    "controller": true}])
            },
        );
        self.put(
            &format!("/api/v1/namespaces/team/pods/{pod}"),
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": pod, "namespace": "team", "uid": format!("{pod}-uid"), "ownerReferences": owners},
                "spec": {"containers": [], "nodeName": "node-a"}, "status": {"phase": "Running"}}),
        );
        let uid = format!("{pod}-uid");
        self.token(
            pod,
            "system:serviceaccount:team:default",
            Some((pod, &uid)),
            "stagecraft-gateway",
        );
    }

    /// A Job of an attempt at `scaffold` with one Pod. The Pod's name is its token.
    pub fn attempt(&self, number: u32, workspace: &Value) -> String {
        self.attempt_by("echo", &json!({"sleepMillis": 5}), number, workspace)
    }

    /// The same by another agent than echo.
    pub fn attempt_by(&self, agent: &str, payload: &Value, number: u32, workspace: &Value) -> String {
        self.attempt_with(agent, payload, number, workspace, &json!({}))
    }

    /// The same with more in its envelope.
    pub fn attempt_with(
        &self,
        agent: &str,
        payload: &Value,
        number: u32,
        workspace: &Value,
        more: &Value,
    ) -> String {
        let key = key(number);
        let job = name::job("flow", &key);
        let mut envelope = json!({
            "apiVersion": "stagecraft.dev/v1alpha1", "attempt": key,
            "workflow": {"namespace": "team", "name": "flow"}, "traceId": name::trace_id(UID),
            "priority": "medium", "retryCount": 0, "retryLimit": 3, "timeoutSeconds": 60,
            "createdAt": "2026-11-01T10:00:00.000Z", "deadline": "2026-11-01T10:01:00.000Z",
            "context": {"previousOutputs": {}},
            "project": {"name": "p", "description": "", "requirements": ["r"]},
            "workspace": workspace, "agent": agent, "payload": payload, "command": ["agent"],
            "outputsSchema": null,
        });
        for (name, value) in more.as_object().unwrap() {
            envelope[name] = value.clone();
        }
        self.put(
            &format!("/apis/batch/v1/namespaces/team/jobs/{job}"),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {
                "name": job, "namespace": "team", "uid": format!("{job}-uid"),
                "labels": {label::MANAGED_BY: label::MANAGED_BY_VALUE, label::WORKFLOW_UID: UID,
                    label::STAGE: "scaffold", label::ATTEMPT: number.to_string()},
                "annotations": {label::ENVELOPE: envelope.to_string()},
                "ownerReferences": [{"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow", "name": "flow",
                    "uid": UID, "controller": true}]}}),
        );
        let pod = format!("{job}-pod");
        self.pod(&pod, Some(&job));
        pod
    }

    /// The Workflow at the given attempt of `scaffold`.
    pub fn workflow(&self, attempt: u32, phase: &str) {
        self.put(
            WORKFLOW,
            json!({"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
                "metadata": {"name": "flow", "namespace": "team", "uid": UID},
                "status": {"stages": [{"name": "scaffold", "phase": phase, "attempt": attempt,
                    "job": name::job("flow", &key(attempt))}]}}),
        );
    }

    /// An integration stage of another Workflow of the same project, with one Pod. The Pod's name is its token.
    pub fn neighbour(&self, number: u32) -> String {
        let workflow = format!("flow-{number}");
        let key = stagecraft_api::AttemptKey {
            workflow_uid: format!("{number:0>8}-58a1-4b8e-9a43-0d6d6a6f6d11"),
            stage: "merge".to_owned(),
            attempt: 1,
        };
        let uid = &key.workflow_uid;
        let job = name::job(&workflow, &key);
        let envelope = json!({
            "apiVersion": "stagecraft.dev/v1alpha1", "attempt": key,
            "workflow": {"namespace": "team", "name": workflow}, "traceId": name::trace_id(uid),
            "priority": "medium", "retryCount": 0, "retryLimit": 3, "timeoutSeconds": 60,
            "createdAt": "2026-11-01T10:00:00.000Z", "deadline": "2026-11-01T10:01:00.000Z",
            "context": {"previousOutputs": {}}, "project": {"name": "p", "description": "", "requirements": ["r"]},
            "workspace": null, "agent": "integration", "payload": {}, "command": ["agent"], "outputsSchema": null,
        });
        self.put(
            &format!("/apis/batch/v1/namespaces/team/jobs/{job}"),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {
                "name": job, "namespace": "team", "uid": format!("{job}-uid"),
                "labels": {label::MANAGED_BY: label::MANAGED_BY_VALUE, label::WORKFLOW_UID: uid,
                    label::STAGE: "merge", label::ATTEMPT: "1"},
                "annotations": {label::ENVELOPE: envelope.to_string()},
                "ownerReferences": [{"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow", "name": workflow,
                    "uid": uid, "controller": true}]}}),
        );
        self.put(
            &format!("/apis/stagecraft.dev/v1alpha1/namespaces/team/workflows/{workflow}"),
            json!({"apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
                "metadata": {"name": workflow, "namespace": "team", "uid": uid},
                "status": {"stages": [{"name": "merge", "phase": "Running", "attempt": 1, "job": job}]}}),
        );
        let pod = format!("{job}-pod");
        self.pod(&pod, Some(&job));
        pod
    }
}

pub const WORKFLOW: &str = "/apis/stagecraft.dev/v1alpha1/namespaces/team/workflows/flow";

pub fn key(attempt: u32) -> stagecraft_api::AttemptKey {
    stagecraft_api::AttemptKey {
        workflow_uid: UID.to_owned(),
        stage: "scaffold".to_owned(),
        attempt,
    }
}
