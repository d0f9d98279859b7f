//! Work comes to a branch: the runner's part, against a gateway with a branch.

mod processes;
mod races;

use std::collections::BTreeMap;
use std::fs;

use git2::Oid;
use serde_json::{Map, Value, json};
use stagecraft_agent_runner::runner::collect::Collected;
use stagecraft_agent_runner::runner::gateway::{Gateway as Client, GatewaySettings};
use stagecraft_agent_runner::runner::git::bundle;
use stagecraft_agent_runner::runner::integrate::{self, Beginning, Integration};
use stagecraft_agent_runner::runner::journal::Upload;
use stagecraft_agent_runner::runner::layout::Layout;
use stagecraft_agent_runner::runner::prepare::PrepareError;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::protocol::BranchEntry;
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{Artifact, WorkspaceRef};
use stagecraft_api::{AttemptKey, Category, Digest, Moment, Severity, StructuredError};
use tempfile::TempDir;

use crate::gateway::{self, Call, Gateway};
use crate::history::History;

/// Volumes of a runner that works in this process, and the gateway that it talks to.
struct Place {
    volumes: TempDir,
    gateway: Gateway,
    client: Client,
    task: TaskEnvelope,
}

fn task(payload: &Value) -> TaskEnvelope {
    let mut task = serde_json::to_value(crate::task::task(&json!({}))).unwrap();
    task["agent"] = json!("integration");
    task["payload"] = payload.clone();
    task["attempt"]["stage"] = json!("integrate");
    task["command"] = json!(["stagecraft-agent", "integration"]);
    serde_json::from_value(task).unwrap()
}

/// A commit with its history as the gateway stores it.
pub fn stored(gateway: &Gateway, history: &History, commit: Oid) -> WorkspaceRef {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bundle");
    let written = bundle::export(&history.repository, commit, &file).unwrap();
    let content = fs::read(file).unwrap();
    gateway.change(|seen| {
        seen.blobs.insert(written.digest.clone(), content);
    });
    WorkspaceRef {
        commit: commit.to_string(),
        bundle: written.digest,
        bytes: written.bytes,
        changes: None,
    }
}

/// A move that another Workflow has made.
fn foreign(number: u64, workspace: WorkspaceRef) -> BranchEntry {
    BranchEntry {
        number,
        workspace,
        from: None,
        moved_by: AttemptKey {
            workflow_uid: "another".to_owned(),
            stage: "integrate".to_owned(),
            attempt: 1,
        },
        at: Moment::now(),
        outputs: Map::new(),
    }
}

impl Place {
    /// With work upon `base`, and a branch that stands at `tip` where there is one.
    fn new(payload: &Value, history: &History, work: Oid, tip: Option<Oid>) -> Self {
        let mut task = task(payload);
        let gateway = Gateway::start(task.clone());
        task.workspace = Some(stored(&gateway, history, work));
        let tip = tip.map(|tip| foreign(1, stored(&gateway, history, tip)));
        gateway.change(|seen| {
            seen.task = Some(task.clone());
            seen.moves.extend(tip);
        });
        let volumes = tempfile::tempdir().unwrap();
        for directory in ["stagecraft", "state", "work/workspace"] {
            fs::create_dir_all(volumes.path().join(directory)).unwrap();
        }
        let token = volumes.path().join("token");
        fs::write(&token, gateway::TOKEN).unwrap();
        let client = Client::new(GatewaySettings {
            url: format!("https://{}:{}", gateway::NAME, gateway.address.port()),
            address: gateway.address,
            certificate_authority: gateway.certificate.clone(),
            token_file: token,
        })
        .unwrap();
        Self {
            volumes,
            gateway,
            client,
            task,
        }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.volumes.path().to_owned())
    }

    async fn begin(&self) -> Result<Beginning, PrepareError> {
        let payload = integrate::payload(&self.task).unwrap();
        integrate::begin(&self.layout(), &self.client, &self.task, payload).await
    }

    async fn merged(&self) -> Integration {
        match self.begin().await.unwrap() {
            Beginning::Merged(merged) => merged,
            other @ Beginning::TakenOver(_) => panic!("{other:?}"),
        }
    }

    /// What collecting leaves behind when the checks found this.
    fn checked(&self, metrics: &[(&str, f64)], outputs: &Value) -> Collected {
        let blobs = self.layout().blobs();
        let _ = fs::remove_dir_all(&blobs);
        fs::create_dir_all(&blobs).unwrap();
        let digest = Digest::of(b"the build");
        fs::write(blobs.join(digest.hex()), b"the build").unwrap();
        let metrics = metrics.iter().map(|(name, number)| ((*name).to_owned(), *number));
        Collected {
            outcome: Outcome::Succeeded {
                summary: "42 tests passed".to_owned(),
                outputs: outputs.as_object().unwrap().clone(),
                workspace: self.task.workspace.clone(),
                artifacts: vec![Artifact {
                    name: "dist.tar".to_owned(),
                    digest: digest.clone(),
                    bytes: 9,
                    media_type: "application/x-tar".to_owned(),
                }],
                metrics: metrics.collect(),
            },
            uploads: vec![Upload { digest, bytes: 9 }],
            skipped: Vec::new(),
        }
    }

    async fn finish(&self, merged: &Integration, collected: Collected) -> Result<Collected, StructuredError> {
        let merged = Some(merged.clone());
        integrate::finish(&self.layout(), &self.client, merged, &self.task, collected).await
    }

    async fn finish_well(&self, merged: &Integration) -> Result<Collected, StructuredError> {
        let outputs = json!({"checks": {"tests": {"state": "passed"}}});
        self.finish(merged, self.checked(&GOOD, &outputs)).await
    }

    fn workspace_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.layout().workspace()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

const GOOD: [(&str, f64); 4] = [
    ("typescriptErrors", 0.0),
    ("testsFailed", 0.0),
    ("testsPassed", 42.0),
    ("buildErrors", 0.0),
];

/// Work and a branch that both went on from one commit, each with a file of its own.
fn fork() -> (History, Oid, Oid) {
    let history = History::new();
    let base = history.commit(&[], &[("a", "1\n")]);
    let work = history.commit(&[base], &[("a", "1\n"), ("work", "w\n")]);
    let tip = history.commit(&[base], &[("a", "1\n"), ("tip", "t\n")]);
    (history, work, tip)
}

struct Succeeded {
    summary: String,
    outputs: Map<String, Value>,
    workspace: WorkspaceRef,
    artifacts: Vec<Artifact>,
    metrics: BTreeMap<String, f64>,
}

fn succeeded(outcome: Outcome) -> Succeeded {
    match outcome {
        Outcome::Succeeded {
            summary,
            outputs,
            workspace,
            artifacts,
            metrics,
        } => Succeeded {
            summary,
            outputs,
            workspace: workspace.unwrap(),
            artifacts,
            metrics,
        },
        Outcome::Failed { error } => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn checked_work_moves_the_branch_and_is_what_the_stage_hands_on() {
    let (history, work, tip) = fork();
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let merged = place.merged().await;
    assert_eq!(place.workspace_names(), ["a", "tip", "work"]);
    assert_eq!(
        merged,
        Integration {
            commit: merged.commit.clone(),
            from: Some(tip.to_string()),
            commits: 1,
            already_merged: false
        }
    );
    assert_eq!(
        place.gateway.seen().moves.len(),
        1,
        "nothing moves before the checks"
    );

    let collected = place.finish_well(&merged).await.unwrap();

    assert!(collected.uploads.is_empty(), "all is uploaded");
    let end = succeeded(collected.outcome);
    let seen = place.gateway.seen();
    let entry = seen.moves.last().unwrap();
    assert_eq!(
        (entry.number, entry.from.as_deref()),
        (2, Some(tip.to_string().as_str()))
    );
    assert_eq!(entry.moved_by, place.task.attempt);
    assert_eq!(entry.workspace, end.workspace);
    assert_eq!(end.workspace.commit, merged.commit);
    let changes = end.workspace.changes.as_ref().unwrap();
    assert_eq!(changes.base, Some(tip.to_string()));
    assert!(changes.files > 0, "{changes:?}");
    assert_eq!(end.summary, "1 commit brought to main: 42 tests passed");
    let expected = json!({"branch": "main", "strategy": "merge", "from": tip.to_string(), "commit": merged.commit,
        "commits": 1, "conflicts": 0, "alreadyMerged": false, "checks": {"tests": {"state": "passed"}}});
    assert_eq!(Value::Object(end.outputs), expected);
    assert_eq!(end.artifacts[0].name, "dist.tar");
    assert_eq!(end.metrics.len(), 4);
    assert_eq!(seen.blobs[&end.artifacts[0].digest], b"the build");

    let clone = tempfile::tempdir().unwrap();
    let file = clone.path().join("bundle");
    fs::write(&file, &seen.blobs[&end.workspace.bundle]).unwrap();
    let other = History::new();
    let head = bundle::import(&other.repository, &file, &merged.commit).unwrap();
    let parents: Vec<Oid> = other.find(head).parent_ids().collect();
    assert_eq!(parents, [tip, work]);
}

#[tokio::test]
async fn the_first_work_makes_the_branch_and_needs_no_new_bundle() {
    let (history, work, _) = fork();
    let place = Place::new(&json!({"strategy": "fastForward"}), &history, work, None);
    let merged = place.merged().await;
    assert_eq!(
        (merged.commit.clone(), merged.from.clone(), merged.commits),
        (work.to_string(), None, 2)
    );
    let end = succeeded(place.finish_well(&merged).await.unwrap().outcome);
    assert_eq!(Some(end.workspace), place.task.workspace);
    assert_eq!(end.outputs["from"], Value::Null);
    let seen = place.gateway.seen();
    assert_eq!(
        (seen.moves.len(), seen.called(Call::Upload)),
        (1, 1),
        "the build alone is uploaded"
    );
}

#[tokio::test]
async fn what_was_not_found_good_moves_nothing() {
    let (history, work, tip) = fork();
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let merged = place.merged().await;
    let findings = json!({"findings": [{"check": "tests", "file": "a", "line": 7, "message": "no\nway"}]});
    for (index, bad, reason) in [
        (0, Some(2.0), "typescriptErrors is 2, not 0"),
        (1, Some(1.0), "testsFailed is 1, not 0"),
        (2, Some(0.0), "testsPassed is 0, not at least 1"),
        (3, None, "buildErrors was not measured"),
    ] {
        let mut metrics = GOOD.to_vec();
        match bad {
            Some(bad) => metrics[index].1 = bad,
            None => drop(metrics.remove(index)),
        }
        let collected = place.checked(&metrics, &findings);
        let error = place.finish(&merged, collected).await.unwrap_err();
        assert_eq!(
            (error.code.as_str(), error.category),
            ("ChecksFailed", Category::Validation)
        );
        assert_eq!((error.severity, error.retryable), (Severity::Fatal, false));
        let message = &error.message;
        assert!(
            message.contains(reason) && message.contains("tests a:7: no way"),
            "{message}"
        );
        assert!(error.suggested_action.unwrap().contains("main stays"));
    }
    let seen = place.gateway.seen();
    assert_eq!(
        (
            seen.moves.len(),
            seen.called(Call::Move),
            seen.called(Call::Upload)
        ),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn work_that_the_branch_has_succeeds_without_a_move() {
    let (history, work, _) = fork();
    let tip = history.commit(&[work], &[("a", "1\n"), ("work", "w\n"), ("later", "l\n")]);
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let merged = place.merged().await;
    assert_eq!(place.workspace_names(), ["a", "later", "work"]);
    let end = succeeded(place.finish_well(&merged).await.unwrap().outcome);
    assert_eq!(end.workspace.commit, tip.to_string());
    assert_eq!(end.outputs["alreadyMerged"], json!(true));
    assert_eq!(
        (end.outputs["commits"].clone(), end.summary.contains("already")),
        (json!(0), true)
    );
    let seen = place.gateway.seen();
    assert!(seen.blobs.contains_key(&end.workspace.bundle));
    assert_eq!((seen.moves.len(), seen.called(Call::Move)), (1, 0));
}

#[tokio::test]
async fn what_cannot_be_merged_says_why_and_what_to_do() {
    let history = History::new();
    let base = history.commit(&[], &[("a", "1\n")]);
    let work = history.commit(&[base], &[("a", "2\n")]);
    let tip = history.commit(&[base], &[("a", "3\n")]);
    for (payload, code, part) in [
        (json!({}), "MergeConflict", "both changed 1 file: a"),
        (
            json!({"strategy": "rebase"}),
            "MergeConflict",
            "could not be taken over",
        ),
        (
            json!({"strategy": "fastForward"}),
            "NotFastForward",
            "does not contain",
        ),
    ] {
        let place = Place::new(&payload, &history, work, Some(tip));
        let error = place.begin().await.unwrap_err().structured();
        assert_eq!(
            (error.code.as_str(), error.category),
            (code, Category::Validation)
        );
        assert_eq!((error.severity, error.retryable), (Severity::Fatal, false));
        assert!(error.message.contains(part), "{}", error.message);
        assert!(error.suggested_action.unwrap().contains("targetBranch"));
        assert_eq!(place.gateway.seen().moves.len(), 1);
    }
    let mut place = Place::new(&json!({}), &history, work, Some(tip));
    place.gateway.change(|seen| {
        let bundle = seen.moves[0].workspace.bundle.clone();
        seen.blobs.insert(Digest::of(b"junk"), b"junk".to_vec());
        seen.blobs.remove(&bundle);
        seen.moves[0].workspace.bundle = Digest::of(b"junk");
        seen.moves[0].workspace.bytes = 4;
    });
    let error = place.begin().await.unwrap_err().structured();
    assert_eq!(error.code, "BranchCorrupt", "{}", error.message);
    place.task.workspace = None;
    let error = place.begin().await.unwrap_err().structured();
    assert_eq!(
        (error.code.as_str(), error.retryable),
        ("NothingToIntegrate", false)
    );
    assert!(
        error.message.contains("integrate") && error.message.contains("main"),
        "{}",
        error.message
    );
}
