use serde_json::json;
use stagecraft_api::condition::{PROGRESSING, SUCCEEDED};
use stagecraft_api::digest::Digest;
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{WorkflowPhase, WorkspaceRef};
use stagecraft_core::observation::{PodPhase, RunEvidence};
use stagecraft_core::{Action, Plan};

use crate::evidence::{deleting, live, missing, pod, present, with_pod};
use crate::fixture::{
    Scene, TIMEOUT, actions, at, catalog, key, object, open_job, quiet, spec, started, success,
};

const NOTHING: [&str; 0] = [];

#[test]
fn a_good_request_is_pinned_before_the_status_names_it() {
    let mut scene = Scene::new("a, b");
    assert_eq!(actions(&scene.act()), ["pin", "store"]);
    assert_eq!(scene.stages(), "a Pending 0, b Pending 0");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Initialized);
    assert_eq!(actions(&scene.act()), ["store", "start a 1"]);
    assert_eq!(scene.stages(), "a Running 1, b Pending 0");
}

#[test]
fn what_was_pinned_decides_and_not_what_is_asked_for_later() {
    let mut scene = Scene::running("a, b");
    scene.observation.spec.project.requirements.clear();
    scene.observation.identity.generation = 2;
    assert_eq!(actions(&scene.act()), ["store"], "it says which spec it has seen");
    assert_eq!(scene.stages(), "a Running 1, b Pending 0");
    assert!(quiet(&scene.plan()));
}

#[test]
fn a_request_that_cannot_run_is_told_once_for_each_generation() {
    let mut scene = Scene::new("a: a");
    assert_eq!(actions(&scene.act()), ["store"]);
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Pending);
    scene.at(5);
    assert!(quiet(&scene.plan()), "nothing has changed");
    scene.observation.identity.generation = 2;
    assert_eq!(actions(&scene.act()), ["store"]);
    scene.observation.run = RunEvidence::NotPinned(catalog("a"));
    assert_eq!(actions(&scene.act()), ["pin", "store"], "a correction is noticed");
}

#[test]
fn nothing_to_do_fails_at_once_and_for_good() {
    let mut scene = Scene::new("a");
    scene.observation.spec.project.requirements = vec![" ".into()];
    assert_eq!(actions(&scene.act()), ["store"]);
    assert_eq!(
        (
            scene.observation.status.phase,
            scene.observation.status.message.as_str()
        ),
        (WorkflowPhase::Failed, "Project requirements cannot be empty")
    );
    scene.observation.spec = spec();
    assert!(quiet(&scene.plan()), "a terminal Workflow never changes");
}

#[test]
fn one_patch_ends_a_stage_and_begins_the_next() {
    let mut scene = Scene::running("a, b");
    scene.at(3).result("a", success(json!({"url": "x"})));
    let planned = scene.act();
    assert_eq!(actions(&planned), ["store", "start b 1", "acknowledge a 1"]);
    assert_eq!(scene.stages(), "a Succeeded 1, b Running 1");
    let task = &started(&planned)[0];
    assert_eq!(task.context.previous_outputs["a"], object(json!({"url": "x"})));
    assert_eq!(
        Some(task.deadline),
        scene
            .stage("b")
            .attempt_started_at
            .map(|since| since.plus_seconds(TIMEOUT))
    );
}

#[test]
fn the_last_stage_completes_the_workflow_in_the_same_patch() {
    let mut scene = Scene::running("a");
    scene.at(3).result("a", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge a 1"]);
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Completed);
    assert_eq!(scene.observation.status.finished_at, Some(at(3)));
    assert_eq!(scene.condition(SUCCEEDED), "True Completed");
}

#[test]
fn every_start_follows_the_store_that_licenses_it() {
    let mut scene = Scene::running("a:, b:, c: a b");
    scene.result("a", success(json!({})));
    scene.result("b", success(json!({})));
    let planned = scene.act();
    let stores: Vec<usize> = places(&planned, |action| matches!(action, Action::Store(_)));
    let starts: Vec<usize> = places(&planned, |action| matches!(action, Action::Start(_)));
    assert_eq!((stores.len(), starts.len()), (1, 1), "{planned:?}");
    assert!(stores[0] < starts[0]);
    let after = places(&planned, |action| {
        matches!(action, Action::Acknowledge(_) | Action::Close { .. })
    });
    assert!(after.iter().all(|place| *place > stores[0]));
}

fn places(plan: &Plan, is: impl Fn(&Action) -> bool) -> Vec<usize> {
    let numbered = plan.actions.iter().enumerate();
    numbered
        .filter(|(_, action)| is(action))
        .map(|(place, _)| place)
        .collect()
}

#[test]
fn an_unchanged_world_needs_nothing() {
    let mut scene = Scene::running("a:, b:, c: a b");
    for seconds in [0, 1, 50, TIMEOUT] {
        scene.at(seconds);
        assert!(quiet(&scene.plan()), "at {seconds}");
        assert!(scene.plan().wake_at > Some(at(seconds)));
    }
    scene.result("a", success(json!({})));
    scene.act();
    assert!(quiet(&scene.plan()));
}

#[test]
fn the_same_evidence_gives_the_same_words() {
    let unscheduled = stagecraft_core::observation::PodEvidence {
        trouble: Some("no node takes the Pod".into()),
        ..pod(PodPhase::Pending)
    };
    let going = stagecraft_core::observation::PodEvidence {
        deleting_since: Some(at(4)),
        ..pod(PodPhase::Running)
    };
    let lost = stagecraft_core::observation::PodEvidence {
        node_lost_since: Some(at(4)),
        ..pod(PodPhase::Running)
    };
    let troubles = [
        with_pod(present(), unscheduled),
        live(with_pod(present(), going)),
        live(with_pod(present(), lost)),
        live(missing(false)),
        live(deleting()),
        live(with_pod(missing(true), pod(PodPhase::Running))),
    ];
    for evidence in troubles {
        let mut scene = Scene::running("a, b");
        scene.at(5).see("a", evidence.clone());
        assert_eq!(actions(&scene.act()), ["store"], "{evidence:?}");
        assert_eq!(scene.condition(PROGRESSING), "True StagePending");
        for seconds in [6, 8, 11] {
            scene.at(seconds);
            assert!(quiet(&scene.plan()), "{evidence:?} at {seconds}");
        }
        scene.at(12).see("a", present());
        assert_eq!(
            actions(&scene.act()),
            ["store"],
            "and when it is over that is told"
        );
        assert_eq!(scene.condition(PROGRESSING), "True StageRunning");
    }
}

#[test]
fn live_evidence_is_asked_for_before_anything_else_is_written() {
    let mut scene = Scene::running("a:, b:");
    scene.see("a", missing(true)).result("b", success(json!({})));
    assert_eq!(actions(&scene.plan()), ["look a"]);
    scene.see("a", live(missing(true)));
    assert_eq!(
        actions(&scene.act()),
        ["store", "start a 2", "acknowledge a 1", "acknowledge b 1"]
    );
    scene.observation.attempts.clear();
    assert_eq!(
        actions(&scene.plan()),
        ["look a"],
        "evidence that is lacking is asked for"
    );
}

#[test]
fn branches_run_side_by_side_and_join() {
    let mut scene = Scene::running("a, b: a, c: a, d: b c");
    scene.at(1).result("a", success(json!({})));
    assert_eq!(
        actions(&scene.act()),
        ["store", "start b 1", "start c 1", "acknowledge a 1"]
    );
    scene.at(2).result("c", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "acknowledge c 1"]);
    assert_eq!(
        scene.stages(),
        "a Succeeded 1, b Running 1, c Succeeded 1, d Pending 0"
    );
    scene.at(3).result("b", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "start d 1", "acknowledge b 1"]);
}

#[test]
fn a_limit_holds_stages_back_and_says_so() {
    let mut scene = Scene::new("a:, b:, c:");
    scene.settings.max_running_stages = Some(3);
    scene.others = 2;
    scene.act();
    let planned = scene.act();
    assert_eq!(actions(&planned), ["store", "start a 1"]);
    assert_eq!(planned.wake_at, None, "nothing that waits is polled");
    assert_eq!(scene.stages(), "a Running 1, b Pending 0, c Pending 0");
    assert!(
        scene
            .stage("b")
            .message
            .contains("chart value operator.maxRunningStages")
    );
    assert!(quiet(&scene.plan()));
    // The end of a makes room for b in the same patch.
    scene.at(4).result("a", success(json!({})));
    assert_eq!(actions(&scene.act()), ["store", "start b 1", "acknowledge a 1"]);
}

#[test]
fn a_workflow_that_only_waits_for_a_limit_says_so_in_its_condition() {
    let mut scene = Scene::new("a");
    scene.settings.max_running_stages = Some(0);
    scene.act();
    assert_eq!(scene.condition(PROGRESSING), "True Pending");
    assert_eq!(actions(&scene.act()), ["store"]);
    assert_eq!(scene.condition(PROGRESSING), "True Limit");
    assert!(quiet(&scene.plan()) && scene.plan().wake_at.is_none());
    assert!(
        scene
            .observation
            .status
            .message
            .contains("place in the queue: next")
    );
}

#[test]
fn results_are_acknowledged_once_the_status_has_accounted_for_them() {
    let mut scene = Scene::running("a, b");
    scene.observation.announced = vec![key("a", 1)];
    assert!(quiet(&scene.plan()), "the current attempt has not been judged");
    scene.result("a", success(json!({})));
    assert_eq!(
        actions(&scene.act()),
        ["store", "start b 1", "acknowledge a 1"],
        "once is enough"
    );
    scene.observation.announced = vec![key("a", 1), key("b", 1), key("b", 2), key("gone", 1)];
    assert_eq!(
        actions(&scene.plan()),
        ["acknowledge a 1", "acknowledge gone 1"],
        "late duplicates go; what is current or still to come stays"
    );
}

#[test]
fn lower_attempts_are_closed_at_once_and_judged_ones_after_a_grace() {
    let mut scene = Scene::running("a, b");
    scene.at(3).see("a", live(missing(true)));
    scene.act();
    assert_eq!(scene.stages(), "a Running 2, b Pending 0");
    scene.see("a", present());
    scene.observation.open_jobs = vec![open_job("a", 1), open_job("a", 2), open_job("a", 3)];
    assert_eq!(actions(&scene.plan()), ["close a-1"], "strictly lower only");

    scene.at(10).result("a", success(json!({})));
    assert_eq!(
        actions(&scene.act()),
        ["store", "start b 1", "acknowledge a 2", "close a-1"]
    );
    scene.observation.open_jobs = vec![open_job("a", 2), open_job("b", 1)];
    let planned = scene.plan();
    assert_eq!(actions(&planned), NOTHING);
    assert_eq!(
        planned.wake_at,
        Some(at(12)),
        "b has no Pod yet, which comes first"
    );
    scene.see("b", with_pod(present(), pod(PodPhase::Running)));
    assert_eq!(scene.plan().wake_at, Some(at(40)));
    scene.at(40);
    assert_eq!(actions(&scene.plan()), ["close a-2"]);
    scene.observation.open_jobs[0].deleting = true;
    assert_eq!(actions(&scene.plan()), NOTHING, "it is on its way");
}

#[test]
fn a_terminal_workflow_is_never_written_but_its_leftovers_are_put_away() {
    let mut scene = Scene::running("a");
    scene.at(1).result("a", success(json!({})));
    scene.act();
    scene.observation.announced = vec![key("a", 1)];
    scene.observation.open_jobs = vec![open_job("a", 1), open_job("x", 1)];
    scene.observation.spec.project.requirements.clear();
    for evidence in [
        RunEvidence::Lost("gone".into()),
        RunEvidence::NotPinned(catalog("b")),
    ] {
        scene.observation.run = evidence;
        assert_eq!(actions(&scene.plan()), ["acknowledge a 1", "close x-1"]);
        assert_eq!(scene.plan().wake_at, Some(at(31)));
    }
    scene.at(31);
    assert_eq!(
        actions(&scene.plan()),
        ["acknowledge a 1", "close a-1", "close x-1"]
    );
    scene.observation.announced.clear();
    scene.observation.open_jobs.clear();
    assert_eq!(scene.plan(), Plan::default());
}

#[test]
fn a_stage_that_changes_nothing_hands_on_the_workspace_it_was_given() {
    let workspace = |text: &str| WorkspaceRef {
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        bundle: Digest::of(text.as_bytes()),
        bytes: 1,
        changes: None,
    };
    let made = |text: &str| Outcome::Succeeded {
        summary: String::new(),
        outputs: object(json!({})),
        workspace: Some(workspace(text)),
        artifacts: Vec::new(),
        metrics: std::collections::BTreeMap::new(),
    };
    let mut scene = Scene::running("a, b: a, c: a, d: b c");
    scene.result("a", made("a"));
    let tasks = started(&scene.act());
    assert!(tasks.iter().all(|task| task.workspace == Some(workspace("a"))));
    scene.result("b", made("b")).result("c", success(json!({})));
    let planned = scene.act();
    assert_eq!(scene.stage("c").workspace, Some(workspace("a")));
    assert_eq!(
        started(&planned)[0].workspace,
        Some(workspace("a")),
        "the last need decides, also when it only hands on"
    );
}

#[test]
fn outputs_are_kept_as_a_merge_patch_can_store_them() {
    let mut scene = Scene::running("a, b");
    scene.result(
        "a",
        success(json!({"kept": [null], "dropped": null, "deep": {"dropped": null}})),
    );
    let planned = scene.act();
    let kept = object(json!({"kept": [null], "deep": {}}));
    assert_eq!(scene.stage("a").outputs, kept);
    assert_eq!(started(&planned)[0].context.previous_outputs["a"], kept);
}
