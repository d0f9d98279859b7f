//! Requests that the API server in memory has to answer as the real one does. Run against both, the answers are compared step by step;
//! what no two servers have in common (UIDs, versions, times, defaults of built-in kinds) is named by the order in which it appears, or
//! left out.

mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use futures::{AsyncBufReadExt as _, StreamExt as _};
use http::Request;
use kube::Client;
use serde_json::{Value, json};

use self::table::{Step, Wait, steps};

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
