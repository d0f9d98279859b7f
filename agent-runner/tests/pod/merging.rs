//! Each way to bring work to a branch, on repositories of libgit2.

use std::collections::BTreeMap;

use git2::Oid;
use serde_json::json;
use stagecraft_agent_runner::runner::integrate::{Conflict, MergeError, Merged, merge};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::payload::{IntegrationPayload, MergeStrategy};

use crate::history::History;
use MergeStrategy::{FastForward, Merge, Rebase, Squash};

const ALL: [MergeStrategy; 4] = [Merge, Squash, Rebase, FastForward];
const ATTEMPT: &str = "Stagecraft-Attempt: 0f8f7c6e-58a1-4b8e-9a43-0d6d6a6f6d11/scaffold/1";

impl History {
    fn merge(&self, strategy: MergeStrategy, tip: Option<Oid>, work: Oid) -> Result<Merged, MergeError> {
        merge(&self.repository, &task(1), &payload(strategy), tip, work)
    }

    fn conflict(&self, strategy: MergeStrategy, tip: Oid, work: Oid) -> Conflict {
        match self.merge(strategy, Some(tip), work) {
            Err(MergeError::Conflict(conflict)) => conflict,
            other => panic!("{strategy:?}: {other:?}"),
        }
    }
}

fn task(attempt: u32) -> TaskEnvelope {
    let mut task = crate::task::task(&json!({}));
    task.attempt.attempt = attempt;
    task
}

fn payload(strategy: MergeStrategy) -> IntegrationPayload {
    IntegrationPayload {
        strategy,
        ..IntegrationPayload::default()
    }
}

/// A base, two commits of work upon it, and a branch that went on from the base elsewhere.
struct Fork {
    history: History,
    base: Oid,
    first: Oid,
    work: Oid,
    tip: Oid,
}

fn fork() -> Fork {
    let history = History::new();
    let base = history.commit(&[], &[("a", "1\n"), ("b", "1\n")]);
    let first = history.commit_by(
        "Bea",
        "first\n\nwith a body\n",
        &[base],
        &[("a", "2\n"), ("b", "1\n")],
    );
    let files = [("a", "2\n"), ("b", "1\n"), ("src/new", "x\n")];
    let work = history.commit_by("Cid", "second\n", &[first], &files);
    let tip = history.commit(&[base], &[("a", "1\n"), ("b", "3\n"), ("other", "o\n")]);
    Fork {
        history,
        base,
        first,
        work,
        tip,
    }
}

/// What all strategies that can join the two make of the fork.
fn joined() -> BTreeMap<String, String> {
    [("a", "2\n"), ("b", "3\n"), ("other", "o\n"), ("src/new", "x\n")]
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

#[test]
fn a_merge_has_both_sides_as_parents_and_names_the_attempt() {
    let Fork {
        history,
        base,
        work,
        tip,
        ..
    } = fork();
    let merged = history.merge(Merge, Some(tip), work).unwrap();
    assert_eq!((merged.commits, merged.already), (2, false));
    assert_eq!(history.parents(merged.commit), [tip, work]);
    assert_eq!(history.files(merged.commit), joined());
    assert_eq!(
        history.message(merged.commit),
        format!("Merge shop work of Workflow shop into main\n\n{ATTEMPT}\n")
    );
    let commit = history.find(merged.commit);
    for signature in [commit.author(), commit.committer()] {
        assert_eq!(signature.name().unwrap(), "Stagecraft");
        assert_eq!(
            signature.when().seconds(),
            task(1).created_at.timestamp().as_second()
        );
    }
    // Also where a fast-forward would do.
    let merged = history.merge(Merge, Some(base), work).unwrap();
    assert_eq!(history.parents(merged.commit), [base, work]);
    assert_eq!(merged.commits, 2);
}

#[test]
fn a_squash_is_one_commit_upon_the_branch_that_lists_the_others() {
    let Fork {
        history,
        first,
        work,
        tip,
        ..
    } = fork();
    let merged = history.merge(Squash, Some(tip), work).unwrap();
    assert_eq!((merged.commits, merged.already), (2, false));
    assert_eq!(history.parents(merged.commit), [tip]);
    assert_eq!(history.files(merged.commit), joined());
    let [first, second] = [first, work].map(|id| id.to_string()[..12].to_owned());
    assert_eq!(
        history.message(merged.commit),
        format!(
            "Merge shop work of Workflow shop into main\n\nSquashed commits:\n* {first} first\n* {second} second\n\n{ATTEMPT}\n"
        )
    );
}

#[test]
fn a_squash_of_many_commits_lists_the_first_hundred() {
    let history = History::new();
    let mut work = history.commit(&[], &[("a", "0")]);
    for number in 1..=102 {
        work = history.commit(&[work], &[("a", &number.to_string())]);
    }
    let merged = history.merge(Squash, None, work).unwrap();
    let message = history.message(merged.commit);
    assert_eq!(message.lines().filter(|line| line.starts_with("* ")).count(), 101);
    assert!(
        message.contains("\n* and 3 more\n\nStagecraft-Attempt: "),
        "{message}"
    );
}

#[test]
fn a_rebase_keeps_authors_and_messages_and_is_committed_by_stagecraft() {
    let Fork {
        history, work, tip, ..
    } = fork();
    let merged = history.merge(Rebase, Some(tip), work).unwrap();
    assert_eq!((merged.commits, merged.already), (2, false));
    assert_eq!(history.files(merged.commit), joined());
    let last = history.find(merged.commit);
    let before = last.parent(0).unwrap();
    assert_eq!(before.parent_ids().collect::<Vec<_>>(), [tip]);
    assert_eq!(history.names(before.id()), "a b other");
    for (commit, author, message) in [
        (&before, "Bea", "first\n\nwith a body\n"),
        (&last, "Cid", "second\n"),
    ] {
        assert_eq!(commit.parent_count(), 1);
        assert_eq!(commit.author().name().unwrap(), author);
        assert_eq!(commit.author().when().seconds(), 1_700_000_000);
        assert_eq!(commit.author().when().offset_minutes(), 60);
        assert_eq!(commit.message_raw().unwrap(), message);
        assert_eq!(commit.committer().name().unwrap(), "Stagecraft");
    }
}

#[test]
fn a_rebase_leaves_out_what_changes_nothing_any_more() {
    let Fork {
        history,
        base,
        first,
        work,
        tip,
    } = fork();
    let side = history.commit(&[base], &[("a", "1\n"), ("b", "1\n"), ("side", "s\n")]);
    let all = [("a", "2\n"), ("b", "1\n"), ("side", "s\n"), ("src/new", "x\n")];
    let knot = history.commit(&[work, side], &all);
    // The change of `first`, made on the branch by somebody else.
    let tip = history.commit(&[tip], &[("a", "2\n"), ("b", "3\n"), ("other", "o\n")]);
    let merged = history.merge(Rebase, Some(tip), knot).unwrap();
    assert_eq!(history.names(merged.commit), "a b other side src/new");
    // Of `first`, `work`, `side` and `knot`, two are left.
    let summaries: Vec<String> = history
        .above(tip, merged.commit)
        .iter()
        .map(|id| history.find(*id).summary().unwrap().unwrap().to_owned())
        .collect();
    assert_eq!(summaries.len(), 2, "{summaries:?}");
    let first = history.find(first);
    assert!(!summaries.contains(&first.summary().unwrap().unwrap().to_owned()));
}

#[test]
fn what_a_merge_alone_changed_is_not_lost_in_a_rebase() {
    let Fork {
        history,
        base,
        work,
        tip,
        ..
    } = fork();
    let side = history.commit(&[base], &[("a", "1\n"), ("b", "1\n"), ("side", "s\n")]);
    let all = [
        ("a", "2\n"),
        ("b", "1\n"),
        ("own", "k\n"),
        ("side", "s\n"),
        ("src/new", "x\n"),
    ];
    let knot = history.commit_by("Kit", "knot", &[work, side], &all);
    let merged = history.merge(Rebase, Some(tip), knot).unwrap();
    assert_eq!(history.names(merged.commit), "a b other own side src/new");
    assert_eq!(history.above(tip, merged.commit).len(), 4);
    assert_eq!(history.find(merged.commit).author().name().unwrap(), "Kit");
}

#[test]
fn work_that_is_upon_the_branch_already_is_rebased_to_itself() {
    let Fork {
        history, base, work, ..
    } = fork();
    let merged = history.merge(Rebase, Some(base), work).unwrap();
    assert_eq!((merged.commit, merged.commits), (work, 2));
}

#[test]
fn a_fast_forward_makes_no_commit_and_is_refused_where_the_branch_went_on() {
    let Fork {
        history,
        base,
        work,
        tip,
        ..
    } = fork();
    let merged = history.merge(FastForward, Some(base), work).unwrap();
    assert_eq!(
        merged,
        Merged {
            commit: work,
            commits: 2,
            already: false
        }
    );
    let error = history.merge(FastForward, Some(tip), work).unwrap_err();
    assert!(matches!(error, MergeError::NotFastForward { .. }), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains(&tip.to_string()) && text.contains(&work.to_string()),
        "{text}"
    );
}

#[test]
fn a_branch_that_does_not_exist_begins_with_the_work() {
    let Fork { history, work, .. } = fork();
    for strategy in [Merge, Rebase, FastForward] {
        let merged = history.merge(strategy, None, work).unwrap();
        assert_eq!((merged.commit, merged.commits, merged.already), (work, 3, false));
    }
    let merged = history.merge(Squash, None, work).unwrap();
    assert_eq!((merged.commits, merged.already), (3, false));
    assert!(history.parents(merged.commit).is_empty());
    assert_eq!(history.files(merged.commit), history.files(work));
}

#[test]
fn work_that_the_branch_has_moves_nothing() {
    let Fork {
        history,
        first,
        work,
        tip,
        ..
    } = fork();
    for strategy in ALL {
        for at in [first, work] {
            let merged = history.merge(strategy, Some(work), at).unwrap();
            assert_eq!((merged.commit, merged.commits, merged.already), (work, 0, true));
        }
    }
    // By other commits: what was squashed or rebased before.
    for strategy in [Squash, Rebase] {
        let before = history.merge(strategy, Some(tip), work).unwrap().commit;
        let again = history.merge(strategy, Some(before), work).unwrap();
        assert_eq!(
            (again.commit, again.commits, again.already),
            (before, 0, true),
            "{strategy:?}"
        );
    }
}

#[test]
fn conflicts_name_their_paths_and_leave_nothing() {
    let Fork {
        history, base, work, ..
    } = fork();
    let tip = history.commit(&[base], &[("a", "9\n"), ("b", "1\n"), ("src/new", "y\n")]);
    for strategy in [Merge, Squash] {
        let conflict = history.conflict(strategy, tip, work);
        assert_eq!(
            conflict,
            Conflict {
                paths: vec!["a".to_owned(), "src/new".to_owned()],
                total: 2,
                at: None,
                unrelated: false
            }
        );
        assert_eq!(
            conflict.to_string(),
            "work and branch both changed 2 files: a, src/new"
        );
    }
    let conflict = history.conflict(Rebase, tip, work);
    assert_eq!(conflict.paths, ["a"]);
    assert!(conflict.at.unwrap().ends_with(" first"));
    // One side changes what the other removes.
    let removed = history.commit(&[base], &[("b", "1\n")]);
    assert_eq!(history.conflict(Merge, removed, work).paths, ["a"]);
}

#[test]
fn of_many_conflicts_the_first_ten_are_named() {
    let history = History::new();
    let names: Vec<String> = (0..25).map(|number| format!("f{number:02}")).collect();
    let side = |text: &'static str| -> Vec<(&str, &str)> {
        names.iter().map(|name| (name.as_str(), text)).collect()
    };
    let base = history.commit(&[], &side("0\n"));
    let work = history.commit(&[base], &side("1\n"));
    let tip = history.commit(&[base], &side("2\n"));
    let conflict = history.conflict(Merge, tip, work);
    assert_eq!((conflict.total, conflict.paths.len()), (25, 10));
    assert_eq!(conflict.paths, names[..10]);
    assert!(conflict.to_string().ends_with("f09 and 15 more"), "{conflict}");
}

#[test]
fn histories_without_a_common_commit_are_joined_where_no_path_differs() {
    let history = History::new();
    let work = history.commit(&[], &[("same", "s\n"), ("work", "w\n")]);
    let tip = history.commit(&[], &[("same", "s\n"), ("tip", "t\n")]);
    for strategy in [Merge, Squash, Rebase] {
        let merged = history.merge(strategy, Some(tip), work).unwrap();
        assert_eq!(history.names(merged.commit), "same tip work", "{strategy:?}");
    }
    let tip = history.commit(&[], &[("same", "other\n"), ("tip", "t\n")]);
    for strategy in [Merge, Squash, Rebase] {
        let conflict = history.conflict(strategy, tip, work);
        assert_eq!(
            (conflict.paths, conflict.unrelated),
            (vec!["same".to_owned()], true)
        );
    }
    assert!(matches!(
        history.merge(FastForward, Some(tip), work),
        Err(MergeError::NotFastForward { .. })
    ));
}

#[test]
fn attributes_of_the_project_do_not_change_how_it_is_merged() {
    let history = History::new();
    let attributes = (".gitattributes", "* merge=union\nb merge=evil\n");
    let base = history.commit(&[], &[attributes, ("a", "0\n"), ("b", "0\n")]);
    let work = history.commit(&[base], &[attributes, ("a", "1\n"), ("b", "1\n")]);
    let tip = history.commit(&[base], &[attributes, ("a", "2\n"), ("b", "2\n")]);
    assert_eq!(history.conflict(Merge, tip, work).paths, ["a", "b"]);
}

#[test]
fn the_same_task_makes_the_same_commits() {
    let made = |strategy, attempt| {
        let Fork {
            history, work, tip, ..
        } = fork();
        let task = task(attempt);
        merge(&history.repository, &task, &payload(strategy), Some(tip), work)
            .unwrap()
            .commit
    };
    for strategy in [Merge, Squash, Rebase] {
        assert_eq!(made(strategy, 1), made(strategy, 1));
    }
    for strategy in [Merge, Squash] {
        assert_ne!(made(strategy, 1), made(strategy, 2), "the attempt stands in it");
    }
}
