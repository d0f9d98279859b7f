//! Images on their way from the deployment agent through the runner to the gateway.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};
use stagecraft_agent_runner::deploy::image::{Recipe, build};
use stagecraft_api::Digest;
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::result::Outcome;

use crate::gateway::{Call, Fault, Gateway};
use crate::pod::{AGENT, Pod, wait};
use crate::task::task;

fn deployment() -> TaskEnvelope {
    let mut task = serde_json::to_value(task(&json!({}))).unwrap();
    task["agent"] = json!("deployment");
    task["payload"] = json!({});
    serde_json::from_value(task).unwrap()
}

fn distribution(file: &Path) {
    let mut builder = tar::Builder::new(File::create(file).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(5);
    header.set_mode(0o644);
    builder
        .append_data(&mut header, "index.html", b"start".as_slice())
        .unwrap();
    builder.finish().unwrap();
}

/// Builds an image where the agent of the Pod would. Answers the digest of its manifest.
fn image(pod: &Pod, name: &str) -> Digest {
    let server = pod.path("web");
    std::fs::write(&server, "the server").unwrap();
    let archive = pod.path("dist.tar");
    distribution(&archive);
    let recipe = Recipe {
        server,
        distribution: archive,
        project: "shop".into(),
        commit: None,
    };
    build(&recipe, &pod.path("work/artifacts").join(name))
        .unwrap()
        .digest
}

/// Asks the runner for a push. Answers status and body.
async fn push(pod: &Pod, layout: &str) -> (u16, Value) {
    let http = reqwest::Client::builder()
        .tls_certs_only(std::iter::empty())
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("{}/v1/images", pod.url());
    let answer = http
        .post(url)
        .json(&json!({"layout": layout}))
        .send()
        .await
        .unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn every_part_of_an_image_is_uploaded_before_it_is_pushed() {
    let gateway = Gateway::start(deployment());
    let pod = Pod::start(&gateway);
    pod.ready().await;
    let digest = image(&pod, "image");
    let (status, body) = push(&pod, "image").await;
    assert_eq!(
        (status, &body["reference"]),
        (200, &json!(format!("registry.test/shop@{digest}")))
    );
    let seen = gateway.seen();
    assert_eq!(seen.images, std::slice::from_ref(&digest));
    let manifest: Value = serde_json::from_slice(&seen.blobs[&digest]).unwrap();
    let parts = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .chain([&manifest["config"]]);
    for part in parts {
        let digest: Digest = part["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(part["size"], seen.blobs[&digest].len());
    }
    assert!(
        !pod.path("state/image").exists(),
        "copies would fill the runner's volume"
    );
}

#[tokio::test]
async fn a_registry_that_is_away_for_a_moment_is_waited_for_and_then_told_of() {
    let gateway = Gateway::start(deployment());
    let pod = Pod::start(&gateway);
    pod.ready().await;
    image(&pod, "image");
    gateway.fault(Call::Image, Fault::RegistryUnavailable, 1);
    assert_eq!(push(&pod, "image").await.0, 200);
    gateway.fault(Call::Image, Fault::RegistryUnavailable, usize::MAX);
    let (status, body) = push(&pod, "image").await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (503, &json!("RegistryUnavailable"))
    );
    assert_eq!(body["error"]["message"], "the test wants it so");
}

#[tokio::test]
async fn only_the_deployment_agent_has_images_pushed() {
    let gateway = Gateway::start(task(&json!({})));
    let pod = Pod::start(&gateway);
    pod.ready().await;
    image(&pod, "image");
    let (status, body) = push(&pod, "image").await;
    assert_eq!((status, &body["error"]["code"]), (403, &json!("WrongAgent")));
    assert_eq!(gateway.seen().called(Call::Upload), 0);
}

#[tokio::test]
async fn a_layout_that_lies_or_leads_out_is_refused_with_its_reason() {
    let gateway = Gateway::start(deployment());
    let pod = Pod::start(&gateway);
    pod.ready().await;
    let digest = image(&pod, "image");
    let artifacts = pod.path("work/artifacts");
    let blobs = |name: &str| artifacts.join(name).join("blobs/sha256");

    image(&pod, "linked");
    let manifest = blobs("linked").join(digest.hex());
    std::fs::rename(&manifest, pod.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink(pod.path("elsewhere"), &manifest).unwrap();

    image(&pod, "changed");
    let content = std::fs::read_to_string(blobs("changed").join(digest.hex())).unwrap();
    std::fs::write(
        blobs("changed").join(digest.hex()),
        content.replace("gzip", "GZIP"),
    )
    .unwrap();

    image(&pod, "two");
    let index = artifacts.join("two/index.json");
    let mut two: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    let first = two["manifests"][0].clone();
    two["manifests"].as_array_mut().unwrap().push(first);
    std::fs::write(&index, two.to_string()).unwrap();

    std::os::unix::fs::symlink(artifacts.join("image"), artifacts.join("link")).unwrap();
    for (layout, text) in [
        ("absent", "cannot be read"),
        ("../artifacts/image", "not a path below"),
        ("link", "cannot be read"),
        ("linked", "cannot be read"),
        ("changed", "not the blob"),
        ("two", "names 2 images"),
    ] {
        let (status, body) = push(&pod, layout).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (422, &json!("ImageInvalid")),
            "{layout}: {body}"
        );
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains(text), "{layout}: {message}");
    }
    assert_eq!(gateway.seen().called(Call::Image), 0);
    assert_eq!(push(&pod, "image").await.0, 200);
}

/// The whole agent up to where a cluster is needed, which there is not.
#[tokio::test]
async fn the_agent_builds_an_image_has_it_pushed_and_misses_its_service_account() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("dist.tar");
    distribution(&archive);
    let content = std::fs::read(&archive).unwrap();
    let digest = Digest::of(&content);
    let mut task = serde_json::to_value(deployment()).unwrap();
    task["inputs"] =
        json!([{"stage": "integrate", "name": "dist.tar", "digest": digest, "bytes": content.len()}]);
    let gateway = Gateway::start(serde_json::from_value(task).unwrap());
    gateway.change(|seen| {
        seen.blobs.insert(digest, content);
    });
    let pod = Pod::start(&gateway);
    pod.ready().await;
    std::fs::write(pod.path("web"), "the server").unwrap();
    let mut command = pod.command(&[AGENT, "deployment"]);
    command
        .env("STAGECRAFT_ARTIFACTS", pod.path("work/artifacts"))
        .env("STAGECRAFT_INPUTS", pod.path("work/inputs"))
        .env("STAGECRAFT_WEB_SERVER", pod.path("web"));
    let mut agent = command.spawn().unwrap();
    let result = gateway.result().await;
    wait(&mut agent).await;
    let Outcome::Failed { error } = result.outcome else {
        panic!("{result:?}");
    };
    assert_eq!(
        (error.code.as_str(), error.retryable),
        ("DeploymentForbidden", false),
        "{error:?}"
    );
    assert_eq!(gateway.seen().images.len(), 1);
    gateway
        .wait("progress", |seen| {
            let told = |event: &&stagecraft_api::protocol::AgentEvent| {
                event.message.starts_with("pushed registry.test/shop@sha256:")
            };
            seen.events.iter().find(told).map(drop)
        })
        .await;
}
