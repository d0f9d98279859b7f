use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use stagecraft_api::status::{StagePhase, WorkflowStatus};

use crate::api_server::Stored;

/// What the stages of a Workflow need.
#[derive(Default)]
pub struct Graph {
    needs: BTreeMap<String, Vec<String>>,
    finally: BTreeSet<String>,
}

impl Graph {
    /// As the Workflow's own template has it.
    pub fn of(workflow: &Stored) -> Self {
        let mut graph = Self::default();
        for part in ["stages", "finally"] {
            let stages = workflow
                .value
                .pointer(&format!("/spec/template/{part}"))
                .and_then(Value::as_array);
            for stage in stages.into_iter().flatten() {
                let name = stage
                    .get("name")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned();
                let needs = stage.get("needs").and_then(Value::as_array).into_iter().flatten();
                let needs = needs.filter_map(|need| need.as_str().map(str::to_owned));
                graph.needs.insert(name.clone(), needs.collect());
                if part == "finally" {
                    graph.finally.insert(name);
                }
            }
        }
        graph
    }

    pub fn is_of_finally(&self, stage: &str) -> bool {
        self.finally.contains(stage)
    }

    /// What a stage has to wait for and that is not over.
    pub fn open(&self, stage: &str, status: &WorkflowStatus) -> Vec<String> {
        let phase = |name: &str| {
            status
                .stages
                .iter()
                .find(|known| known.name == name)
                .map(|known| known.phase)
        };
        let needs = self.needs.get(stage).into_iter().flatten();
        let unmet =
            needs.filter(|need| !matches!(phase(need), Some(StagePhase::Succeeded | StagePhase::Skipped)));
        let mut open: Vec<String> = unmet.cloned().collect();
        if self.finally.contains(stage) {
            // Once it is known how the Workflow ends, what has not begun never does.
            let ending = status.ending.is_some();
            let is_open = |phase: Option<StagePhase>| match phase {
                None | Some(StagePhase::Pending) => !ending,
                Some(phase) => !phase.is_terminal(),
            };
            let others = self.needs.keys().filter(|name| !self.finally.contains(*name));
            open.extend(others.filter(|name| is_open(phase(name))).cloned());
        }
        open
    }
}
