//! Stages that wait for a person.

use serde_json::{Value, json};
use stagecraft_api::approval::{ApprovalSpec, Decision, Verdict};
use stagecraft_api::budget::{Amount, ModelUsage};
use stagecraft_api::condition::PROGRESSING;
use stagecraft_api::error::Category;
use stagecraft_api::result::Outcome;
use stagecraft_api::status::{Changes, StagePhase, WorkspaceRef};
use stagecraft_api::{Digest, WorkflowPhase};
use stagecraft_core::approval::ApprovalEvidence;
use stagecraft_core::resolve::{Refusal, resolve};
use stagecraft_core::{Action, Plan};

use crate::fixture::{Scene, actions, at, catalog, quiet, spec, started, success};

fn template(approval: &Value) -> Value {
    json!({"stages": [
        {"name": "make", "agent": "worker"},
        {"name": "ship", "agent": "worker", "approval": approval,
         "payload": {"said": "${{ approval.answer }}", "by": "${{ approval.by }}"}},
    ]})
}

/// A Workflow whose stage `make` is done.
fn made(approval: &Value) -> Scene {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    scene.observation.spec.template = Some(serde_json::from_value(template(approval)).unwrap());
    scene.observation.spec.requested_by = Some("ada".to_owned());
    scene.act();
    scene.act();
    scene.at(10).result("make", success(json!({"size": 3})));
    scene
}

fn asked(plan: &Plan) -> (String, ApprovalSpec) {
    let asked = plan.actions.iter().find_map(|action| match action {
        Action::Ask { name, request } => Some((name.clone(), (**request).clone())),
        _ => None,
    });
    asked.unwrap()
}

/// The Approval as the operator sees it once it is there.
fn see(scene: &mut Scene, name: &str, request: &ApprovalSpec, decision: Option<Decision>) {
    let evidence = ApprovalEvidence {
        expires_at: request.expires_at,
        decision,
        decided_at: None,
    };
    scene.observation.approvals.insert(name.to_owned(), evidence);
}

fn decided(verdict: Verdict) -> Decision {
    Decision {
        verdict,
        by: "bob".to_owned(),
        comment: "as I said".to_owned(),
        answer: "blue".to_owned(),
    }
}

#[test]
fn whoever_decides_sees_what_the_commit_changes() {
    let subject = |base: Option<&str>| {
        let mut scene = made(&json!({"question": "Ship it?"}));
        let mut outcome = success(json!({}));
        if let Outcome::Succeeded { workspace, .. } = &mut outcome {
            *workspace = Some(WorkspaceRef {
                commit: "89abcdef0123456789abcdef0123456789abcdef".to_owned(),
                bundle: Digest::of(b""),
                bytes: 1,
                changes: Some(Changes {
                    base: base.map(str::to_owned),
                    files: 2,
                    insertions: 7,
                    deletions: 1,
                    stat: "M src/app.ts +6 -1\nA README.md +1 -0".to_owned(),
                }),
            });
        }
        scene.result("make", outcome);
        asked(&scene.act()).1.subject
    };
    let since = subject(Some("0123456789abcdef0123456789abcdef01234567"));
    assert_eq!(since.commit, "89abcdef0123456789abcdef0123456789abcdef");
    assert_eq!(
        since.diff,
        "2 files changed, 7 insertions(+), 1 deletion(-) since 0123456789ab\nM src/app.ts +6 -1\nA README.md +1 -0"
    );
    assert!(subject(None).diff.contains("since there was nothing"));
}

#[test]
fn a_stage_asks_once_and_starts_when_it_is_approved() {
    let mut scene = made(&json!({"question": "Ship it?", "expiresSeconds": 100}));
    scene.observation.used = Some(vec![ModelUsage {
        amount: Amount {
            cost: 4_200,
            ..Amount::default()
        },
        ..ModelUsage::default()
    }]);
    let plan = scene.act();
    assert_eq!(actions(&plan), ["store", "ask about ship", "acknowledge make 1"]);
    let (name, request) = asked(&plan);
    assert_eq!(
        (request.expires_at, request.requested_by.as_str()),
        (at(110), "ada")
    );
    assert_eq!(request.question, "Ship it?");
    assert!(request.subject.summary.starts_with("make: did it"), "{request:?}");
    assert!(request.subject.plan.contains("worker"), "{request:?}");
    assert_eq!(request.subject.cost, "0.0042");
    let status = &scene.observation.status;
    assert_eq!(status.phase, WorkflowPhase::AwaitingApproval);
    assert!(status.message.contains(&name), "{}", status.message);
    assert_eq!(scene.condition(PROGRESSING), "True AwaitingApproval");

    // It is not seen yet: asking once more is harmless, since the name is the same.
    let again = scene.plan();
    assert_eq!(
        (actions(&again).as_slice(), asked(&again).0),
        (["ask about ship".to_owned()].as_slice(), name.clone())
    );
    see(&mut scene, &name, &request, None);
    let waiting = scene.plan();
    assert!(quiet(&waiting));
    assert_eq!(waiting.wake_at, Some(at(110)));
    see(&mut scene, &name, &request, Some(decided(Verdict::Approved)));
    let plan = scene.act();
    assert_eq!(actions(&plan), ["store", "start ship 1"]);
    let stagecraft_api::payload::Payload::Other { payload, .. } = &started(&plan)[0].payload else {
        panic!()
    };
    assert_eq!(
        Value::Object(payload.clone()),
        json!({"said": "blue", "by": "bob"})
    );
    // A further attempt at the same thing asks nobody.
    scene.result("ship", crate::fixture::failure(Category::Execution));
    scene.act();
    assert_eq!(actions(&scene.at(100_000).act()), ["store", "start ship 2"]);
}

#[test]
fn what_is_rejected_fails_with_the_comment() {
    let mut scene = made(&json!({"question": "Ship it?"}));
    let (name, request) = asked(&scene.act());
    see(&mut scene, &name, &request, Some(decided(Verdict::Rejected)));
    scene.act();
    let error = scene.stage("ship").error.clone().unwrap();
    assert_eq!(
        (error.code.as_str(), scene.stage("ship").attempt),
        ("Rejected", 0)
    );
    assert!(error.message.contains("bob rejected it: as I said"), "{error:?}");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
}

#[test]
fn what_is_rejected_can_go_back_with_the_comment_and_is_asked_about_anew() {
    let mut scene = made(&json!({"question": "Ship it?", "backTo": "make"}));
    let (name, request) = asked(&scene.act());
    see(&mut scene, &name, &request, Some(decided(Verdict::Rejected)));
    // The stage that it goes back to starts in the next turn at the latest.
    scene.act();
    let plan = scene.act();
    assert_eq!(scene.stages(), "make Running 2, ship Pending 0");
    let repair = started(&plan)
        .first()
        .and_then(|task| task.context.repair.clone());
    if let Some(repair) = repair {
        assert_eq!((repair.stage.as_str(), repair.round), ("ship", 1));
        assert!(repair.message.contains("as I said"), "{repair:?}");
    }
    assert!(
        scene.stage("ship").message.contains("sent back to make"),
        "{:?}",
        scene.stage("ship")
    );
    scene.result("make", success(json!({})));
    let (second, _) = asked(&scene.act());
    assert_ne!(second, name, "the old answer counts for the old work");
}

#[test]
fn nobody_deciding_ends_the_wait() {
    let mut scene = made(&json!({"question": "Ship it?", "expiresSeconds": 100}));
    let (name, request) = asked(&scene.act());
    see(&mut scene, &name, &request, None);
    assert!(quiet(&scene.at(109).plan()));
    scene.at(110).act();
    let error = scene.stage("ship").error.clone().unwrap();
    assert_eq!(
        (error.code.as_str(), error.category),
        ("ApprovalExpired", Category::Timeout)
    );
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Failed);
}

#[test]
fn a_decision_that_comes_too_late_counts_for_nothing_whoever_looked_when() {
    // The operator was away, or the Workflow suspended, until long after both.
    for (decided_at, expected) in [(109, StagePhase::Running), (111, StagePhase::Failed)] {
        let mut scene = made(&json!({"question": "Ship it?", "expiresSeconds": 100}));
        let (name, request) = asked(&scene.act());
        see(&mut scene, &name, &request, Some(decided(Verdict::Approved)));
        let known = scene.observation.approvals.get_mut(&name).unwrap();
        known.decided_at = Some(at(decided_at));
        scene.at(5_000).act();
        let stage = scene.stage("ship");
        assert_eq!(stage.phase, expected, "{decided_at}");
        if let Some(error) = &stage.error {
            assert_eq!(error.code, "ApprovalExpired");
            assert!(error.message.contains("bob decided too late"), "{error:?}");
        }
    }
}

#[test]
fn an_approval_counts_for_what_was_approved_alone() {
    let mut scene = made(&json!({"question": "Ship it?"}));
    let (name, request) = asked(&scene.act());
    see(&mut scene, &name, &request, Some(decided(Verdict::Approved)));
    let commit = serde_json::from_value(json!({
        "commit": "0123456789abcdef0123456789abcdef01234567", "bundle": stagecraft_api::Digest::of(b""), "bytes": 1,
    }));
    scene.observation.status.stages[1].workspace = commit.unwrap();
    let (other, about) = asked(&scene.act());
    assert_ne!((other, &about.subject.digest), (name, &request.subject.digest));
    assert_eq!(about.subject.commit, "0123456789abcdef0123456789abcdef01234567");
}

#[test]
fn a_suspended_or_cancelled_workflow_asks_nobody() {
    let mut scene = made(&json!({"question": "Ship it?"}));
    scene.observation.spec.suspend = true;
    assert_eq!(actions(&scene.act()), ["store", "acknowledge make 1"]);
    scene.observation.spec.suspend = false;
    scene.act();
    scene.observation.spec.cancel = true;
    assert_eq!(actions(&scene.act()), ["store"]);
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Cancelled);
}

#[test]
fn what_nobody_could_answer_is_refused_before_any_stage_runs() {
    for (approval, field) in [
        (
            json!({"question": "?", "selfApproval": "forbidden"}),
            "spec.requestedBy",
        ),
        (
            json!({"question": "?", "kind": "choice", "choices": ["one"]}),
            "template.spec.stages[name=ship].approval.choices",
        ),
        (
            json!({"question": "?", "backTo": "ship"}),
            "template.spec.stages[name=ship].approval.backTo",
        ),
    ] {
        let mut wanted = spec();
        wanted.template_ref = None;
        wanted.template = Some(serde_json::from_value(template(&approval)).unwrap());
        let Err(Refusal::Violations(violations)) = resolve("flow", &wanted, &catalog("unused")) else {
            panic!("{field}")
        };
        assert_eq!(violations[0].field, field);
    }
}

#[test]
fn a_stage_that_waits_for_a_person_is_named_before_others_that_cannot_begin() {
    let mut scene = Scene::new("unused");
    scene.observation.spec.template_ref = None;
    let template = json!({"stages": [
        {"name": "last", "agent": "worker", "needs": ["asks"]},
        {"name": "asks", "agent": "worker", "needs": [], "approval": {"question": "Go on?", "expiresSeconds": 100}},
    ]});
    scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
    scene.act();
    let (name, request) = asked(&scene.act());
    assert_eq!(scene.observation.status.phase, WorkflowPhase::AwaitingApproval);
    assert_eq!(scene.condition(PROGRESSING), "True AwaitingApproval");
    let condition = scene.observation.status.conditions.iter();
    let message = condition
        .map(|condition| condition.message.as_str())
        .find(|message| message.starts_with("asks: ready"))
        .unwrap();
    assert!(message.ends_with("; since 2026-11-01T10:00:00.000Z"), "{message}");
    // Approved, and held by something else: no person is waited for any more.
    see(&mut scene, &name, &request, Some(decided(Verdict::Approved)));
    scene.observation.spec.suspend = true;
    scene.act();
    assert_eq!(scene.condition(PROGRESSING), "True Suspended");
    assert_eq!(scene.observation.status.phase, WorkflowPhase::Running);
}

#[test]
fn what_is_approved_is_shown_as_the_agent_will_get_it() {
    let plan_for = |url: &str| {
        let mut scene = Scene::new("unused");
        scene.observation.spec.template_ref = None;
        let template = json!({"stages": [
            {"name": "make", "agent": "worker"},
            {"name": "ship", "agent": "worker", "needs": ["make"], "approval": {"question": "Ship it?"},
             "payload": {"what": "${{ stages.make.outputs.url }}", "who": "${{ approval.by }}"}},
        ]});
        scene.observation.spec.template = Some(serde_json::from_value(template).unwrap());
        scene.act();
        scene.act();
        scene.result("make", success(json!({"url": url})));
        asked(&scene.act())
    };
    let (name, request) = plan_for("http://a");
    assert_eq!(
        request.subject.plan,
        r#"{"agent":"worker","payload":{"what":"http://a","who":""}}"#
    );
    let (other, about) = plan_for("http://b");
    assert_ne!((name, request.subject.digest), (other, about.subject.digest));
}
