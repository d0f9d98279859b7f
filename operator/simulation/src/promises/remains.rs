use std::collections::BTreeSet;

use crate::api_server::{Change, ChangeKind};
use crate::world::{HERE, World};

/// Every kind of object that belongs to a Workflow.
const OWNED: [&str; 6] = [
    "jobs",
    "pods",
    "configmaps",
    "approvals",
    "serviceaccounts",
    "rolebindings",
];

/// I8: what is left of Workflows that are gone.
pub fn left_over(world: &World, history: &[Change]) -> Vec<String> {
    let workflows = || {
        let changes = history.iter();
        changes.filter(|change| change.key.resource.kind == "Workflow")
    };
    let is_gone = |change: &&Change| change.kind == ChangeKind::Deleted;
    let gone: BTreeSet<&str> = workflows()
        .filter(is_gone)
        .map(|change| change.object.uid())
        .collect();
    let mut left = Vec::new();
    for plural in OWNED {
        for object in world.server.all(plural) {
            if object.owners().iter().any(|owner| !is_alive(world, owner)) {
                left.push(format!("I8: {plural} {} is left", object.name()));
            }
        }
    }
    let stored = world.store.workflows();
    let stored = stored.iter().filter(|uid| gone.contains(uid.as_str()));
    left.extend(stored.map(|uid| format!("I8: results of {uid} are left in the gateway's store")));
    for uid in gone {
        left.extend(world.redis.find(uid).into_iter().map(|text| {
            let text: String = text.chars().take(120).collect();
            format!("I8: {text} is left in Redis")
        }));
    }
    left
}

/// I8: what is there when every Workflow was deleted.
pub fn anything(world: &World, history: &[Change]) -> Vec<String> {
    let mut left = left_over(world, history);
    for plural in OWNED.iter().chain(&["workflows"]) {
        let objects = world.server.all(plural);
        let here = objects.iter().filter(|object| object.namespace() == HERE);
        left.extend(here.map(|object| format!("I8: {plural} {} is left at the end", object.name())));
    }
    left
}

fn is_alive(world: &World, uid: &str) -> bool {
    let kinds = ["workflows", "jobs"];
    let mut objects = kinds.iter().flat_map(|plural| world.server.all(plural));
    objects.any(|object| object.uid() == uid)
}
