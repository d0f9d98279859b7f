//! What people ask for.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::api_server::Key;
use crate::world::{HERE, World};

/// Graphs in which stages follow, join and part: name and needs.
const GRAPHS: [&[(&str, &[&str])]; 4] = [
    &[("a", &[]), ("b", &["a"])],
    &[("a", &[]), ("b", &[]), ("c", &["a", "b"])],
    &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])],
    &[("a", &[])],
];

/// Creates Agents and one to three Workflows; now and then one that cannot be decoded is among them.
pub fn create(world: &Arc<World>) {
    let generator = &world.generator;
    make(
        world,
        "agents",
        json!({"metadata": {"name": "worker"}, "spec": {"command": ["work"]}}),
    );
    for number in 0..=generator.below(3) {
        let (stages, finally) = stages(world);
        make(
            world,
            "workflows",
            json!({
                "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
                "metadata": {"name": format!("flow-{number}")},
                "spec": {
                    "template": {"stages": stages, "finally": finally},
                    "project": {"name": "trial", "requirements": ["It ends."]},
                },
            }),
        );
    }
    if generator.percent(10) {
        make(
            world,
            "workflows",
            json!({
                "apiVersion": "stagecraft.dev/v1alpha1", "kind": "Workflow",
                "metadata": {"name": BROKEN}, "spec": {"project": "no object", "timeoutSeconds": "soon"},
            }),
        );
    }
}

/// Name of a Workflow that cannot be decoded.
pub const BROKEN: &str = "broken";

fn make(world: &World, plural: &str, object: Value) {
    if let Some(key) = Key::of(plural, HERE, "") {
        let made = world.server.create(key, object);
        assert!(made.is_ok(), "{made:?}");
    }
}

fn stages(world: &World) -> (Vec<Value>, Vec<Value>) {
    let generator = &world.generator;
    let graph = generator.pick(&GRAPHS).unwrap_or_default();
    let mut stages: Vec<Value> = graph.iter().map(|(name, needs)| stage(name, needs)).collect();
    let kind = generator.below(8);
    if kind == 1 {
        // Several may send the work back to one.
        let all = generator.percent(50);
        let mut judges = stages
            .iter_mut()
            .filter(|stage| stage["needs"] != json!([]))
            .rev();
        let most = if all { usize::MAX } else { 1 };
        for judge in judges.by_ref().take(most) {
            judge["gates"] = json!([{"metric": "quality", "operator": ">=", "threshold": 2}]);
            judge["repair"] = json!({"stage": "a", "maxRounds": 2});
        }
    }
    if let Some(last) = stages.last_mut() {
        match kind {
            0 => last["when"] = json!("false"),
            2 => last["approval"] = json!({"question": "Go on?", "expiresSeconds": 600}),
            3 if last["needs"] != json!([]) => {
                last["approval"] = json!({"question": "Go on?", "expiresSeconds": 600, "backTo": "a"});
            }
            _ => {}
        }
    }
    let finally = if generator.percent(30) {
        vec![stage("y", &[]), stage("z", &["y"])]
    } else {
        Vec::new()
    };
    (stages, finally)
}

fn stage(name: &str, needs: &[&str]) -> Value {
    json!({"name": name, "needs": needs, "agent": "worker", "timeoutSeconds": 40, "retries": 2})
}
