//! YAML files of Kubernetes objects.

use std::path::Path;

use anyhow::{Context as _, ensure};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt as _};
use serde::Deserialize as _;

/// Reads every document of a file.
pub fn read(file: &Path) -> anyhow::Result<Vec<DynamicObject>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    parse(&text).with_context(|| format!("{} is not a file of Kubernetes objects", file.display()))
}

/// Reads every document of a text; those that are empty are passed over.
pub fn parse(text: &str) -> anyhow::Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_yaml::Value::deserialize(document)?;
        if !value.is_null() {
            let object: DynamicObject = serde_yaml::from_value(value)?;
            ensure!(
                object.types.is_some() && object.metadata.name.is_some(),
                "each object needs apiVersion, kind and metadata.name"
            );
            objects.push(object);
        }
    }
    ensure!(!objects.is_empty(), "there is no object in it");
    Ok(objects)
}

/// Applies one object on the server's side, in `namespace` unless it names its own.
pub async fn apply(
    client: &Client,
    manager: &str,
    namespace: &str,
    object: &DynamicObject,
) -> anyhow::Result<DynamicObject> {
    let types = object.types.clone().unwrap_or_default();
    let name = object.name_any();
    let kind = GroupVersionKind::try_from(&types)?;
    let (resource, capabilities) = discovery::pinned_kind(client, &kind)
        .await
        .with_context(|| format!("the cluster does not know {} {}", types.api_version, types.kind))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => {
            let own = object.namespace();
            Api::namespaced_with(client.clone(), own.as_deref().unwrap_or(namespace), &resource)
        }
    };
    let parameters = PatchParams::apply(manager).force();
    api.patch(&name, &parameters, &Patch::Apply(object))
        .await
        .with_context(|| format!("{} {name} was not applied", types.kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_document_of_a_file_is_read() {
        let text = "---\napiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n# nothing\n---\napiVersion: v1\nkind: B\nmetadata: {name: b}\n";
        let names: Vec<String> = parse(text)
            .unwrap()
            .iter()
            .map(kube::ResourceExt::name_any)
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        assert!(parse("apiVersion: v1\nkind: A\nmetadata: {}\n").is_err());
        assert!(parse("").is_err());
    }
}
