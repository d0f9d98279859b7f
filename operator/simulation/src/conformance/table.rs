//! The requests.

use http::Method;
use serde_json::{Value, json};

/// One request, or one wait.
pub struct Step {
    pub name: &'static str,
    pub method: Method,
    /// After the namespace: `configmaps/one`.
    pub path: &'static str,
    pub content_type: &'static str,
    pub body: Value,
    pub wait: Wait,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    None,
    /// Asked again until the answer is 404: somebody else deletes it.
    UntilGone,
    /// This many lines of a watch.
    Lines(usize),
}

const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";

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

/// All of them, in their order.
pub fn steps() -> Vec<Step> {
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
