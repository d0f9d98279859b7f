//! Jobs and Pods by the Workflow that they belong to, kept from a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use stagecraft_api::{Workflow, label};

use crate::controller::Guarded;

/// Objects of one kind, by UID of the Workflow and then by name. Nothing here outlives its object but the names seen.
#[derive(Debug)]
pub struct Children<K> {
    state: RwLock<State<K>>,
}

#[derive(Debug)]
struct State<K> {
    by_workflow: BTreeMap<String, Family<K>>,
    /// While a new list comes in: what it held so far.
    listing: Option<BTreeSet<(String, String)>>,
}

#[derive(Debug)]
struct Family<K> {
    namespace: String,
    workflow: String,
    alive: BTreeMap<String, Arc<K>>,
    /// Names ever seen: one of them that is not alive was deleted.
    seen: BTreeSet<String>,
}

impl<K> Default for Children<K> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State {
                by_workflow: BTreeMap::new(),
                listing: None,
            }),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Children<K> {
    /// Takes a watch event in and names the Workflows that it concerns.
    pub fn observe(&self, event: &Event<K>) -> Vec<ObjectRef<Guarded>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Init => {
                state.listing = Some(BTreeSet::new());
                Vec::new()
            }
            Event::Apply(object) | Event::InitApply(object) => state.insert(object),
            Event::Delete(object) => state.remove(object),
            Event::InitDone => state.finish_listing(),
        }
    }

    /// The object of this name, whether or not it is on its way out.
    pub fn get(&self, uid: &str, name: &str) -> Option<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.by_workflow.get(uid)?.alive.get(name).cloned()
    }

    /// Whether this process has ever seen an object of this name.
    pub fn seen(&self, uid: &str, name: &str) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state
            .by_workflow
            .get(uid)
            .is_some_and(|family| family.seen.contains(name))
    }

    /// Everything of this Workflow.
    pub fn all(&self, uid: &str) -> Vec<Arc<K>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state
            .by_workflow
            .get(uid)
            .map(|family| family.alive.values().cloned().collect())
            .unwrap_or_default()
    }

    /// Takes note of an object that was just created, before the watch tells of it.
    pub fn note(&self, object: &K) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.insert(object);
    }

    /// Forgets a Workflow of which nothing is alive.
    pub fn forget(&self, uid: &str) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state
            .by_workflow
            .get(uid)
            .is_some_and(|family| family.alive.is_empty())
        {
            state.by_workflow.remove(uid);
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> State<K> {
    fn insert(&mut self, object: &K) -> Vec<ObjectRef<Guarded>> {
        let Some((uid, workflow)) = owner(object) else {
            return Vec::new();
        };
        let name = object.name_any();
        if let Some(listing) = &mut self.listing {
            listing.insert((uid.clone(), name.clone()));
        }
        let family = self.by_workflow.entry(uid).or_insert_with(|| Family {
            namespace: object.namespace().unwrap_or_default(),
            workflow,
            alive: BTreeMap::new(),
            seen: BTreeSet::new(),
        });
        family.seen.insert(name.clone());
        family.alive.insert(name, Arc::new(object.clone()));
        vec![family.reference()]
    }

    fn remove(&mut self, object: &K) -> Vec<ObjectRef<Guarded>> {
        let Some((uid, _)) = owner(object) else {
            return Vec::new();
        };
        let Some(family) = self.by_workflow.get_mut(&uid) else {
            return Vec::new();
        };
        family.alive.remove(&object.name_any());
        vec![family.reference()]
    }

    /// What the new list does not hold was deleted while nobody watched.
    fn finish_listing(&mut self) -> Vec<ObjectRef<Guarded>> {
        let Some(listing) = self.listing.take() else {
            return Vec::new();
        };
        let mut touched = Vec::new();
        for (uid, family) in &mut self.by_workflow {
            let before = family.alive.len();
            family
                .alive
                .retain(|name, _| listing.contains(&(uid.clone(), name.clone())));
            if family.alive.len() != before {
                touched.push(family.reference());
            }
        }
        touched
    }
}

impl<K> Family<K> {
    fn reference(&self) -> ObjectRef<Guarded> {
        ObjectRef::new(&self.workflow).within(&self.namespace)
    }
}

/// UID and name of the Workflow, from the labels that Stagecraft puts on what it makes.
fn owner<K: Resource>(object: &K) -> Option<(String, String)> {
    let labels = object.meta().labels.as_ref()?;
    Some((
        labels.get(label::WORKFLOW_UID)?.clone(),
        labels.get(label::WORKFLOW)?.clone(),
    ))
}

/// Selects what Stagecraft makes.
pub fn selector() -> String {
    format!(
        "{}={},{}",
        label::MANAGED_BY,
        label::MANAGED_BY_VALUE,
        label::WORKFLOW_UID
    )
}

/// Names a Workflow for the controller.
pub fn reference(workflow: &Workflow) -> ObjectRef<Guarded> {
    ObjectRef::new(&workflow.name_any()).within(&workflow.namespace().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::json;

    use super::*;

    fn job(name: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "here",
                "labels": {label::WORKFLOW_UID: "uid", label::WORKFLOW: "flow"}
            }
        }))
        .unwrap()
    }

    #[test]
    fn a_deleted_job_was_seen_but_is_not_alive() {
        let children = Children::<Job>::default();
        assert!(!children.seen("uid", "a"));
        let touched = children.observe(&Event::Apply(job("a")));
        assert_eq!(touched, vec![ObjectRef::new("flow").within("here")]);
        children.observe(&Event::Delete(job("a")));
        assert!(children.get("uid", "a").is_none());
        assert!(children.seen("uid", "a"));
    }

    #[test]
    fn what_a_new_list_lacks_was_deleted() {
        let children = Children::<Job>::default();
        children.observe(&Event::Apply(job("a")));
        children.observe(&Event::Apply(job("b")));
        children.observe(&Event::Init);
        children.observe(&Event::InitApply(job("b")));
        let touched = children.observe(&Event::InitDone);
        assert_eq!(touched.len(), 1);
        assert!(children.get("uid", "a").is_none() && children.get("uid", "b").is_some());
    }
}
