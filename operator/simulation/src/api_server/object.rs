use bytes::Bytes;
use serde_json::{Map, Value};

use super::resource::{Resource, by_plural};

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub resource: &'static Resource,
    pub namespace: String,
    pub name: String,
}

impl Key {
    /// None: there is no such kind.
    pub fn of(plural: &str, namespace: &str, name: &str) -> Option<Self> {
        Some(Self::new(by_plural(plural)?, namespace, name))
    }

    pub fn new(resource: &'static Resource, namespace: &str, name: &str) -> Self {
        Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// One version of an object.
#[derive(Debug)]
pub struct Stored {
    pub value: Value,
    /// The same as it is sent.
    pub text: Bytes,
    pub revision: u64,
}

impl Stored {
    /// As it is sent under a revision.
    pub fn new(mut value: Value, revision: u64) -> Self {
        set(&mut value, "resourceVersion", Value::String(revision.to_string()));
        let text = Bytes::from(serde_json::to_vec(&value).unwrap_or_default());
        Self {
            value,
            text,
            revision,
        }
    }

    /// A field by its dotted path; the empty string when it is absent.
    pub fn text_at(&self, path: &str) -> &str {
        text_at(&self.value, path)
    }

    pub fn uid(&self) -> &str {
        self.text_at("metadata.uid")
    }

    pub fn name(&self) -> &str {
        self.text_at("metadata.name")
    }

    pub fn namespace(&self) -> &str {
        self.text_at("metadata.namespace")
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.value.get("metadata")?.get("labels")?.get(name)?.as_str()
    }

    pub fn is_deleting(&self) -> bool {
        !self.text_at("metadata.deletionTimestamp").is_empty()
    }

    /// UIDs of its owners.
    pub fn owners(&self) -> Vec<&str> {
        let owners = self
            .value
            .pointer("/metadata/ownerReferences")
            .and_then(Value::as_array);
        let uids = owners
            .into_iter()
            .flatten()
            .filter_map(|owner| owner.get("uid")?.as_str());
        uids.collect()
    }

    pub fn decode<K: serde::de::DeserializeOwned>(&self) -> Option<K> {
        serde_json::from_slice(&self.text).ok()
    }
}

pub fn text_at<'a>(value: &'a Value, path: &str) -> &'a str {
    let found = path.split('.').try_fold(value, |value, step| value.get(step));
    found.and_then(Value::as_str).unwrap_or_default()
}

/// Its metadata, made if need be.
pub fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(object) = value else {
        unreachable!("it was made one");
    };
    let metadata = object
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    let Value::Object(metadata) = metadata else {
        unreachable!("it was made one");
    };
    metadata
}

/// Sets a field of its metadata.
pub fn set(value: &mut Value, field: &str, to: Value) {
    metadata(value).insert(field.to_owned(), to);
}

pub fn finalizers(value: &Value) -> usize {
    let finalizers = value.pointer("/metadata/finalizers").and_then(Value::as_array);
    finalizers.map_or(0, Vec::len)
}
