use stagecraft_api::result::AttemptResult;
use stagecraft_api::{Digest, Moment, limit};
use stagecraft_gateway::error::Refusal;
use stagecraft_gateway::store::{Binding, Grant, Put, Store};
use stagecraft_gateway::upload;

use crate::cluster::{UID, key};
use crate::world::success;

fn binding(pod: &str) -> Binding {
    Binding {
        pod_uid: pod.to_owned(),
        pod_name: pod.to_owned(),
        node: "node-a".to_owned(),
        at: Moment::now(),
        version: "1".to_owned(),
    }
}

fn result(summary: &str) -> AttemptResult {
    serde_json::from_value(success(1, summary)).unwrap()
}

fn body(pieces: usize, piece: usize) -> impl futures::Stream<Item = Result<bytes::Bytes, std::io::Error>> {
    let piece = bytes::Bytes::from(vec![7; piece]);
    futures::stream::iter((0..pieces).map(move |_| Ok(piece.clone())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_pods_that_claim_at_once_one_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for attempt in 1..=10 {
        let claims = (0..16).map(|pod| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .claim(&key(attempt), &binding(&format!("pod-{pod}")))
                    .await
                    .unwrap()
            })
        });
        let grants = futures::future::join_all(claims).await;
        let first = grants
            .iter()
            .filter(|grant| matches!(grant, Ok(Grant::First(_))))
            .count();
        let taken = grants
            .iter()
            .filter(|grant| matches!(grant, Ok(Grant::Taken)))
            .count();
        assert_eq!((first, taken), (1, 15), "{grants:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_results_at_once_one_is_stored_and_all_hear_which() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let puts = (0..16).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            store
                .put_result(&key(1), &result(&number.to_string()))
                .await
                .unwrap()
        })
    });
    let puts = futures::future::join_all(puts).await;
    let stored = store.result(&key(1)).await.unwrap().unwrap();
    let mut winners = 0;
    for put in puts {
        match put.unwrap() {
            Put::Stored => winners += 1,
            Put::Same => panic!("all differ"),
            Put::Other(other) => assert_eq!(*other, stored),
        }
    }
    assert_eq!(winners, 1);
    assert_eq!(store.put_result(&key(1), &stored).await.unwrap(), Put::Same);
}

#[tokio::test]
async fn the_fence_counts_numbers_not_names_and_outlives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    for attempt in [2, 9, 10] {
        assert!(matches!(
            store.claim(&key(attempt), &binding("p")).await.unwrap(),
            Grant::First(_)
        ));
    }
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(
        store.claim(&key(3), &binding("p")).await.unwrap(),
        Grant::Fenced(10)
    );
    assert_eq!(store.holds(&key(9), "p").await.unwrap(), Grant::Fenced(10));
    assert!(matches!(
        store.holds(&key(10), "p").await.unwrap(),
        Grant::Held(_)
    ));
    assert_eq!(store.holds(&key(11), "p").await.unwrap(), Grant::Free);
}

#[tokio::test]
async fn what_a_killed_gateway_was_writing_is_removed_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let blobs = directory.path().join("workflows").join(UID).join("blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let staged = blobs.join(format!("{}#1", Digest::of(b"x").hex()));
    std::fs::write(&staged, "half").unwrap();
    let whole = blobs.join(Digest::of(b"y").hex());
    std::fs::write(&whole, "y").unwrap();
    Store::open(directory.path()).unwrap();
    assert!(!staged.exists() && whole.exists());
}

#[tokio::test]
async fn bytes_of_an_attempt_are_bounded_also_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let marks = format!("workflows/{UID}/stages/scaffold/uploads/1");
    let marks = directory.path().join(marks);
    std::fs::create_dir_all(&marks).unwrap();
    let nearly = limit::ATTEMPT_BLOB_BYTES - (1 << 20);
    std::fs::write(marks.join(format!("{}-{nearly}", Digest::of(b"big").hex())), "").unwrap();

    let content = vec![7; 1 << 19];
    let digest = Digest::of(&content);
    let uploaded = upload::receive(&store, &key(1), &digest, body(1, 1 << 19))
        .await
        .unwrap();
    assert!(uploaded.created);
    let again = upload::receive(&store, &key(1), &digest, body(1, 1 << 19))
        .await
        .unwrap();
    assert!(!again.created, "and the second time counts nothing");
    let over = upload::receive(&store, &key(1), &Digest::of(b"z"), body(9, 1 << 16)).await;
    assert!(matches!(over, Err(Refusal::TooLarge { .. })), "{over:?}");
    let last = vec![7; 1 << 18];
    upload::receive(&store, &key(1), &Digest::of(&last), body(1, 1 << 18))
        .await
        .unwrap();
    let other = upload::receive(&store, &key(2), &Digest::of(&last), body(1, 1 << 18))
        .await
        .unwrap();
    assert!(!other.created, "another attempt has a bound of its own");
}

#[tokio::test]
async fn an_attempt_has_few_uploads_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let begin = |number: u32| {
        let store = store.clone();
        tokio::spawn(async move {
            let body = futures::stream::pending::<Result<bytes::Bytes, std::io::Error>>();
            upload::receive(&store, &key(1), &Digest::of(&number.to_le_bytes()), body).await
        })
    };
    let uploads: Vec<_> = (0..8).map(begin).collect();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let more = upload::receive(&store, &key(1), &Digest::of(b""), body(0, 0)).await;
    assert!(matches!(more, Err(Refusal::TooMany { .. })), "{more:?}");
    let other = upload::receive(&store, &key(2), &Digest::of(b""), body(0, 0)).await;
    assert!(other.is_ok(), "{other:?}");
    for upload in uploads {
        upload.abort();
        let _ = upload.await;
    }
    let later = upload::receive(&store, &key(1), &Digest::of(b""), body(0, 0)).await;
    assert!(later.is_ok(), "{later:?}");
}
