//! Branches in the store alone: races, deaths in the middle, and what a purge leaves.

use std::sync::Arc;

use futures::future::join_all;
use object_store::memory::InMemory;
use stagecraft_api::protocol::BranchEntry;
use stagecraft_api::status::WorkspaceRef;
use stagecraft_api::{AttemptKey, Digest, Moment};
use stagecraft_gateway::store::Store;
use stagecraft_gateway::store::branches::{Branch, Copied, Turn};
use stagecraft_gateway::upload;

fn commit(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn branch() -> Branch {
    Branch {
        namespace: "team".to_owned(),
        project: "shop".to_owned(),
        name: "main".to_owned(),
    }
}

fn mover(number: u32) -> AttemptKey {
    AttemptKey {
        workflow_uid: format!("uid-{number}"),
        stage: "integrate".to_owned(),
        attempt: 1,
    }
}

fn entry(number: u64, key: &AttemptKey, commit: &str, bundle: &Digest) -> BranchEntry {
    BranchEntry {
        number,
        workspace: WorkspaceRef {
            commit: commit.to_owned(),
            bundle: bundle.clone(),
            bytes: 7,
            changes: None,
        },
        from: None,
        moved_by: key.clone(),
        at: Moment::now(),
        outputs: serde_json::Map::new(),
    }
}

async fn uploaded(store: &Store, key: &AttemptKey) -> Digest {
    let content = [Ok::<_, std::io::Error>(bytes::Bytes::from_static(b"history"))];
    let digest = Digest::of(b"history");
    upload::receive(store, key, &digest, futures::stream::iter(content))
        .await
        .unwrap();
    digest
}

/// What a mover does from a look at the tip to its own move.
async fn try_move(store: Store, number: u32) -> Option<BranchEntry> {
    let (branch, key, commit) = (branch(), mover(number), format!("{number:0>40}"));
    loop {
        let Turn::Next { number, .. } = store.turn(&branch, &key, None, &commit).await.unwrap() else {
            return None;
        };
        let entry = entry(number, &key, &commit, &Digest::of(b"history"));
        if store.record(&branch, &entry).await.unwrap() {
            return Some(entry);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_movers_one_wins_in_any_store() {
    let directory = tempfile::tempdir().unwrap();
    for store in [
        Store::open(directory.path()).unwrap(),
        Store::over(Arc::new(InMemory::new())),
    ] {
        let movers = (1..=20).map(|number| tokio::spawn(try_move(store.clone(), number)));
        let won: Vec<BranchEntry> = join_all(movers)
            .await
            .into_iter()
            .filter_map(|outcome| outcome.unwrap())
            .collect();
        assert_eq!(won.len(), 1, "{won:?}");
        assert_eq!(store.tip(&branch()).await.unwrap().as_ref(), won.first());
        // Each of them had announced the move; only one finds that it made it.
        for number in 1..=20 {
            let own = store.move_of(&branch(), &mover(number)).await.unwrap();
            assert_eq!(own.is_some(), mover(number) == won[0].moved_by, "{number}");
        }
    }
}

#[tokio::test]
async fn a_death_between_copy_and_move_leaves_the_branch_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (branch, key) = (branch(), mover(1));
    let digest = uploaded(&store, &key).await;
    let copied = store
        .keep_bundle(&branch, &key.workflow_uid, &digest)
        .await
        .unwrap();
    assert_eq!(copied, Copied::Whole);
    drop(store);
    // What the copy before that was cut off in left behind.
    let staged = directory.path().join("projects/team/shop/blobs/cut#1");
    std::fs::write(&staged, "part").unwrap();

    let store = Store::open(directory.path()).unwrap();
    assert!(!staged.exists());
    assert_eq!(store.tip(&branch).await.unwrap(), None);
    assert_eq!(store.move_of(&branch, &key).await.unwrap(), None);
    let copied = store
        .keep_bundle(&branch, &key.workflow_uid, &digest)
        .await
        .unwrap();
    assert_eq!(copied, Copied::Whole);
    let first = entry(1, &key, &commit('a'), &digest);
    assert!(store.record(&branch, &first).await.unwrap());

    // After the move, before the answer: what was made stands, and nobody makes it again.
    let store = Store::open(directory.path()).unwrap();
    assert!(!store.record(&branch, &first).await.unwrap());
    let turn = store.turn(&branch, &key, None, &commit('a')).await.unwrap();
    assert_eq!(turn, Turn::Repeated(first.clone()));
    let next = AttemptKey { attempt: 2, ..key };
    let turn = store
        .turn(&branch, &next, Some(&commit('a')), &commit('b'))
        .await
        .unwrap();
    assert_eq!(turn, Turn::Spent(first));
}

#[tokio::test]
async fn an_announcement_without_a_move_takes_nobodys_turn() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let branch = branch();
    // The gateway was killed after the announcement of move 1, which another stage has made since.
    let path = "projects/team/shop/branches/main/movers/uid-1/integrate";
    std::fs::create_dir_all(directory.path().join(path)).unwrap();
    std::fs::write(directory.path().join(path).join("1"), "").unwrap();
    let digest = Digest::of(b"history");
    assert!(
        store
            .record(&branch, &entry(1, &mover(2), &commit('a'), &digest))
            .await
            .unwrap()
    );
    assert_eq!(store.move_of(&branch, &mover(1)).await.unwrap(), None);
    let turn = store
        .turn(&branch, &mover(1), Some(&commit('a')), &commit('b'))
        .await
        .unwrap();
    assert_eq!(
        turn,
        Turn::Next {
            number: 2,
            from: Some(commit('a'))
        }
    );
}

#[tokio::test]
async fn the_tenth_move_comes_after_the_ninth() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let branch = branch();
    let digest = Digest::of(b"history");
    for number in 1..=11 {
        let made = entry(number, &mover(7), &format!("{number:0>40}"), &digest);
        assert!(store.record(&branch, &made).await.unwrap());
    }
    assert_eq!(store.tip(&branch).await.unwrap().unwrap().number, 11);
    assert_eq!(
        store.move_of(&branch, &mover(7)).await.unwrap().unwrap().number,
        11
    );
}

#[tokio::test]
async fn the_copy_of_a_bundle_is_no_part_of_what_a_sweep_sees() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (branch, key) = (branch(), mover(1));
    let digest = uploaded(&store, &key).await;
    let absent = Digest::of(b"absent");
    let uid = &key.workflow_uid;
    assert_eq!(
        store.keep_bundle(&branch, uid, &absent).await.unwrap(),
        Copied::Absent
    );
    assert_eq!(
        store.keep_bundle(&branch, uid, &digest).await.unwrap(),
        Copied::Whole
    );
    store.purge(uid).await.unwrap();
    assert!(store.workflows().await.unwrap().is_empty());
    assert_eq!(store.bundle(&branch, &digest).await.unwrap().unwrap().bytes, 7);
    // The copy is all that is needed from now on.
    assert_eq!(
        store.keep_bundle(&branch, uid, &digest).await.unwrap(),
        Copied::Whole
    );
}
