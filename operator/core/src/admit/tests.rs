use super::*;

fn at(seconds: u64) -> Moment {
    let start: Moment = serde_json::from_value(serde_json::json!("2026-11-01T10:00:00Z")).unwrap();
    start.plus_seconds(seconds)
}

fn candidate(uid: &str, namespace: &str, since: u64) -> Candidate {
    Candidate {
        place: Place {
            workflow_uid: uid.to_owned(),
            stage: "work".to_owned(),
        },
        seat: seat(namespace),
        priority: Priority::Medium,
        since: at(since),
        agent_limit: None,
        key: None,
    }
}

fn seat(namespace: &str) -> Seat {
    Seat {
        namespace: namespace.to_owned(),
        agent: "worker".to_owned(),
    }
}

fn limited(limit: usize) -> Settings {
    Settings {
        max_running_stages: Some(limit),
        ..Settings::default()
    }
}

fn running(namespaces: &[&str]) -> Running {
    Running {
        seats: namespaces.iter().map(|namespace| seat(namespace)).collect(),
        keys: BTreeMap::new(),
    }
}

fn names(ordered: &[&Candidate]) -> Vec<String> {
    ordered
        .iter()
        .map(|candidate| candidate.place.workflow_uid.clone())
        .collect()
}

fn in_order(candidates: &[Candidate], running: &Running, now: u64) -> Vec<String> {
    names(&order(candidates, running, at(now), &Settings::default()))
}

#[test]
fn the_urgent_go_first_and_the_patient_catch_up() {
    let mut critical = candidate("critical", "a", 90);
    critical.priority = Priority::Critical;
    let mut low = candidate("low", "a", 0);
    low.priority = Priority::Low;
    let medium = candidate("medium", "a", 50);
    let all = [low, medium, critical];
    assert_eq!(
        in_order(&all, &Running::default(), 100),
        ["critical", "medium", "low"]
    );
    // One class each ten minutes.
    assert_eq!(
        in_order(&all, &Running::default(), 3 * 600),
        ["low", "medium", "critical"]
    );
}

#[test]
fn namespaces_take_turns_however_much_one_of_them_wants() {
    let mut all: Vec<Candidate> = (0..4)
        .map(|number| candidate(&format!("a{number}"), "a", number))
        .collect();
    all.push(candidate("b0", "b", 50));
    all.push(candidate("c0", "c", 60));
    assert_eq!(
        in_order(&all, &Running::default(), 100),
        ["a0", "b0", "c0", "a1", "a2", "a3"]
    );
    assert_eq!(
        in_order(&all, &running(&["b", "b"]), 100),
        ["a0", "c0", "a1", "a2", "b0", "a3"]
    );
}

#[test]
fn seats_are_given_in_order_up_to_each_limit_which_is_named() {
    let all = [
        candidate("a", "x", 0),
        candidate("b", "x", 1),
        candidate("c", "y", 2),
    ];
    let ordered: Vec<&Candidate> = all.iter().collect();
    let (picks, held) = admit(&ordered, &running(&["z"]), &limited(2));
    assert_eq!(names(&picks), ["a"]);
    assert_eq!(held.len(), 2);
    assert!(
        held.values()
            .all(|obstacle| *obstacle == Obstacle::Installation(2)),
        "{held:?}"
    );

    let settings = Settings {
        max_running_stages_per_namespace: Some(1),
        ..Settings::default()
    };
    let (picks, held) = admit(&ordered, &Running::default(), &settings);
    assert_eq!(names(&picks), ["a", "c"], "a full namespace holds no other back");
    assert!(
        held[&all[1].place]
            .to_string()
            .contains("operator.maxRunningStagesPerNamespace"),
        "{held:?}"
    );

    let mut scarce = candidate("d", "x", 0);
    scarce.agent_limit = Some(1);
    let (picks, held) = admit(&[&scarce], &running(&["elsewhere"]), &Settings::default());
    assert!(
        picks.is_empty()
            && held[&scarce.place]
                .to_string()
                .contains("maxRunning of the Agent"),
        "{held:?}"
    );
    let (picks, _) = admit(&ordered, &Running::default(), &Settings::default());
    assert_eq!(picks.len(), 3, "without limits everything starts");
}

#[test]
fn one_workflow_of_a_key_runs_in_each_namespace() {
    let keyed = |uid: &str, namespace: &str, since| Candidate {
        key: Some("deploy".to_owned()),
        ..candidate(uid, namespace, since)
    };
    let all = [keyed("a", "x", 0), keyed("b", "x", 1), keyed("c", "y", 2)];
    let ordered: Vec<&Candidate> = all.iter().collect();
    let (picks, held) = admit(&ordered, &Running::default(), &Settings::default());
    assert_eq!(names(&picks), ["a", "c"]);
    assert!(
        held[&all[1].place]
            .to_string()
            .contains("spec.concurrency.key \"deploy\""),
        "{held:?}"
    );
    let mut taken = Running::default();
    taken
        .keys
        .insert(("x".to_owned(), "deploy".to_owned()), "b".to_owned());
    let (picks, _) = admit(&ordered, &taken, &Settings::default());
    assert_eq!(names(&picks), ["b", "c"], "who has it keeps it");
}

#[test]
fn those_who_cannot_start_take_up_no_turn_of_their_namespace() {
    let keyed = |number: u64| Candidate {
        key: Some("deploy".to_owned()),
        ..candidate(&format!("keyed{number}"), "a", number)
    };
    let mut scarce = candidate("scarce", "a", 0);
    scarce.seat.agent = "scarce".to_owned();
    scarce.agent_limit = Some(0);
    let mut waiting: Vec<Candidate> = (0..100).map(keyed).collect();
    waiting.extend([scarce, candidate("free", "a", 50)]);
    let mut busy = running(&["b"]);
    busy.keys
        .insert(("a".to_owned(), "deploy".to_owned()), "other".to_owned());
    // A namespace that always has more to do than there are seats.
    waiting.extend((0..10).map(|number| candidate(&format!("b{number}"), "b", 10 + number)));
    let ordered = order(&waiting, &busy, at(100), &limited(2));
    assert_eq!(names(&ordered)[0], "free");
    let (picks, held) = admit(&ordered, &busy, &limited(2));
    assert_eq!(names(&picks), ["free"]);
    assert_eq!(held[&waiting[0].place], Obstacle::Key("deploy".to_owned()));
    assert_eq!(names(&ordered).len(), waiting.len());
}

#[test]
fn with_one_seat_everybody_gets_it_in_the_end() {
    // Somebody urgent comes every second, and each run takes a second: the patient one is not starved.
    let settings = limited(1);
    let mut patient = candidate("patient", "a", 0);
    patient.priority = Priority::Low;
    let mut waiting = vec![patient];
    for second in 0..3_000 {
        let mut urgent = candidate(&format!("urgent{second:05}"), "b", second);
        urgent.priority = Priority::Critical;
        waiting.push(urgent);
        let pick = order(&waiting, &Running::default(), at(second), &settings)[0]
            .place
            .clone();
        if pick.workflow_uid == "patient" {
            assert!(second >= 1_800, "{second}");
            return;
        }
        waiting.retain(|candidate| candidate.place != pick);
    }
    panic!("it starves");
}
