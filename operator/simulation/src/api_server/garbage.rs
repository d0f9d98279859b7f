use std::collections::BTreeSet;
use std::sync::Arc;

use super::ApiServer;
use super::object::Stored;
use super::write::Deletion;

impl ApiServer {
    /// Deletes every object all of whose owners are gone, as the garbage collector does in the background. True when there was one.
    pub fn collect_garbage(&self) -> bool {
        let orphans = {
            let state = self.state();
            let uids: BTreeSet<&str> = state.objects.values().map(|object| object.uid()).collect();
            let is_orphan = |object: &Arc<Stored>| {
                let owners = object.owners();
                !owners.is_empty()
                    && owners.iter().all(|owner| !uids.contains(owner))
                    && !object.is_deleting()
            };
            let orphans = state.objects.iter().filter(|(_, object)| is_orphan(object));
            let orphans: Vec<_> = orphans
                .map(|(key, object)| (key.clone(), object.uid().to_owned()))
                .collect();
            orphans
        };
        for (key, uid) in &orphans {
            let deletion = Deletion {
                uid: Some(uid.clone()),
                ..Deletion::default()
            };
            // Somebody else may have been quicker.
            let _ = self.delete(key, &deletion);
        }
        !orphans.is_empty()
    }
}
