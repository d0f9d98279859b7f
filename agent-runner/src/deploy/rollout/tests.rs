use serde_json::{Value, json};

use super::*;

fn facts(present: i32, updated: i32, available: i32) -> Facts {
    Facts {
        generation: 3,
        observed_generation: 3,
        wanted: 2,
        present,
        updated,
        available,
        ..Facts::default()
    }
}

fn with(pods: Vec<PodFacts>) -> Facts {
    Facts {
        pods,
        ..facts(2, 1, 0)
    }
}

fn pod(change: impl FnOnce(&mut PodFacts)) -> PodFacts {
    let mut pod = PodFacts {
        name: "shop-x".into(),
        ..PodFacts::default()
    };
    change(&mut pod);
    pod
}

fn waits(reason: &str) -> PodFacts {
    pod(|pod| pod.waiting = Some((reason.into(), "because".into())))
}

fn crashed(restarts: i32, waiting: bool) -> PodFacts {
    pod(|pod| {
        pod.restarts = restarts;
        pod.ended = Some("status 1 (Error)".into());
        if waiting {
            pod.waiting = Some(("CrashLoopBackOff".into(), String::new()));
        }
    })
}

/// What a case expects: to go on, to be good, or to have failed for a reason of this kind that holds this text.
enum Expected {
    Wait(&'static str),
    Good,
    Failed(Kind, &'static str),
}

type Case = (&'static str, Facts, Duration, Expected);

fn judge(cases: impl IntoIterator<Item = Case>) {
    use Expected::{Failed, Good, Wait};
    for (what, facts, trouble_for, expected) in cases {
        match (facts.judge(trouble_for), expected) {
            (State::Good, Good) => {}
            (State::Wait(found), Wait(text)) => assert!(found.contains(text), "{what}: {found}"),
            (State::Failed(found), Failed(kind, text)) => {
                assert_eq!(found.kind, kind, "{what}");
                assert!(found.reason.contains(text), "{what}: {found:?}");
            }
            (found, _) => panic!("{what}: {found:?}"),
        }
    }
}

fn given_up(message: &str) -> GivenUp {
    GivenUp {
        message: message.to_owned(),
        at: None,
    }
}

#[test]
fn what_the_controller_says_is_judged_by_the_table() {
    use Expected::{Failed, Good, Wait};
    let short = Duration::from_secs(5);
    judge([
        ("complete", facts(2, 2, 2), short, Good),
        ("half", facts(2, 2, 1), short, Wait("1 of 2")),
        ("an old Pod is left", facts(3, 2, 2), short, Wait("2 of 2")),
        ("old Pods serve", facts(3, 1, 2), short, Wait("1 of 2")),
        (
            "the change is not seen",
            Facts {
                observed_generation: 2,
                ..facts(2, 2, 2)
            },
            short,
            Wait("not seen"),
        ),
        (
            "given up, before that the change was not seen",
            Facts {
                observed_generation: 2,
                given_up: Some(given_up("late")),
                ..facts(2, 1, 0)
            },
            short,
            Wait("not seen"),
        ),
        (
            "given up",
            Facts {
                given_up: Some(given_up("exceeded its progress deadline")),
                ..facts(2, 1, 1)
            },
            short,
            Failed(Kind::Stuck, "exceeded"),
        ),
        (
            "given up and nevertheless complete",
            Facts {
                given_up: Some(given_up("late")),
                ..facts(2, 2, 2)
            },
            short,
            Good,
        ),
    ]);
}

#[test]
fn what_the_pods_say_is_judged_by_the_table() {
    use Expected::{Failed, Wait};
    let short = Duration::from_secs(5);
    judge([
        (
            "not pulled for a moment",
            with(vec![waits("ErrImagePull")]),
            short,
            Wait("0 of 2"),
        ),
        (
            "not pulled for long",
            with(vec![waits("ImagePullBackOff")]),
            TROUBLE,
            Failed(Kind::Pull, "shop-x waits with ImagePullBackOff: because"),
        ),
        (
            "no name of an image",
            with(vec![waits("InvalidImageName")]),
            Duration::ZERO,
            Failed(Kind::Pull, "InvalidImageName"),
        ),
        (
            "no container for long",
            with(vec![waits("CreateContainerError")]),
            TROUBLE,
            Failed(Kind::Stuck, "CreateContainerError"),
        ),
        (
            "being made",
            with(vec![waits("ContainerCreating")]),
            TROUBLE,
            Wait("0 of 2"),
        ),
        ("ended once", with(vec![crashed(1, true)]), short, Wait("0 of 2")),
        (
            "ended again and again",
            with(vec![crashed(2, true)]),
            short,
            Failed(
                Kind::Crash,
                "started 3 times and ended each time, last with status 1",
            ),
        ),
        (
            "started once more",
            with(vec![crashed(2, false)]),
            short,
            Wait("0 of 2"),
        ),
        (
            "ended too often",
            with(vec![crashed(3, false)]),
            short,
            Failed(Kind::Crash, "4 times"),
        ),
    ]);
}

#[test]
fn what_is_late_has_the_reason_that_is_nearest_to_the_application() {
    let unready = pod(|pod| pod.running = true);
    let homeless = pod(|pod| pod.unscheduled = Some("0/1 nodes are available".into()));
    for (pods, kind, text) in [
        (
            vec![unready.clone(), waits("ErrImagePull")],
            Kind::Pull,
            "ErrImagePull",
        ),
        (vec![unready.clone(), crashed(1, false)], Kind::Crash, "2 times"),
        (vec![homeless.clone(), unready], Kind::Unwell, "not ready"),
        (vec![homeless], Kind::Stuck, "0/1 nodes"),
        (vec![], Kind::Stuck, "0 of 2"),
    ] {
        let cause = with(pods).overdue();
        assert_eq!(cause.kind, kind, "{cause:?}");
        assert!(cause.reason.contains(text), "{cause:?}");
    }
    let refused = Facts {
        refused: Some("exceeded quota".into()),
        given_up: Some(given_up("late")),
        ..with(vec![])
    };
    assert!(refused.overdue().reason.contains("exceeded quota"));
}

fn read(status: &Value, container: &Value, conditions: &Value) -> Facts {
    let deployment = serde_json::from_value(json!({
        "metadata": {"name": "shop", "generation": 4},
        "spec": {"replicas": 3, "selector": {}, "template": {}},
        "status": status,
    }))
    .unwrap();
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "shop-x"},
        "status": {"containerStatuses": [container], "conditions": conditions},
    }))
    .unwrap();
    Facts::of(&deployment, [&pod])
}

#[test]
fn facts_are_read_from_what_kubernetes_says() {
    let status = json!({"observedGeneration": 4, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 2,
    "conditions": [
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"},
        {"type": "ReplicaFailure", "status": "True", "message": "quota"},
    ]});
    let container = json!({"name": "web", "image": "", "imageID": "", "ready": false, "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}});
    let found = read(
        &status,
        &container,
        &json!([{"type": "Ready", "status": "False"}]),
    );
    let expected = Facts {
        generation: 4,
        observed_generation: 4,
        wanted: 3,
        present: 4,
        updated: 3,
        available: 2,
        given_up: Some(given_up("late")),
        refused: Some("quota".into()),
        pods: vec![PodFacts {
            name: "shop-x".into(),
            waiting: Some(("CrashLoopBackOff".into(), "back-off".into())),
            restarts: 2,
            ended: Some("status 137 (OOMKilled)".into()),
            ..PodFacts::default()
        }],
    };
    assert_eq!(found, expected);
    let running = json!({"name": "web", "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": {"running": {}}});
    let conditions = json!([{"type": "Ready", "status": "True"},
        {"type": "PodScheduled", "status": "False", "message": "no room"}]);
    let found = read(&json!({}), &running, &conditions);
    let pod = found.pods.first().unwrap();
    assert!(pod.running && pod.ready);
    assert_eq!(pod.unscheduled.as_deref(), Some("no room"));
    assert_eq!(found.given_up, None);
}
