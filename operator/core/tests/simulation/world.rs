//! What there is outside of the operators: the API server, the gateway, Redis, and time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::moment::Moment;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, WorkflowStatus};
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_core::observation::Identity;
use stagecraft_core::resolve::Catalog;

use crate::cluster::Cluster;
use crate::generator::Generator;
use crate::ledger::Ledger;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Caches lag, requests are slow, agents fail; nothing is lost.
    Calm,
    /// Everything that can go wrong does.
    Storm,
}

pub struct World {
    pub now: Moment,
    pub generator: Generator,
    pub weather: Weather,
    pub identity: Identity,
    pub spec: WorkflowSpec,
    pub catalog: Catalog,
    /// The ConfigMap of the run.
    pub pinned: Option<Run>,
    /// Every status that was ever stored, by version.
    pub versions: Vec<WorkflowStatus>,
    pub cluster: Cluster,
    pub gateway: Gateway,
    /// The result stream: entries that nobody has acknowledged.
    pub stream: Vec<Entry>,
    /// Jobs on their way to the API server.
    pub posts: Vec<Post>,
    pub ledger: Ledger,
}

pub struct Gateway {
    pub reachable: bool,
    pub results: BTreeMap<AttemptKey, AttemptResult>,
    /// By stage, the highest attempt that was granted a claim.
    granted: BTreeMap<String, u32>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: AttemptKey,
    /// Handed to one of the operators already.
    pub delivered: bool,
}

#[derive(Clone, Debug)]
pub struct Post {
    pub lands_at: Moment,
    pub key: AttemptKey,
    pub job: String,
    /// The operator that hears of it.
    pub answer_to: Option<usize>,
}

/// Graphs in which stages follow, join and part. Each is `name: needs`.
const GRAPHS: [&[(&str, &[&str])]; 4] = [
    &[("a", &[]), ("b", &["a"])],
    &[("a", &[]), ("b", &[]), ("c", &["a", "b"])],
    &[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])],
    &[("a", &[]), ("b", &[])],
];

fn stage(name: &str, needs: &[&str]) -> Value {
    json!({"name": name, "needs": needs, "agent": "worker", "timeoutSeconds": 40, "retries": 2})
}

impl World {
    pub fn new(seed: u64, weather: Weather) -> Self {
        let mut generator = Generator::new(seed);
        let graph = generator.pick(&GRAPHS).unwrap_or_default();
        let mut stages: Vec<Value> = graph.iter().map(|(name, needs)| stage(name, needs)).collect();
        if generator.one_in(4)
            && let Some(last) = stages.last_mut()
        {
            last["when"] = json!("false");
        } else if generator.one_in(3) && stages.len() > 1 {
            // Several may send the work back to one.
            let most = if generator.one_in(2) { usize::MAX } else { 1 };
            let judges = stages
                .iter_mut()
                .rev()
                .filter(|stage| stage["needs"] != json!([]));
            for judge in judges.take(most) {
                judge["gates"] = json!([{"metric": "good", "operator": ">=", "threshold": 2}]);
                judge["repair"] = json!({"stage": "a", "maxRounds": 2});
            }
        }
        let finally = if generator.one_in(3) {
            vec![stage("y", &[]), stage("z", &["y"])]
        } else {
            Vec::new()
        };
        let catalog = Catalog {
            providers: BTreeMap::new(),
            types: BTreeMap::new(),
            templates: BTreeMap::from([(
                "graph".to_owned(),
                serde_json::from_value(json!({"stages": stages, "finally": finally})).unwrap(),
            )]),
            agents: BTreeMap::from([(
                "worker".to_owned(),
                serde_json::from_value(json!({"command": ["work"]})).unwrap(),
            )]),
            own_agents: BTreeSet::new(),
            registry: false,
        };
        let spec = json!({"templateRef": {"name": "graph"}, "project": {"requirements": ["It ends."]}});
        Self {
            now: serde_json::from_value(json!("2026-11-01T10:00:00Z")).unwrap(),
            generator,
            weather,
            identity: Identity {
                namespace: "here".to_owned(),
                name: "flow".to_owned(),
                uid: "uid".to_owned(),
                generation: 1,
                metadata_bytes: 0,
            },
            spec: serde_json::from_value(spec).unwrap(),
            catalog,
            pinned: None,
            versions: vec![WorkflowStatus::default()],
            cluster: Cluster::default(),
            gateway: Gateway {
                reachable: true,
                results: BTreeMap::new(),
                granted: BTreeMap::new(),
            },
            stream: Vec::new(),
            posts: Vec::new(),
            ledger: Ledger::new(seed),
        }
    }

    pub fn stored(&self) -> &WorkflowStatus {
        self.versions.last().unwrap()
    }

    pub fn version(&self) -> usize {
        self.versions.len() - 1
    }

    pub fn key(&self, stage: &str, attempt: u32) -> AttemptKey {
        AttemptKey {
            workflow_uid: self.identity.uid.clone(),
            stage: stage.to_owned(),
            attempt,
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        self.ledger.note(|| format!("{now} {}", line()));
    }

    /// A merge patch of exactly the version that was looked at, as the shell sends it.
    pub fn patch(&mut self, base: usize, status: &WorkflowStatus) -> bool {
        if base != self.version() {
            return false;
        }
        let mut stored = serde_json::to_value(self.stored()).unwrap();
        let wanted = serde_json::to_value(status).unwrap();
        if let Some(patch) = stagecraft_core::merge::merge_patch(&stored, &wanted) {
            apply(&mut stored, &patch);
        }
        let after: WorkflowStatus = serde_json::from_value(stored).unwrap();
        self.ledger
            .promise(after == *status, "what is stored differs from what was planned");
        let before = self.stored().clone();
        self.ledger.write(&before, &after);
        self.versions.push(after);
        true
    }

    /// Lets the Jobs land whose time has come.
    pub fn land(&mut self) -> Vec<Post> {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.posts)
            .into_iter()
            .partition(|post: &Post| post.lands_at <= now);
        self.posts = later;
        for post in &due {
            let Post { key, job, .. } = post;
            self.note(|| format!("Job {job} lands"));
            if let Some(run) = &self.pinned {
                let stored = self.versions.last().unwrap();
                self.ledger.create(key, run, stored);
            }
            self.cluster.create(job, key, &mut self.generator, self.weather);
        }
        due
    }

    /// What the gateway allows: only the current attempt, which is running, of a Job that exists; the first result wins.
    pub fn report(&mut self, key: &AttemptKey, good: bool) -> Reply {
        if !self.gateway.reachable {
            return Reply::Unavailable;
        }
        let stage = self.stored().stages.iter().find(|stage| stage.name == key.stage);
        let current =
            stage.is_some_and(|stage| stage.attempt == key.attempt && stage.phase == StagePhase::Running);
        let granted = self.gateway.granted.entry(key.stage.clone()).or_insert(0);
        if !current || key.attempt < *granted {
            return Reply::Refused;
        }
        *granted = key.attempt;
        let good_enough = u8::try_from(self.generator.below(4)).unwrap_or(0);
        let outcome = if good {
            Outcome::Succeeded {
                summary: "done".to_owned(),
                outputs: Map::from_iter([("by".to_owned(), json!(key.to_string()))]),
                workspace: None,
                artifacts: Vec::new(),
                metrics: BTreeMap::from([("good".to_owned(), f64::from(good_enough))]),
            }
        } else {
            Outcome::Failed {
                error: StructuredError::new("Broken", Category::Execution, "it broke"),
            }
        };
        let result = AttemptResult {
            attempt: key.clone(),
            started_at: self.now,
            finished_at: self.now,
            usage: None,
            outcome,
        };
        self.gateway.results.entry(key.clone()).or_insert(result);
        let copies = match self.weather {
            Weather::Calm => 1,
            Weather::Storm => self.generator.below(3),
        };
        for _ in 0..copies {
            self.stream.push(Entry {
                key: key.clone(),
                delivered: false,
            });
        }
        Reply::Stored
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Stored,
    Refused,
    Unavailable,
}

/// RFC 7386, section 2.
fn apply(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    if let Value::Object(object) = target {
        for (key, change) in changes {
            if change.is_null() {
                object.remove(key);
            } else {
                apply(object.entry(key.clone()).or_insert(Value::Null), change);
            }
        }
    }
}
