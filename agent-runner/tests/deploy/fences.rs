//! Who must not be overwritten, and by whom: also between the look and the write.

use serde_json::{Value, json};
use stagecraft_agent_runner::deploy::manifest::Place;
use stagecraft_agent_runner::deploy::release::Writer;

use crate::cluster::{Behaviour, DEPLOYMENT, SERVICE};
use crate::world::{NEW, OLD, World, release, writer};

const BOTH: [(&str, Behaviour); 2] = [(OLD, Behaviour::Good), (NEW, Behaviour::Good)];

fn place() -> Place {
    Place {
        namespace: "team".into(),
        project: "shop".into(),
    }
}

/// The Deployment as a writer puts it.
fn deployment(writer: &Writer, image: &str) -> Value {
    place().deployment(&release(writer, image), writer, None)
}

#[tokio::test]
async fn objects_of_others_are_named_and_nothing_is_written() {
    let objects = [
        (DEPLOYMENT, "Deployment", deployment(&writer("flow", 1), OLD)),
        (SERVICE, "Service", place().service(Some(&writer("flow", 1)))),
    ];
    for (path, kind, mut theirs) in objects {
        let world = World::answering(&BOTH).await;
        theirs["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("Helm");
        world.cluster.change(|state| {
            state.put(path, theirs);
        });
        let before = world.cluster.object(path);
        let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
        assert_eq!((error.code.as_str(), error.retryable), ("NameTaken", false));
        assert!(error.message.contains(kind), "{}", error.message);
        assert_eq!(world.cluster.object(path), before);
        assert_eq!(world.cluster.state().writes, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_later_attempt_of_the_same_stage_is_not_overwritten() {
    let world = World::answering(&BOTH).await;
    world.deploy(&writer("flow", 2), NEW).await.unwrap();
    let writes = world.cluster.state().writes.len();
    let error = world.deploy(&writer("flow", 1), OLD).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("Superseded", false));
    assert!(error.message.contains("attempt 2"), "{}", error.message);
    assert_eq!(world.cluster.image(), NEW);
    assert_eq!(world.cluster.state().writes.len(), writes);
}

/// The later attempt comes between the older one's look and its write, whether there was a Deployment or not.
#[tokio::test]
async fn a_later_attempt_that_writes_in_between_is_not_overwritten() {
    for existing in [false, true] {
        let world = World::answering(&BOTH).await;
        if existing {
            world.deploy(&writer("before", 1), OLD).await.unwrap();
        }
        let later = deployment(&writer("flow", 2), NEW);
        world.cluster.change(|state| {
            state.meanwhile = Some(Box::new(move |state| {
                state.put(DEPLOYMENT, later);
            }));
        });
        let error = world.deploy(&writer("flow", 1), OLD).await.unwrap_err();
        assert_eq!(error.code, "Superseded", "{}", error.message);
        assert_eq!(world.cluster.image(), NEW);
        assert_eq!(
            world.cluster.deployment()["metadata"]["annotations"]["stagecraft.dev/attempt"],
            "2"
        );
    }
}

/// The status changes all the time; that alone keeps nobody from writing.
#[tokio::test]
async fn a_change_of_the_status_in_between_is_got_over() {
    let world = World::answering(&BOTH).await;
    world.deploy(&writer("before", 1), OLD).await.unwrap();
    world.cluster.change(|state| {
        state.meanwhile = Some(Box::new(|state| {
            let mut deployment = state.objects[DEPLOYMENT].clone();
            deployment["status"]["collisionCount"] = json!(1);
            state.put(DEPLOYMENT, deployment);
        }));
    });
    world.deploy(&writer("flow", 1), NEW).await.unwrap();
    assert_eq!(world.cluster.image(), NEW);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_overtaken_while_it_waits_leaves_everything_as_it_is() {
    let world = World::silent(&[(OLD, Behaviour::Unwell), (NEW, Behaviour::Unwell)]);
    let cluster = world.cluster.clone();
    let overtaking = async {
        while cluster.object(DEPLOYMENT).is_none() {
            tokio::task::yield_now().await;
        }
        cluster.change(|state| {
            state.put(DEPLOYMENT, deployment(&writer("another", 1), NEW));
        });
    };
    let first = writer("flow", 1);
    let (outcome, ()) = tokio::join!(world.deploy(&first, OLD), overtaking);
    let error = outcome.unwrap_err();
    assert_eq!(error.code, "Superseded");
    assert!(error.message.contains("Workflow another"), "{}", error.message);
    assert_eq!(world.cluster.image(), NEW);
}

/// Nobody who was overtaken rolls back, not even when its own failure was seen first: neither by removing nor by writing
/// the release that was well before.
#[tokio::test(start_paused = true)]
async fn a_rollback_does_not_touch_what_others_have_written_since() {
    for before in [None, Some("r.example:5000/stagecraft/team/shop@sha256:0")] {
        let known = before.map(|image| (image, Behaviour::Good));
        let behaviours = [(OLD, Behaviour::Crashes), (NEW, Behaviour::Good)];
        let behaviours: Vec<_> = behaviours.into_iter().chain(known).collect();
        let world = World::silent(&behaviours);
        if let Some(image) = before {
            let earlier = writer("before", 1);
            let good = release(&earlier, image);
            let deployment = place().deployment(&good, &earlier, Some(&good));
            world.cluster.change(|state| {
                state.put(DEPLOYMENT, deployment);
            });
        }
        // The first write is the new release, the second would undo it.
        world.cluster.change(|state| {
            state.meanwhile = Some(Box::new(|state| {
                state.meanwhile = Some(Box::new(|state| {
                    state.put(DEPLOYMENT, deployment(&writer("another", 1), NEW));
                }));
            }));
        });
        let error = world.deploy(&writer("flow", 1), OLD).await.unwrap_err();
        assert_eq!(error.code, "RolloutFailed");
        assert!(
            error.message.contains("could not be rolled back"),
            "{before:?}: {}",
            error.message
        );
        assert_eq!(world.cluster.image(), NEW);
    }
}
