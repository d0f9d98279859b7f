//! The server's HTTP interface: paths, verbs and media types to what they mean.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use super::ApiServer;
use super::answer::Answer;
use super::object::{Key, Stored};
use super::resource::{self, Resource};
use super::watch::{Changes, Selection, error_line};
use super::write::Deletion;

/// What is sent back.
pub enum Outcome {
    Reply {
        code: u16,
        body: Bytes,
    },
    /// Lines until the time is over; then a bookmark, when it was asked for.
    Watch {
        resource: &'static Resource,
        changes: Changes,
        time: Duration,
        bookmarks: bool,
    },
}

/// A request taken apart.
pub struct Call {
    pub method: Method,
    pub resource: &'static Resource,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    query: BTreeMap<String, String>,
    content_type: String,
    accept: String,
}

impl Call {
    pub fn parse(head: &http::request::Parts) -> Result<Self, Answer> {
        let steps: Vec<&str> = head.uri.path().trim_matches('/').split('/').collect();
        let unknown = || {
            Answer::new(
                404,
                "NotFound",
                "the server could not find the requested resource",
            )
        };
        let (group, version, rest) = match steps.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(unknown()),
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            rest => (None, rest),
        };
        let (plural, name, subresource) = match rest {
            [plural] => (*plural, None, None),
            [plural, name] => (*plural, Some(*name), None),
            [plural, name, subresource] => (*plural, Some(*name), Some(*subresource)),
            _ => return Err(unknown()),
        };
        let resource = resource::find(group, version, plural).ok_or_else(unknown)?;
        if subresource.is_some_and(|subresource| subresource != "status" || !resource.has_status) {
            return Err(unknown());
        }
        let header = |name| {
            head.headers
                .get(name)
                .and_then(|value: &http::HeaderValue| value.to_str().ok())
        };
        let query = head.uri.query().unwrap_or_default();
        Ok(Self {
            method: head.method.clone(),
            resource,
            namespace,
            name: name.map(str::to_owned),
            subresource: subresource.map(str::to_owned),
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            content_type: header("content-type").unwrap_or_default().to_owned(),
            accept: header("accept").unwrap_or_default().to_owned(),
        })
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// Whether it asks to be told of changes.
    pub fn is_watch(&self) -> bool {
        self.method == Method::GET && matches!(self.parameter("watch"), "true" | "1")
    }

    fn selection(&self) -> Selection {
        let (labels, fields) = (self.parameter("labelSelector"), self.parameter("fieldSelector"));
        Selection::parse(self.namespace.clone(), labels, fields)
    }

    fn key(&self) -> Key {
        let (namespace, name) = (self.namespace.as_deref(), self.name.as_deref());
        Key::new(
            self.resource,
            namespace.unwrap_or_default(),
            name.unwrap_or_default(),
        )
    }

    pub fn is_status(&self) -> bool {
        self.subresource.is_some()
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.as_deref().unwrap_or_default();
        let status = if self.is_status() { "/status" } else { "" };
        write!(
            formatter,
            "{} {}/{name}{status}",
            self.method, self.resource.plural
        )
    }
}

impl ApiServer {
    /// Does what a request asks for.
    pub fn serve(self: &Arc<Self>, call: &Call, body: &[u8]) -> Outcome {
        match self.answer(call, body) {
            Ok(outcome) => outcome,
            Err(answer) => Outcome::Reply {
                code: answer.code,
                body: Bytes::from(answer.status().to_string()),
            },
        }
    }

    fn answer(self: &Arc<Self>, call: &Call, body: &[u8]) -> Result<Outcome, Answer> {
        let named = call.name.is_some();
        match (&call.method, named) {
            (&Method::GET, true) => {
                let key = call.key();
                let found = self.state().objects.get(&key).cloned();
                let found = found.ok_or_else(|| Answer::not_found(&key))?;
                Ok(reply(200, &found))
            }
            (&Method::GET, false) if call.is_watch() => Ok(self.start_watch(call)),
            (&Method::GET, false) => Ok(self.list(call)),
            (&Method::POST, false) => {
                let created = self.create(call.key(), decode_body(body)?)?;
                Ok(reply(201, &created))
            }
            (&Method::PUT, true) => {
                let wanted = decode_body(body)?;
                let stored = self.update(&call.key(), call.is_status(), |current| *current = wanted)?;
                Ok(reply(200, &stored))
            }
            (&Method::PATCH, true) => self.patch(call, body),
            (&Method::DELETE, true) => {
                let (stored, gone) = self.delete(&call.key(), &deletion(body)?)?;
                Ok(if gone && !call.resource.is_graceful {
                    deleted(call, &stored)
                } else {
                    reply(200, &stored)
                })
            }
            (&Method::DELETE, false) => self.delete_all(call, body),
            _ => Err(Answer::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    fn patch(self: &Arc<Self>, call: &Call, body: &[u8]) -> Result<Outcome, Answer> {
        let patch = decode_body(body)?;
        let key = call.key();
        match call.content_type.as_str() {
            "application/merge-patch+json" => {
                let stored = self.update(&key, call.is_status(), |current| {
                    json_patch::merge(current, &patch);
                })?;
                Ok(reply(200, &stored))
            }
            // All fields by one manager, with force: what is absent from it stays.
            "application/apply-patch+yaml" => {
                if self.state().objects.contains_key(&key) {
                    let stored = self.update(&key, call.is_status(), |current| {
                        json_patch::merge(current, &patch);
                    })?;
                    Ok(reply(200, &stored))
                } else {
                    let created = self.create(key, patch)?;
                    Ok(reply(201, &created))
                }
            }
            other => Err(Answer::new(
                415,
                "UnsupportedMediaType",
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {other} is none of them"
                ),
            )),
        }
    }

    fn list(self: &Arc<Self>, call: &Call) -> Outcome {
        let selection = call.selection();
        let state = self.state();
        let found = state
            .objects
            .iter()
            .filter(|(key, object)| *key.resource == *call.resource && selection.takes(object));
        let only_metadata = call.accept.contains("as=PartialObjectMetadataList");
        let items: Vec<Bytes> = found
            .map(|(_, object)| {
                if only_metadata {
                    let item = json!({
                        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                        "metadata": object.value.get("metadata"),
                    });
                    Bytes::from(item.to_string())
                } else {
                    listed(object)
                }
            })
            .collect();
        let (kind, version) = if only_metadata {
            (
                "PartialObjectMetadataList".to_owned(),
                "meta.k8s.io/v1".to_owned(),
            )
        } else {
            (format!("{}List", call.resource.kind), call.resource.api_version())
        };
        let head = format!(
            "{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":{{\"resourceVersion\":\"{}\"}},\"items\":[",
            state.revision
        );
        let body = [head.as_bytes(), &items.join(&b","[..]), b"]}"].concat();
        Outcome::Reply {
            code: 200,
            body: Bytes::from(body),
        }
    }

    fn start_watch(self: &Arc<Self>, call: &Call) -> Outcome {
        let from = call.parameter("resourceVersion").parse().unwrap_or(0);
        let seconds = call.parameter("timeoutSeconds").parse().unwrap_or(300);
        let changes = match self.watch(call.resource, call.selection(), from) {
            Ok(changes) => changes,
            // A watch that cannot begin says so in its first line.
            Err(answer) => {
                return Outcome::Reply {
                    code: 200,
                    body: error_line(&answer),
                };
            }
        };
        Outcome::Watch {
            resource: call.resource,
            changes,
            time: Duration::from_secs(seconds),
            bookmarks: call.parameter("allowWatchBookmarks") == "true",
        }
    }

    fn delete_all(self: &Arc<Self>, call: &Call, body: &[u8]) -> Result<Outcome, Answer> {
        let (selection, deletion) = (call.selection(), deletion(body)?);
        let found: Vec<Key> = {
            let state = self.state();
            let found = state
                .objects
                .iter()
                .filter(|(key, object)| *key.resource == *call.resource && selection.takes(object));
            found.map(|(key, _)| key.clone()).collect()
        };
        for key in &found {
            self.delete(key, &deletion)?;
        }
        let list = json!({
            "kind": format!("{}List", call.resource.kind), "apiVersion": call.resource.api_version(),
            "metadata": {"resourceVersion": self.revision().to_string()}, "items": [],
        });
        Ok(Outcome::Reply {
            code: 200,
            body: Bytes::from(list.to_string()),
        })
    }
}

fn reply(code: u16, stored: &Stored) -> Outcome {
    Outcome::Reply {
        code,
        body: stored.text.clone(),
    }
}

/// Items of a built-in kind do not say again what they are.
fn listed(object: &Stored) -> Bytes {
    if object.text_at("apiVersion").starts_with("stagecraft.dev/") {
        return object.text.clone();
    }
    let mut value = object.value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    Bytes::from(value.to_string())
}

/// What is gone is named, not sent.
fn deleted(call: &Call, stored: &Stored) -> Outcome {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": {
            "name": stored.name(), "group": call.resource.group, "kind": call.resource.plural, "uid": stored.uid(),
        },
    });
    Outcome::Reply {
        code: 200,
        body: Bytes::from(status.to_string()),
    }
}

fn decode_body(body: &[u8]) -> Result<Value, Answer> {
    serde_json::from_slice(body).map_err(|error| Answer::bad_request(format!("the body is no JSON: {error}")))
}

fn deletion(body: &[u8]) -> Result<Deletion, Answer> {
    if body.is_empty() {
        return Ok(Deletion::default());
    }
    let options = decode_body(body)?;
    let precondition = |name| {
        options
            .get("preconditions")?
            .get(name)?
            .as_str()
            .map(str::to_owned)
    };
    Ok(Deletion {
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        grace: options.get("gracePeriodSeconds").and_then(Value::as_i64),
    })
}
