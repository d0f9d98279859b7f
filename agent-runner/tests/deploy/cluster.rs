//! A mock API server: objects with versions, conflicts, lists, watches, and a Deployment controller that does what the
//! image is known for.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use futures::StreamExt as _;
use kube::client::Body as ClientBody;
use serde_json::{Value, json};
use tokio::sync::watch;

pub const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/team/deployments/shop";
pub const SERVICE: &str = "/api/v1/namespaces/team/services/shop";

/// What becomes of the Pods of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Good,
    /// Runs, but answers its probe with 404.
    Unwell,
    NotPulled,
    Crashes,
    /// No node takes the Pods.
    Homeless,
}

type Meanwhile = Box<dyn FnOnce(&mut State) + Send>;

#[derive(Default)]
pub struct State {
    pub objects: BTreeMap<String, Value>,
    behaviours: HashMap<String, Behaviour>,
    version: u64,
    /// Every change: version, path, kind of event, object.
    history: Vec<(u64, String, &'static str, Value)>,
    /// Methods and paths of everything that was written.
    pub writes: Vec<String>,
    /// Happens right before the next write to the Deployment.
    pub meanwhile: Option<Meanwhile>,
}

pub struct Cluster {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Cluster {
    pub fn new(behaviours: &[(&str, Behaviour)]) -> Arc<Self> {
        let behaviours = behaviours
            .iter()
            .map(|(image, behaviour)| ((*image).to_owned(), *behaviour));
        Arc::new(Self {
            state: Mutex::new(State {
                behaviours: behaviours.collect(),
                ..State::default()
            }),
            changed: watch::Sender::new(0),
        })
    }

    pub fn client(self: &Arc<Self>) -> kube::Client {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: Request<ClientBody>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        kube::Client::new(service, "team")
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Changes objects from outside.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let version = {
            let mut state = self.state();
            change(&mut state);
            state.version
        };
        self.changed.send_replace(version);
    }

    pub fn object(&self, path: &str) -> Option<Value> {
        self.state().objects.get(path).cloned()
    }

    pub fn deployment(&self) -> Value {
        self.object(DEPLOYMENT).expect("there is no Deployment")
    }

    pub fn image(&self) -> String {
        let deployment = self.deployment();
        let image = deployment
            .pointer("/spec/template/spec/containers/0/image")
            .unwrap();
        image.as_str().unwrap().to_owned()
    }

    async fn answer(self: Arc<Self>, request: Request<ClientBody>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query: HashMap<String, String> = parts.uri.query().map(pairs).unwrap_or_default();
        let body = body.collect_bytes().await.unwrap();
        if path == "/version" {
            return reply(
                200,
                &json!({"major": "1", "minor": "33", "gitVersion": "", "gitCommit": "", "gitTreeState": "",
                    "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
            );
        }
        if query.get("watch").is_some_and(|watch| watch == "true") {
            return self.watch(&path, &query);
        }
        let response = self.state().handle(parts.method.as_str(), &path, &query, &body);
        let version = self.state().version;
        self.changed.send_replace(version);
        response
    }

    fn watch(self: Arc<Self>, path: &str, query: &HashMap<String, String>) -> Response<Body> {
        let since: u64 = query["resourceVersion"].parse().unwrap();
        let (prefix, query) = (format!("{path}/"), query.clone());
        let changes = self.changed.subscribe();
        let events = futures::stream::unfold((since, changes, self), move |(since, mut changes, cluster)| {
            let (prefix, query) = (prefix.clone(), query.clone());
            async move {
                loop {
                    changes.borrow_and_update();
                    let (upto, lines) = cluster.state().events(since, &prefix, &query);
                    if !lines.is_empty() {
                        return Some((Ok::<_, Infallible>(Bytes::from(lines)), (upto, changes, cluster)));
                    }
                    changes.changed().await.ok()?;
                }
            }
        });
        Response::builder()
            .body(Body::from_stream(events.boxed()))
            .unwrap()
    }
}

impl State {
    fn handle(
        &mut self,
        method: &str,
        path: &str,
        query: &HashMap<String, String>,
        body: &[u8],
    ) -> Response<Body> {
        let is_deployment = path.starts_with("/apis/apps/v1/namespaces/team/deployments");
        if method != "GET" {
            self.writes.push(format!("{method} {path}"));
            if is_deployment && let Some(meanwhile) = self.meanwhile.take() {
                meanwhile(self);
            }
        }
        let sent: Value = serde_json::from_slice(body).unwrap_or_default();
        match method {
            "POST" => {
                let path = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap());
                if self.objects.contains_key(&path) {
                    return failure(409, "AlreadyExists");
                }
                reply(201, &self.put(&path, sent))
            }
            "PATCH" => self.apply(path, &sent),
            "DELETE" => self.delete(path, &sent),
            _ if path.ends_with("/log") => Response::new(Body::from("it began\nit ended badly\n")),
            _ => match self.objects.get(path) {
                Some(object) => reply(200, object),
                None if path.ends_with("/shop") => failure(404, "NotFound"),
                None => self.list(path, query),
            },
        }
    }

    fn apply(&mut self, path: &str, sent: &Value) -> Response<Body> {
        let Some(live) = self.objects.get(path) else {
            return failure(404, "NotFound");
        };
        if sent["metadata"]["resourceVersion"] != live["metadata"]["resourceVersion"] {
            return failure(409, "Conflict");
        }
        let mut object = live.clone();
        // What the manager applied before and leaves out now is removed.
        if let Some(annotations) = object["metadata"]["annotations"]
            .as_object_mut()
            .filter(|_| path == DEPLOYMENT)
        {
            let kept = |name: &str| sent["metadata"]["annotations"].get(name).is_some();
            annotations.retain(|name, _| !name.starts_with("stagecraft.dev/") || kept(name));
        }
        merge(&mut object, sent);
        reply(200, &self.put(path, object))
    }

    fn delete(&mut self, path: &str, options: &Value) -> Response<Body> {
        let Some(live) = self.objects.get(path) else {
            return failure(404, "NotFound");
        };
        for field in ["uid", "resourceVersion"] {
            let wanted = &options["preconditions"][field];
            if !wanted.is_null() && *wanted != live["metadata"][field] {
                return failure(409, "Conflict");
            }
        }
        let gone = live.clone();
        self.remove(path);
        reply(200, &gone)
    }

    pub fn remove(&mut self, path: &str) {
        self.version += 1;
        let gone = self.objects.remove(path).unwrap();
        self.history
            .push((self.version, path.to_owned(), "DELETED", gone));
    }

    /// Stores an object as the API server does, and lets the controllers work.
    pub fn put(&mut self, path: &str, mut object: Value) -> Value {
        let before = self.objects.get(path).cloned();
        self.version += 1;
        let same_spec = before
            .as_ref()
            .is_some_and(|before| before["spec"] == object["spec"]);
        let generation = before.as_ref().map_or(1, |before| {
            before["metadata"]["generation"].as_u64().unwrap() + u64::from(!same_spec)
        });
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.insert("namespace".into(), json!("team"));
        metadata.insert("generation".into(), json!(generation));
        metadata.insert("resourceVersion".into(), json!(self.version.to_string()));
        metadata
            .entry("uid")
            .or_insert_with(|| json!(format!("uid-{path}")));
        if path == SERVICE {
            object["spec"]["clusterIP"] = json!("127.0.0.1");
        }
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(path.to_owned(), object.clone());
        self.history
            .push((self.version, path.to_owned(), kind, object.clone()));
        if path == DEPLOYMENT && !(same_spec && before.is_some()) {
            self.control(&object);
        }
        object
    }

    /// Makes Pods of the new release only, and says in the status how they are.
    fn control(&mut self, deployment: &Value) {
        let pods: Vec<String> = self
            .objects
            .keys()
            .filter(|path| path.contains("/pods/"))
            .cloned()
            .collect();
        for path in &pods {
            self.remove(path);
        }
        let image = deployment
            .pointer("/spec/template/spec/containers/0/image")
            .unwrap();
        let behaviour = self.behaviours[image.as_str().unwrap()];
        let (generation, wanted) = (
            &deployment["metadata"]["generation"],
            &deployment["spec"]["replicas"],
        );
        let available = if behaviour == Behaviour::Good {
            wanted.clone()
        } else {
            json!(0)
        };
        let name = format!("shop-{generation}");
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": deployment["spec"]["template"]["metadata"]["labels"]},
            "spec": {"containers": []}, "status": pod_status(behaviour)});
        self.put(&format!("/api/v1/namespaces/team/pods/{name}"), pod);
        let event = json!({"type": "Warning", "reason": "Unhealthy", "message": "probe failed with 404",
            "metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": name},
            "lastTimestamp": "2026-11-01T10:00:00Z"});
        self.put(&format!("/api/v1/namespaces/team/events/{name}"), event);
        let mut seen = deployment.clone();
        seen["status"] = json!({"observedGeneration": generation, "replicas": wanted, "updatedReplicas": wanted,
            "availableReplicas": available});
        seen["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = generation.to_string().into();
        self.put(DEPLOYMENT, seen);
    }

    fn list(&self, path: &str, query: &HashMap<String, String>) -> Response<Body> {
        let prefix = format!("{path}/");
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|(path, object)| path.starts_with(&prefix) && selected(object, query))
            .map(|(_, object)| object)
            .collect();
        reply(
            200,
            &json!({"apiVersion": "v1", "kind": "List", "items": items,
                "metadata": {"resourceVersion": self.version.to_string()}}),
        )
    }

    /// Lines of a watch, and the version up to which they go.
    fn events(&self, since: u64, prefix: &str, query: &HashMap<String, String>) -> (u64, String) {
        let lines = self
            .history
            .iter()
            .filter(|(version, path, _, object)| {
                *version > since && path.starts_with(prefix) && selected(object, query)
            })
            .map(|(_, _, kind, object)| format!("{}\n", json!({"type": kind, "object": object})));
        (self.version, lines.collect())
    }
}

fn pod_status(behaviour: Behaviour) -> Value {
    let ready = if behaviour == Behaviour::Good {
        "True"
    } else {
        "False"
    };
    let container = |state: Value, restarts: u32| {
        json!([{"name": "web", "image": "", "imageID": "", "ready": ready == "True", "restartCount": restarts,
            "state": state, "lastState": {"terminated": {"exitCode": 7, "reason": "Error"}}}])
    };
    let statuses = match behaviour {
        Behaviour::Good | Behaviour::Unwell => container(json!({"running": {}}), 0),
        Behaviour::NotPulled => container(
            json!({"waiting": {"reason": "ErrImagePull", "message": "no route to the registry"}}),
            0,
        ),
        Behaviour::Crashes => container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 3),
        Behaviour::Homeless => json!([]),
    };
    let scheduled = if behaviour == Behaviour::Homeless {
        "False"
    } else {
        "True"
    };
    json!({"containerStatuses": statuses, "conditions": [
        {"type": "Ready", "status": ready},
        {"type": "PodScheduled", "status": scheduled, "message": "0/1 nodes are available"},
    ]})
}

fn selected(object: &Value, query: &HashMap<String, String>) -> bool {
    let selectors = |name: &str| -> Vec<(String, String)> {
        let text = query.get(name).map(String::as_str).unwrap_or_default();
        text.split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let labelled = selectors("labelSelector")
        .iter()
        .all(|(key, value)| object["metadata"]["labels"][key] == value.as_str());
    let fielded = selectors("fieldSelector").iter().all(|(key, value)| {
        let pointer = format!("/{}", key.replace('.', "/"));
        object
            .pointer(&pointer)
            .is_some_and(|field| field == value.as_str())
    });
    labelled && fielded
}

fn pairs(query: &str) -> HashMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://x/?{query}")).unwrap();
    url.query_pairs().into_owned().collect()
}

/// What a server-side apply by the only manager comes to where nothing is left out.
fn merge(live: &mut Value, sent: &Value) {
    match (live, sent) {
        (Value::Object(live), Value::Object(sent)) => {
            for (key, value) in sent {
                merge(live.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (live, sent) => *live = sent.clone(),
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
