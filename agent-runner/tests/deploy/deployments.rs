//! What becomes of an application, well or not.

use serde_json::json;
use stagecraft_agent_runner::deploy::release::Release;
use stagecraft_agent_runner::deploy::rollout::TROUBLE;
use tokio::time::Instant;

use crate::cluster::{Behaviour, DEPLOYMENT, SERVICE};
use crate::world::{NEW, OLD, World, release, writer};

/// The release that the live Deployment keeps as the last one that was well.
fn last_good(world: &World) -> Option<Release> {
    let deployment = world.cluster.deployment();
    let text = deployment
        .pointer("/metadata/annotations/stagecraft.dev~1last-good")?
        .as_str()?;
    Some(serde_json::from_str(text).unwrap())
}

#[tokio::test]
async fn a_first_deployment_is_made_found_well_and_remembered() {
    let world = World::answering(&[(NEW, Behaviour::Good)]).await;
    let first = writer("flow", 1);
    let done = world.deploy(&first, NEW).await.unwrap();
    assert_eq!((done.revision.as_deref(), done.previous), (Some("1"), None));
    assert_eq!(world.cluster.image(), NEW);
    assert_eq!(last_good(&world), Some(release(&first, NEW)));
    let service = world.cluster.object(SERVICE).unwrap();
    assert_eq!(service["spec"]["ports"][0]["port"], 80);
    assert_eq!(service["spec"]["ports"][0]["targetPort"], 8080);
    let annotations = &world.cluster.deployment()["metadata"]["annotations"];
    assert_eq!(annotations["stagecraft.dev/workflow"], "flow");
    assert_eq!(annotations["stagecraft.dev/attempt"], "1");
    assert_eq!(
        annotations["stagecraft.dev/image-digest"],
        "sha256:1".replace('1', "2")
    );
}

#[tokio::test]
async fn a_next_release_names_the_one_before_it() {
    let world = World::answering(&[(OLD, Behaviour::Good), (NEW, Behaviour::Good)]).await;
    world.deploy(&writer("flow", 1), OLD).await.unwrap();
    let second = writer("another", 1);
    let done = world.deploy(&second, NEW).await.unwrap();
    assert_eq!(
        (done.revision.as_deref(), done.previous.as_deref()),
        (Some("2"), Some(OLD))
    );
    assert_eq!(last_good(&world), Some(release(&second, NEW)));
}

#[tokio::test]
async fn the_next_attempt_goes_on_from_what_is_there_and_makes_no_second_revision() {
    let world = World::answering(&[(NEW, Behaviour::Good)]).await;
    // Told to end as soon as the Deployment was written.
    let first = writer("flow", 1);
    let going = world.deploy(&first, NEW);
    tokio::pin!(going);
    while world.cluster.object(DEPLOYMENT).is_none() {
        assert!(futures::poll!(going.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    assert_eq!(last_good(&world), None);
    let done = world.deploy(&writer("flow", 2), NEW).await.unwrap();
    assert_eq!(done.revision.as_deref(), Some("1"));
    let deployment = world.cluster.deployment();
    assert_eq!(deployment["metadata"]["generation"], 1);
    assert_eq!(
        deployment["metadata"]["annotations"]["stagecraft.dev/attempt"],
        "2"
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_that_is_never_ready_is_rolled_back_and_says_why() {
    let world = with_old_one(&[(NEW, Behaviour::Unwell)]).await;
    let began = Instant::now();
    let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
    assert!(began.elapsed().as_secs() >= 120, "the payload allows that much");
    assert_eq!(
        (error.code.as_str(), error.retryable),
        ("HealthCheckFailed", false)
    );
    for text in [
        "shop-2 runs, but is not ready",
        "rolled back to r.example:5000/stagecraft/team/shop@sha256:1 of commit 0123456789ab, which is available",
        "Unhealthy: probe failed with 404",
        "it ended badly",
    ] {
        assert!(
            error.message.contains(text),
            "{text:?} is not in {}",
            error.message
        );
    }
    assert_eq!(world.cluster.image(), OLD);
    assert_eq!(last_good(&world).unwrap().image, OLD);
    assert!(world.cluster.object(SERVICE).is_some());
}

#[tokio::test(start_paused = true)]
async fn what_time_does_not_mend_is_noticed_before_the_rollout_may_end() {
    for (behaviour, code, seconds, text) in [
        (
            Behaviour::NotPulled,
            "ImagePullFailed",
            TROUBLE.as_secs(),
            "ErrImagePull: no route to the registry",
        ),
        (Behaviour::Crashes, "RolloutFailed", 0, "last with status 7"),
    ] {
        let world = with_old_one(&[(NEW, behaviour)]).await;
        let began = Instant::now();
        let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
        let took = began.elapsed().as_secs();
        assert!(
            (seconds..seconds + 20).contains(&took),
            "{behaviour:?} took {took} s"
        );
        assert_eq!((error.code.as_str(), error.retryable), (code, false));
        assert!(error.message.contains(text), "{}", error.message);
        assert_eq!(world.cluster.image(), OLD);
    }
}

#[tokio::test(start_paused = true)]
async fn pods_without_a_place_may_find_one_in_a_later_attempt() {
    let world = with_old_one(&[(NEW, Behaviour::Homeless)]).await;
    let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
    assert_eq!((error.code.as_str(), error.retryable), ("RolloutFailed", true));
    assert!(
        error.message.contains("0/1 nodes are available"),
        "{}",
        error.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_first_deployment_that_fails_leaves_nothing_behind() {
    let world = World::silent(&[(NEW, Behaviour::Unwell)]);
    let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
    assert!(
        error.message.contains("Deployment and Service were removed"),
        "{}",
        error.message
    );
    assert_eq!(world.cluster.object(DEPLOYMENT), None);
    assert_eq!(world.cluster.object(SERVICE), None);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_another_workflow_made_stays() {
    let world = with_old_one(&[(NEW, Behaviour::Unwell)]).await;
    world.cluster.change(|state| state.remove(DEPLOYMENT));
    let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
    assert!(
        error.message.contains("the Deployment was removed"),
        "{}",
        error.message
    );
    assert_eq!(world.cluster.object(DEPLOYMENT), None);
    assert!(world.cluster.object(SERVICE).is_some());
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_answer_through_its_service_is_rolled_back() {
    let world = with_old_one(&[(NEW, Behaviour::Good)]).await;
    let error = world.deploy(&writer("flow", 1), NEW).await.unwrap_err();
    assert_eq!(error.code, "HealthCheckFailed");
    assert!(error.message.contains("GET / got no answer"), "{}", error.message);
    assert_eq!(world.cluster.image(), OLD);
}

#[tokio::test(start_paused = true)]
async fn the_same_release_is_not_rolled_back_to_itself() {
    let world = with_old_one(&[]).await;
    let generation = world.cluster.deployment()["metadata"]["generation"].clone();
    let error = world.deploy(&writer("flow", 1), OLD).await.unwrap_err();
    assert!(
        error.message.contains("nothing was rolled back"),
        "{}",
        error.message
    );
    assert_eq!(world.cluster.deployment()["metadata"]["generation"], generation);
}

/// A cluster in which another Workflow has deployed the old release, and nobody answers since.
async fn with_old_one(behaviours: &[(&str, Behaviour)]) -> World {
    let behaviours = [&[(OLD, Behaviour::Good)], behaviours].concat();
    // Real connections take real time.
    tokio::time::resume();
    let mut world = World::answering(&behaviours).await;
    world.deploy(&writer("before", 1), OLD).await.unwrap();
    tokio::time::pause();
    world.fall_silent();
    assert_eq!(last_good(&world).map(|good| json!(good.image)), Some(json!(OLD)));
    world
}
