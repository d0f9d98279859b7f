//! Requests that the API server in memory has to answer as the real one does. Run against both, the answers are compared step by step;
//! what no two servers have in common (UIDs, versions, times, defaults of built-in kinds) is named by the order in which it appears, or
//! left out.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, StreamExt as _};
use http::{Method, Request};
use kube::Client;
use serde_json::{Value, json};

/// One request, or one wait.
struct Step {
    name: &'static str,
    method: Method,
    /// After the namespace: `configmaps/one`.
    path: &'static str,
    content_type: &'static str,
    body: Value,
    wait: Wait,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    None,
    /// Asked again until the answer is 404: somebody else deletes it.
    UntilGone,
    /// This many lines of a watch.
    Lines(usize),
}

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

/// What a server answered to each step.
pub type Transcript = Vec<(&'static str, Value)>;

/// Plays every step in a namespace.
pub async fn transcript(client: &Client, namespace: &str) -> anyhow::Result<Transcript> {
    let mut names = Names::default();
    let mut transcript = Vec::new();
    for step in steps() {
        let answer = play(client, namespace, &step, &mut names).await;
        transcript.push((step.name, answer.with_context(|| format!("step {}", step.name))?));
    }
    Ok(transcript)
}

/// What was seen, under the names that later steps use.
#[derive(Default)]
struct Names {
    /// `$uid.step` and `$version.step` to what the server said.
    known: BTreeMap<String, String>,
    /// UIDs and versions in the order in which they were first seen.
    uids: Vec<String>,
    versions: Vec<String>,
}

impl Names {
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // Longer names first: one may begin with another.
        for (name, value) in self.known.iter().rev() {
            text = text.replace(name.as_str(), value);
        }
        text
    }

    fn keep(&mut self, step: &str, object: &Value) {
        for (name, field) in [("uid", "uid"), ("version", "resourceVersion"), ("name", "name")] {
            if let Some(value) = object
                .pointer(&format!("/metadata/{field}"))
                .and_then(Value::as_str)
            {
                self.known.insert(format!("${name}.{step}$"), value.to_owned());
            }
        }
    }

    fn alias(of: &mut Vec<String>, value: &str) -> usize {
        let at = of.iter().position(|known| known == value);
        at.unwrap_or_else(|| {
            of.push(value.to_owned());
            of.len() - 1
        })
    }
}

async fn play(client: &Client, namespace: &str, step: &Step, names: &mut Names) -> anyhow::Result<Value> {
    let (kind, rest) = names.fill(step.path).split_once('/').map_or_else(
        || (names.fill(step.path), String::new()),
        |(kind, rest)| (kind.to_owned(), format!("/{rest}")),
    );
    let (plural, query) = kind
        .split_once('?')
        .map_or((kind.as_str(), String::new()), |(plural, query)| {
            (plural, format!("?{query}"))
        });
    let uri = format!("{}/namespaces/{namespace}/{plural}{rest}{query}", root(plural));
    let body = if step.body.is_null() {
        Vec::new()
    } else {
        names.fill(&step.body.to_string()).into_bytes()
    };
    let request = || {
        Request::builder()
            .method(step.method.clone())
            .uri(&uri)
            .header("content-type", step.content_type)
            .body(body.clone())
            .context("the request is malformed")
    };
    if let Wait::Lines(count) = step.wait {
        return lines(client, request()?, count, names).await;
    }
    for _ in 0..300 {
        let answer = client.send(request()?.map(kube::client::Body::from)).await?;
        let code = answer.status().as_u16();
        let bytes = answer.into_body().collect_bytes().await?;
        let object: Value = serde_json::from_slice(&bytes)?;
        if step.wait == Wait::UntilGone && code != 404 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        }
        names.keep(step.name, &object);
        return Ok(json!({"code": code, "object": project(&object, names)}));
    }
    anyhow::bail!("it is still there after a minute")
}

async fn lines(
    client: &Client,
    request: Request<Vec<u8>>,
    count: usize,
    names: &mut Names,
) -> anyhow::Result<Value> {
    let mut lines = Box::pin(client.request_stream(request).await?).lines();
    let mut seen = Vec::new();
    while seen.len() < count {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next()).await;
        let Some(line) = line.context("no further line came")? else {
            break;
        };
        let event: Value = serde_json::from_str(&line?)?;
        let object = event.get("object").cloned().unwrap_or_default();
        seen.push(json!({"type": event.get("type"), "object": project(&object, names)}));
    }
    Ok(Value::Array(seen))
}

fn root(plural: &str) -> &'static str {
    match plural {
        "agents" | "modelproviders" => "/apis/stagecraft.dev/v1alpha1",
        "jobs" => "/apis/batch/v1",
        _ => "/api/v1",
    }
}

/// What two servers can have in common.
fn project(object: &Value, names: &mut Names) -> Value {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    if kind == "Status" {
        let mut status = json!({
            "kind": kind, "status": object.get("status"), "reason": object.get("reason"), "code": object.get("code"),
        });
        // Messages of a conflict name versions, those of an invalid object depend on its kind.
        let reason = object.get("reason").and_then(Value::as_str);
        if matches!(reason, Some("NotFound" | "AlreadyExists")) {
            status["message"] = object.get("message").cloned().unwrap_or_default();
        }
        return status;
    }
    if let Some(items) = object.get("items").and_then(Value::as_array) {
        let items: Vec<Value> = items.iter().map(|item| project(item, names)).collect();
        return json!({"kind": kind, "items": items});
    }
    let metadata = object.get("metadata").cloned().unwrap_or_default();
    let text = |field: &str| metadata.get(field).and_then(Value::as_str).unwrap_or_default();
    let is_own = matches!(kind, "Agent" | "ModelProvider");
    json!({
        "kind": kind,
        "name": if metadata.get("generateName").is_some() { "(generated)" } else { text("name") },
        "uid": Names::alias(&mut names.uids, text("uid")),
        "version": Names::alias(&mut names.versions, text("resourceVersion")),
        "generation": metadata.get("generation"),
        "labels": metadata.get("labels").filter(|_| kind != "Job"),
        "finalizers": metadata.get("finalizers"),
        "deleting": metadata.get("deletionTimestamp").is_some(),
        "grace": metadata.get("deletionGracePeriodSeconds"),
        "data": object.get("data"),
        "spec": object.get("spec").filter(|_| is_own),
        "status": object.get("status").filter(|_| is_own || kind == "Job"),
    })
}

fn step(name: &'static str, method: Method, path: &'static str, body: Value) -> Step {
    let content_type = if method == Method::PATCH { MERGE } else { JSON };
    Step {
        name,
        method,
        path,
        content_type,
        body,
        wait: Wait::None,
    }
}

fn get(name: &'static str, path: &'static str) -> Step {
    step(name, Method::GET, path, Value::Null)
}

fn post(name: &'static str, path: &'static str, body: Value) -> Step {
    step(name, Method::POST, path, body)
}

fn patch(name: &'static str, path: &'static str, body: Value) -> Step {
    step(name, Method::PATCH, path, body)
}

fn delete(name: &'static str, path: &'static str, body: Value) -> Step {
    step(name, Method::DELETE, path, body)
}

fn config_map(name: &str, more: &Value) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}});
    json_patch::merge(&mut object, more);
    object
}

fn steps() -> Vec<Step> {
    [
        locking(),
        deletion(),
        garbage(),
        own_kinds(),
        subresource(),
        pods(),
        watches(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Creation, change, and who was quicker.
fn locking() -> Vec<Step> {
    let labelled = json!({"metadata": {"labels": {"color": "red"}}});
    let fixed = json!({"immutable": true, "metadata": {"labels": {"color": "blue"}}});
    vec![
        get("missing", "configmaps/one"),
        post("created", "configmaps", config_map("one", &labelled)),
        post("twice", "configmaps", config_map("one", &json!({}))),
        get("read", "configmaps/one"),
        patch("changed", "configmaps/one", json!({"data": {"a": "2", "b": "3"}})),
        patch("unchanged", "configmaps/one", json!({"data": {"a": "2"}})),
        patch("field taken away", "configmaps/one", json!({"data": {"b": null}})),
        patch(
            "stale",
            "configmaps/one",
            json!({"metadata": {"resourceVersion": "$version.created$"}, "data": {"a": "9"}}),
        ),
        patch(
            "fresh",
            "configmaps/one",
            json!({"metadata": {"resourceVersion": "$version.field taken away$"}, "data": {"a": "4"}}),
        ),
        patch(
            "other uid",
            "configmaps/one",
            json!({"metadata": {"uid": "00000000-0000-4000-a000-000000000000"}, "data": {"a": "9"}}),
        ),
        patch("of nothing", "configmaps/none", json!({"data": {"a": "1"}})),
        step(
            "replaced",
            Method::PUT,
            "configmaps/one",
            config_map("one", &json!({"data": {"a": "5"}})),
        ),
        step(
            "replaced, stale",
            Method::PUT,
            "configmaps/one",
            config_map(
                "one",
                &json!({"metadata": {"resourceVersion": "$version.created$"}, "data": {"a": "6"}}),
            ),
        ),
        post("immutable", "configmaps", config_map("fixed", &fixed)),
        patch(
            "of the immutable",
            "configmaps/fixed",
            json!({"data": {"a": "2"}}),
        ),
        patch(
            "of its labels",
            "configmaps/fixed",
            json!({"metadata": {"labels": {"color": "red"}}}),
        ),
        post(
            "no name",
            "configmaps",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
        ),
        post(
            "version at creation",
            "configmaps",
            config_map("two", &json!({"metadata": {"resourceVersion": "1"}})),
        ),
        post(
            "generated name",
            "configmaps",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "made-", "labels": {"color": "green"}}}),
        ),
        get("by label", "configmaps?labelSelector=color%3Dred"),
        get("by presence of a label", "configmaps?labelSelector=color"),
        get("by field", "configmaps?fieldSelector=metadata.name%3Done"),
    ]
}

/// Deletion with conditions and finalizers.
fn deletion() -> Vec<Step> {
    let held = json!({"metadata": {"finalizers": ["stagecraft.dev/conformance"]}});
    vec![
        delete(
            "of another uid",
            "configmaps/one",
            json!({"preconditions": {"uid": "00000000-0000-4000-a000-000000000000"}}),
        ),
        delete(
            "of an older version",
            "configmaps/one",
            json!({"preconditions": {"resourceVersion": "$version.created$"}}),
        ),
        delete(
            "of this one",
            "configmaps/one",
            json!({"preconditions": {"uid": "$uid.created$"}}),
        ),
        delete("of what is gone", "configmaps/one", Value::Null),
        get("gone", "configmaps/one"),
        post("held", "configmaps", config_map("held", &held)),
        delete("of the held", "configmaps/held", Value::Null),
        delete("of the held again", "configmaps/held", Value::Null),
        patch(
            "change of what is on its way out",
            "configmaps/held",
            json!({"data": {"a": "7"}}),
        ),
        patch(
            "let go",
            "configmaps/held",
            json!({"metadata": {"finalizers": null}}),
        ),
        get("held no more", "configmaps/held"),
        post("created anew", "configmaps", config_map("one", &json!({}))),
    ]
}

/// What is owned goes with its owner.
fn garbage() -> Vec<Step> {
    let owned = |owner: &str, uid: &str| json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid}]}});
    let gone = |name, path| Step {
        wait: Wait::UntilGone,
        ..get(name, path)
    };
    vec![
        post("owner", "configmaps", config_map("owner", &json!({}))),
        post(
            "owned",
            "configmaps",
            config_map("owned", &owned("owner", "$uid.owner$")),
        ),
        delete(
            "of the owner",
            "configmaps/owner",
            json!({"propagationPolicy": "Background"}),
        ),
        gone("owned is collected", "configmaps/owned"),
        post(
            "owned by what is gone",
            "configmaps",
            config_map("late", &owned("owner", "$uid.owner$")),
        ),
        gone("late is collected", "configmaps/late"),
    ]
}

/// Defaults, pruning and generations of a CRD.
fn own_kinds() -> Vec<Step> {
    vec![
        post(
            "agent",
            "agents",
            json!({
                "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Agent", "metadata": {"name": "one"},
                "spec": {"command": ["work"], "nonsense": 1},
            }),
        ),
        patch(
            "agent's labels",
            "agents/one",
            json!({"metadata": {"labels": {"color": "red"}}}),
        ),
        patch(
            "agent's spec",
            "agents/one",
            json!({"spec": {"description": "It works.", "nonsense": 2}}),
        ),
        patch(
            "agent's spec unchanged",
            "agents/one",
            json!({"spec": {"description": "It works."}}),
        ),
        patch(
            "agent's generation",
            "agents/one",
            json!({"metadata": {"generation": 77}}),
        ),
        delete("of the agent", "agents/one", Value::Null),
        post(
            "unknown kind",
            "wonders",
            json!({"apiVersion": "v1", "kind": "Wonder", "metadata": {"name": "one"}}),
        ),
    ]
}

/// A status is written by itself. The Job is one that no controller looks at.
fn subresource() -> Vec<Step> {
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"},
        "spec": {
            "managedBy": "stagecraft.dev/conformance",
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}},
        },
        "status": {"active": 3},
    });
    vec![
        post("job", "jobs", job),
        patch(
            "status by the main door",
            "jobs/one",
            json!({"metadata": {"labels": {"color": "red"}}, "status": {"active": 2}}),
        ),
        patch("status", "jobs/one/status", json!({"status": {"active": 2}})),
        patch(
            "status unchanged",
            "jobs/one/status",
            json!({"status": {"active": 2}}),
        ),
        patch(
            "status, stale",
            "jobs/one/status",
            json!({"metadata": {"resourceVersion": "$version.job$"}, "status": {"active": 1}}),
        ),
        patch(
            "spec by the status' door",
            "jobs/one/status",
            json!({"spec": {"suspend": true}, "status": {"active": 1}}),
        ),
        patch("spec", "jobs/one", json!({"spec": {"suspend": true}})),
        delete(
            "of the job",
            "jobs/one",
            json!({"propagationPolicy": "Background"}),
        ),
        get("status of a kind without", "configmaps/one/status"),
    ]
}

/// Pods are given time to end. This one's node does not exist, so nobody else touches it.
fn pods() -> Vec<Step> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one"},
        "spec": {
            "nodeName": "no-such-node", "terminationGracePeriodSeconds": 45, "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "main", "image": "none",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    vec![
        post("pod", "pods", pod),
        delete("of the pod", "pods/one", Value::Null),
        get("pod on its way out", "pods/one"),
        delete("of the pod at once", "pods/one", json!({"gracePeriodSeconds": 0})),
        get("pod gone", "pods/one"),
    ]
}

/// Changes from a revision on, as whoever selects by label sees them.
fn watches() -> Vec<Step> {
    let watch = |name, path, count| Step {
        wait: Wait::Lines(count),
        ..get(name, path)
    };
    vec![
        post(
            "watched",
            "configmaps",
            config_map("watched", &json!({"metadata": {"labels": {"shape": "round"}}})),
        ),
        patch(
            "watched changed",
            "configmaps/watched",
            json!({"data": {"a": "2"}}),
        ),
        patch(
            "out of sight",
            "configmaps/watched",
            json!({"metadata": {"labels": {"shape": "square"}}}),
        ),
        patch(
            "changed unseen",
            "configmaps/watched",
            json!({"data": {"a": "3"}}),
        ),
        patch(
            "in sight again",
            "configmaps/watched",
            json!({"metadata": {"labels": {"shape": "round"}}}),
        ),
        delete("of the watched", "configmaps/watched", Value::Null),
        watch(
            "from its creation",
            "configmaps?watch=true&timeoutSeconds=5&labelSelector=shape%3Dround&resourceVersion=$version.watched$",
            4,
        ),
        watch(
            "from before the past",
            "configmaps?watch=true&timeoutSeconds=5&resourceVersion=1",
            1,
        ),
    ]
}
