//! Creation, change and deletion.

use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::Answer;
use super::object::{self, Key, Stored, text_at};
use super::watch::ChangeKind;
use super::{ApiServer, schema};

/// What a deletion asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deletion {
    /// What must be found.
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    /// Seconds that a Pod is given; the Pod's own when absent.
    pub grace: Option<i64>,
}

impl ApiServer {
    pub fn create(&self, mut key: Key, mut value: Value) -> Result<Arc<Stored>, Answer> {
        let resource = key.resource;
        let given = text_at(&value, "metadata.name").to_owned();
        let prefix = text_at(&value, "metadata.generateName").to_owned();
        let mut state = self.state();
        key.name = match (given.is_empty(), prefix.is_empty()) {
            (false, _) => given,
            (true, false) => format!("{prefix}{:05x}", state.uids.below(1 << 20)),
            (true, true) => {
                let message = "metadata.name: Required value: name or generateName is required";
                return Err(Answer::invalid(resource, "", message));
            }
        };
        if state.objects.contains_key(&key) {
            return Err(Answer::already_exists(&key));
        }
        if !text_at(&value, "metadata.resourceVersion").is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Answer::new(500, "", message));
        }
        let (high, low) = (state.uids.next(), state.uids.next());
        let uid = format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        );
        let created = (self.now)()
            .timestamp()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let metadata = object::metadata(&mut value);
        metadata.insert("name".to_owned(), json!(key.name));
        metadata.insert("namespace".to_owned(), json!(key.namespace));
        metadata.insert("uid".to_owned(), json!(uid));
        metadata.insert("creationTimestamp".to_owned(), json!(created));
        for unset in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
            "managedFields",
        ] {
            metadata.remove(unset);
        }
        if resource.counts_generations() {
            object::set(&mut value, "generation", json!(1));
        }
        if resource.has_status
            && let Some(object) = value.as_object_mut()
        {
            object.remove("status");
            if resource.schema.is_none() {
                object.insert("status".to_owned(), json!({}));
            }
        }
        if let Some(schema) = &resource.schema {
            fit(&mut value, schema);
        }
        let stored = state.commit(&key, value, ChangeKind::Added);
        drop(state);
        self.changed.notify_waiters();
        Ok(stored)
    }

    /// Changes an object by `change`, which is handed the current one. With `status`, only the status is taken from what it makes; without,
    /// all but the status.
    pub fn update(
        &self,
        key: &Key,
        status: bool,
        change: impl FnOnce(&mut Value),
    ) -> Result<Arc<Stored>, Answer> {
        let mut state = self.state();
        let current = state
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| Answer::not_found(key))?;
        let mut wanted = current.value.clone();
        change(&mut wanted);
        let version = text_at(&wanted, "metadata.resourceVersion");
        if !version.is_empty() && version != current.text_at("metadata.resourceVersion") {
            return Err(Answer::modified(key));
        }
        let uid = text_at(&wanted, "metadata.uid");
        if !uid.is_empty() && uid != current.uid() {
            let message = "metadata.uid: Invalid value: field is immutable";
            return Err(Answer::invalid(key.resource, &key.name, message));
        }
        let next = merged(&current.value, wanted, key, status);
        if next == current.value {
            return Ok(current);
        }
        if is_immutable(&current.value) && next.get("data") != current.value.get("data") {
            let message = "data: Forbidden: field is immutable when `immutable` is set";
            return Err(Answer::invalid(key.resource, &key.name, message));
        }
        // The last finalizer of an object that is on its way out was taken away.
        let gone = !text_at(&next, "metadata.deletionTimestamp").is_empty()
            && object::finalizers(&next) == 0
            && object::finalizers(&current.value) > 0;
        let stored = if gone {
            let sent = Arc::new(Stored::new(next.clone(), current.revision));
            state.commit(key, next, ChangeKind::Deleted);
            sent
        } else {
            state.commit(key, next, ChangeKind::Modified)
        };
        drop(state);
        self.changed.notify_waiters();
        Ok(stored)
    }

    /// The object, and whether it is gone already.
    pub fn delete(&self, key: &Key, deletion: &Deletion) -> Result<(Arc<Stored>, bool), Answer> {
        let mut state = self.state();
        let current = state
            .objects
            .get(key)
            .cloned()
            .ok_or_else(|| Answer::not_found(key))?;
        if let Some(uid) = deletion.uid.as_deref().filter(|uid| *uid != current.uid()) {
            return Err(Answer::precondition(key, "UID", uid, current.uid()));
        }
        let version = current.text_at("metadata.resourceVersion");
        if let Some(wanted) = deletion
            .resource_version
            .as_deref()
            .filter(|wanted| *wanted != version)
        {
            return Err(Answer::precondition(key, "ResourceVersion", wanted, version));
        }
        let grace = if key.resource.is_graceful {
            let own = current.value.pointer("/spec/terminationGracePeriodSeconds");
            let own = own.and_then(Value::as_i64).unwrap_or(30);
            deletion.grace.unwrap_or(own)
        } else {
            0
        };
        let waits = object::finalizers(&current.value) > 0 || grace > 0;
        if waits && current.is_deleting() && (grace > 0 || object::finalizers(&current.value) > 0) {
            return Ok((current, false));
        }
        let mut value = current.value.clone();
        if waits || key.resource.is_graceful {
            let until = (self.now)().plus_seconds(u64::try_from(grace).unwrap_or(0));
            let until = until.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let metadata = object::metadata(&mut value);
            if key.resource.counts_generations() && !current.is_deleting() {
                let generation = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0) + 1;
                metadata.insert("generation".to_owned(), json!(generation));
            }
            metadata.insert("deletionTimestamp".to_owned(), json!(until));
            metadata.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
        }
        let kind = if waits {
            ChangeKind::Modified
        } else {
            ChangeKind::Deleted
        };
        let stored = state.commit(key, value, kind);
        drop(state);
        self.changed.notify_waiters();
        Ok((stored, !waits))
    }
}

/// Fits everything but the metadata to the schema, which knows nothing of that.
fn fit(value: &mut Value, of: &Value) {
    for part in ["spec", "status"] {
        let of_part = of.get("properties").and_then(|properties| properties.get(part));
        if let (Some(value), Some(of_part)) = (value.get_mut(part), of_part) {
            schema::fit(value, of_part);
        }
    }
}

/// What a write makes of an object.
fn merged(current: &Value, wanted: Value, key: &Key, status: bool) -> Value {
    let (mut next, new_status) = if status {
        (current.clone(), wanted.get("status").cloned())
    } else {
        (wanted, current.get("status").cloned())
    };
    if key.resource.has_status
        && let Some(object) = next.as_object_mut()
    {
        match new_status {
            Some(status) => object.insert("status".to_owned(), status),
            None => object.remove("status"),
        };
    }
    if let Some(schema) = &key.resource.schema {
        fit(&mut next, schema);
    }
    // What nobody may change.
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        match current.get("metadata").and_then(|metadata| metadata.get(field)) {
            Some(value) => object::set(&mut next, field, value.clone()),
            None => drop(object::metadata(&mut next).remove(field)),
        }
    }
    if key.resource.counts_generations() && !status && next.get("spec") != current.get("spec") {
        let generation = current
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        object::set(&mut next, "generation", json!(generation + 1));
    }
    next
}

fn is_immutable(value: &Value) -> bool {
    value.get("immutable").and_then(Value::as_bool).unwrap_or(false)
}
