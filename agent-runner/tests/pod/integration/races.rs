//! A branch that others move, and moves whose answer nobody heard.

use std::fs;

use serde_json::json;
use stagecraft_agent_runner::runner::integrate::Beginning;
use stagecraft_api::Category;

use super::{Place, foreign, fork, stored, succeeded};
use crate::gateway::{Call, Fault};

#[tokio::test]
async fn a_branch_that_moved_meanwhile_is_for_the_next_attempt() {
    let (history, work, tip) = fork();
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let merged = place.merged().await;
    let quicker = history.commit(&[tip], &[("a", "1\n"), ("tip", "t\n"), ("more", "m\n")]);
    let quicker = foreign(2, stored(&place.gateway, &history, quicker));
    place.gateway.change(|seen| seen.moves.push(quicker));

    let error = place.finish_well(&merged).await.unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.category),
        ("BranchMoved", Category::Dependency)
    );
    assert!(error.retryable);
    assert_eq!(place.gateway.seen().moves.len(), 2);

    // The next one merges with what is there now.
    let mut next = Place { ..place };
    fs::remove_dir_all(next.layout().workspace()).unwrap();
    fs::create_dir(next.layout().workspace()).unwrap();
    next.task.attempt.attempt = 2;
    next.gateway
        .change(|seen| seen.task.as_mut().unwrap().attempt.attempt = 2);
    let merged = next.merged().await;
    assert_eq!(next.workspace_names(), ["a", "more", "tip", "work"]);
    let end = succeeded(next.finish_well(&merged).await.unwrap().outcome);
    assert_eq!(next.gateway.seen().moves[2].workspace, end.workspace);
}

#[tokio::test]
async fn a_death_after_the_move_is_made_good_by_the_same_attempt_or_the_next() {
    let (history, work, tip) = fork();
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let merged = place.merged().await;
    place.gateway.fault(Call::Move, Fault::HoldReply, 1);
    {
        let dying = place.finish_well(&merged);
        let moved = place
            .gateway
            .wait("the move", |seen| (seen.moves.len() == 2).then_some(()));
        tokio::select! {
            outcome = dying => panic!("{outcome:?}"),
            () = moved => {}
        }
    }
    // The runner is started again, and does it all again.
    let again = succeeded(place.finish_well(&merged).await.unwrap().outcome);
    assert_eq!(place.gateway.seen().moves.len(), 2);

    // Or its Pod is gone as well, and the next attempt finds what was done.
    let mut next = Place { ..place };
    next.task.attempt.attempt = 2;
    next.gateway
        .change(|seen| seen.task.as_mut().unwrap().attempt.attempt = 2);
    let Beginning::TakenOver(collected) = next.begin().await.unwrap() else {
        panic!("it merges again");
    };
    let taken_over = succeeded(collected.outcome);
    assert_eq!(taken_over.workspace, again.workspace);
    assert_eq!(taken_over.outputs, again.outputs);
    assert_eq!(taken_over.artifacts, again.artifacts);
    assert_eq!(taken_over.metrics, again.metrics);
    assert_eq!(taken_over.summary, again.summary);
}

#[tokio::test]
async fn a_move_that_an_earlier_attempt_made_meanwhile_is_taken_over() {
    let (history, work, tip) = fork();
    let mut place = Place::new(&json!({}), &history, work, Some(tip));
    place.task.attempt.attempt = 2;
    let merged = place.merged().await;
    // The first attempt was believed dead. Its request arrives now.
    let first = place.finish_well(&merged).await.unwrap();
    assert_eq!(place.gateway.seen().moves.len(), 2);
    place.gateway.change(|seen| {
        seen.task.as_mut().unwrap().attempt.attempt = 2;
        seen.moves[1].outputs["summary"] = json!("by the first");
    });
    let end = succeeded(place.finish_well(&merged).await.unwrap().outcome);
    assert_eq!(end.summary, "by the first");
    assert_eq!(end.workspace, succeeded(first.outcome).workspace);
    assert_eq!(place.gateway.seen().moves.len(), 2);
}

#[tokio::test]
async fn a_branch_that_moves_while_it_is_fetched_is_fetched_again() {
    let (history, work, tip) = fork();
    let place = Place::new(&json!({}), &history, work, Some(tip));
    let later = history.commit(&[tip], &[("a", "1\n"), ("tip", "t\n"), ("more", "m\n")]);
    let later = foreign(2, stored(&place.gateway, &history, later));
    place.gateway.change(|seen| {
        seen.moves.push(later);
        seen.lagging = 3;
    });
    let merged = place.merged().await;
    assert_eq!(place.workspace_names(), ["a", "more", "tip", "work"]);
    assert_eq!(
        merged.from.as_deref(),
        Some(place.gateway.seen().moves[1].workspace.commit.as_str())
    );

    place.gateway.change(|seen| seen.lagging = usize::MAX);
    let error = place.begin().await.unwrap_err().structured();
    assert_eq!((error.code.as_str(), error.retryable), ("BranchMoved", true));
}
