//! The last state that this operator wrote of each Workflow: it never acts on an older one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use stagecraft_api::Workflow;

/// By UID, what the API server answered to the last write. An entry goes as soon as the watch has caught up.
#[derive(Debug, Default)]
pub struct Written {
    by_uid: Mutex<HashMap<String, Arc<Workflow>>>,
}

impl Written {
    /// The newer of the watched object and the last write.
    pub fn latest(&self, watched: Arc<Workflow>) -> Arc<Workflow> {
        let Some(uid) = watched.uid() else { return watched };
        let mut by_uid = self.by_uid.lock().unwrap_or_else(PoisonError::into_inner);
        match by_uid.get(&uid) {
            Some(written) if version(written) > version(&watched) => written.clone(),
            Some(_) => {
                by_uid.remove(&uid);
                watched
            }
            None => watched,
        }
    }

    pub fn remember(&self, workflow: Arc<Workflow>) {
        if let Some(uid) = workflow.uid() {
            self.by_uid
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(uid, workflow);
        }
    }

    pub fn forget(&self, uid: &str) {
        self.by_uid
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

/// Resource versions of one kind are integers that grow (guaranteed since Kubernetes 1.35, true in every release before).
pub fn version(workflow: &Workflow) -> u64 {
    workflow
        .resource_version()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workflow(version: &str) -> Arc<Workflow> {
        let value = json!({
            "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
            "metadata": {"name": "flow", "uid": "uid", "resourceVersion": version}, "spec": {}
        });
        Arc::new(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_stale_watch_never_hides_the_last_write() {
        let written = Written::default();
        written.remember(workflow("10"));
        assert_eq!(written.latest(workflow("9")).resource_version().unwrap(), "10");
        assert_eq!(written.latest(workflow("11")).resource_version().unwrap(), "11");
        assert_eq!(
            written.latest(workflow("9")).resource_version().unwrap(),
            "9",
            "the entry was kept too long"
        );
    }
}
