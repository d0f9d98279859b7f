//! Images, with a real docker-registry of the test's own, and one that asks for tokens.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use serde_json::{Value, json};
use stagecraft_api::Digest;
use stagecraft_gateway::args::Password;
use stagecraft_gateway::registry::{Registry, RegistrySettings};

use crate::cluster::{UID, key};
use crate::server::free_port;
use crate::token_registry::TokenRegistry;
use crate::world::{Reply, World};

const USER: &str = "gateway";
const PASSWORD: &str = "a password";
/// Bcrypt of [`PASSWORD`].
const HTPASSWD: &str = "gateway:$2b$05$7F9yAtCxQbNq52hez6MOpetNirj.N8DooFMx1ubZR64uhtdZXhYsq\n";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

struct DockerRegistry {
    child: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl DockerRegistry {
    async fn start(authentication: bool) -> Self {
        let port = free_port();
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let access = if authentication {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            let file = path("htpasswd").display().to_string();
            format!("auth: {{htpasswd: {{realm: test, path: {file}}}}}\n")
        } else {
            String::new()
        };
        let configuration = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, maintenance: {{uploadpurging: {{enabled: false}}}}}}\n\
             http: {{addr: '127.0.0.1:{port}', secret: for-tests}}\n{access}",
            path("data").display()
        );
        std::fs::write(path("config.yml"), configuration).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(path("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(
                "docker-registry cannot be started: run `make prerequisites` (Debian package docker-registry)",
            );
        let registry = Self {
            child,
            port,
            _directory: directory,
        };
        for _ in 0..400 {
            if registry.get("").await.is_ok() {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("docker-registry does not answer");
    }

    fn settings(&self) -> RegistrySettings {
        settings(self.port)
    }

    async fn get(&self, path: &str) -> reqwest::Result<(u16, HeaderMap, Vec<u8>)> {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = http
            .get(format!("http://127.0.0.1:{}/v2/{path}", self.port))
            .basic_auth(USER, Some(PASSWORD))
            .header(header::ACCEPT, MANIFEST_TYPE)
            .send()
            .await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok((status, headers, answer.bytes().await?.to_vec()))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn settings(port: u16) -> RegistrySettings {
    RegistrySettings {
        host: format!("127.0.0.1:{port}"),
        plain_http: true,
        prefix: "built".to_owned(),
        username: String::new(),
        password: Password::default(),
        certificate_authority: String::new(),
    }
}

fn with_password(settings: RegistrySettings, password: &str) -> RegistrySettings {
    RegistrySettings {
        username: USER.to_owned(),
        password: password.to_owned().into(),
        ..settings
    }
}

fn world(settings: RegistrySettings) -> World {
    // The first to be installed counts; reqwest would choose the same.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    World::with_registry(Registry::new(settings).unwrap())
}

/// The Workflow at an attempt of the deployment agent that was claimed.
async fn deployment(world: &World, attempt: u32) -> String {
    world.cluster.workflow(attempt, "Running");
    let workspace = json!({"commit": COMMIT, "bundle": Digest::of(b"bundle"), "bytes": 6});
    let pod = world
        .cluster
        .attempt_by("deployment", &json!({"replicas": 1}), attempt, &workspace);
    let reply = world.claim(&pod).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    pod
}

async fn put(world: &World, pod: &str, content: Vec<u8>) -> Digest {
    let digest = Digest::of(&content);
    let path = format!("/v1/blobs/{digest}");
    let reply = world.send("PUT", &path, pod, content).await;
    assert!(reply.status.is_success(), "{:?}", reply.body);
    digest
}

const LAYERS: [&[u8]; 2] = [b"the first layer", b"the second layer"];

fn manifest(configuration: &[u8]) -> Value {
    let layers: Vec<Value> = LAYERS
        .iter()
        .map(|layer| {
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": Digest::of(layer),
                "size": layer.len()})
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": layers,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::of(configuration),
            "size": configuration.len()}})
}

fn configuration() -> Vec<u8> {
    let layers: Vec<Digest> = LAYERS.iter().map(|layer| Digest::of(layer)).collect();
    json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": layers}})
        .to_string()
        .into_bytes()
}

/// Uploads an image as a runner does. Answers the digest of its manifest.
async fn upload(world: &World, pod: &str) -> Digest {
    for layer in LAYERS {
        put(world, pod, layer.to_vec()).await;
    }
    put(world, pod, configuration()).await;
    put(world, pod, manifest(&configuration()).to_string().into_bytes()).await
}

async fn push(world: &World, pod: &str, manifest: &Digest) -> Reply {
    world
        .post("/v1/images", pod, &json!({"manifest": manifest}))
        .await
}

#[tokio::test]
async fn an_image_is_pushed_under_its_digest_and_its_commit_and_once_more_without_harm() {
    let registry = DockerRegistry::start(false).await;
    let world = world(registry.settings());
    let pod = deployment(&world, 1).await;
    let digest = upload(&world, &pod).await;
    for _ in 0..2 {
        let reply = push(&world, &pod, &digest).await;
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        let reference = format!("127.0.0.1:{}/built/team/p@{digest}", registry.port);
        assert_eq!(reply.json(), json!({"reference": reference}));
    }
    for tag in [digest.as_str(), COMMIT] {
        let (status, headers, _) = registry
            .get(&format!("built/team/p/manifests/{tag}"))
            .await
            .unwrap();
        assert_eq!(status, 200, "{tag}");
        assert_eq!(headers["docker-content-digest"], digest.as_str());
    }
    for layer in LAYERS {
        let path = format!("built/team/p/blobs/{}", Digest::of(layer));
        assert_eq!(registry.get(&path).await.unwrap().2, layer);
    }
}

#[tokio::test]
async fn a_registry_with_a_password_takes_the_right_one_only() {
    let registry = DockerRegistry::start(true).await;
    for (settings, expected) in [
        (with_password(registry.settings(), PASSWORD), Ok(())),
        (with_password(registry.settings(), "wrong"), Err(())),
        (registry.settings(), Err(())),
    ] {
        let world = world(settings);
        let pod = deployment(&world, 1).await;
        let digest = upload(&world, &pod).await;
        let reply = push(&world, &pod, &digest).await;
        if expected.is_ok() {
            assert_eq!(reply.status, 200, "{:?}", reply.body);
            continue;
        }
        assert_eq!(reply.refusal(), (502, "RegistryRefused".into()));
        let error = reply.json()["error"].clone();
        assert_eq!(error["category"], "configuration", "{error}");
        assert_eq!(error["retryable"], false, "{error}");
        let (message, action) = (error["message"].to_string(), error["suggestedAction"].to_string());
        assert!(message.contains("built/team/p"), "{message}");
        assert!(action.contains("registry.existingSecret"), "{action}");
    }
}

#[tokio::test]
async fn a_registry_that_is_away_is_503_and_says_what_to_do() {
    let world = world(settings(free_port()));
    let pod = deployment(&world, 1).await;
    let digest = upload(&world, &pod).await;
    let reply = push(&world, &pod, &digest).await;
    assert_eq!(reply.refusal(), (503, "RegistryUnavailable".into()));
    assert_eq!(reply.headers["retry-after"], "5");
    let error = reply.json()["error"].clone();
    assert_eq!(error["retryable"], true, "{error}");
    let action = error["suggestedAction"].to_string();
    assert!(action.contains("registry.host"), "{action}");
}

#[tokio::test]
async fn without_a_registry_it_is_422_and_names_the_value() {
    let world = World::new();
    let pod = deployment(&world, 1).await;
    let digest = upload(&world, &pod).await;
    let reply = push(&world, &pod, &digest).await;
    assert_eq!(reply.refusal(), (422, "RegistryNotConfigured".into()));
    let action = reply.json()["error"]["suggestedAction"].to_string();
    assert!(action.contains("registry.host"), "{action}");
}

#[tokio::test]
async fn other_agents_push_no_images() {
    let world = world(settings(free_port()));
    let pod = world.claimed().await;
    let digest = upload(&world, &pod).await;
    assert_eq!(
        push(&world, &pod, &digest).await.refusal(),
        (403, "WrongAgent".into())
    );
}

#[tokio::test]
async fn an_image_with_a_part_that_is_not_the_attempts_own_is_refused() {
    let world = world(settings(free_port()));
    let first = deployment(&world, 1).await;
    let digest = upload(&world, &first).await;
    let second = deployment(&world, 2).await;
    assert_eq!(
        push(&world, &second, &digest).await.refusal(),
        (403, "NotOwn".into())
    );
    let manifest = put(
        &world,
        &second,
        manifest(&configuration()).to_string().into_bytes(),
    )
    .await;
    assert_eq!(
        push(&world, &second, &manifest).await.refusal(),
        (403, "NotOwn".into()),
        "the layers are those of attempt 1"
    );
    assert_eq!(
        push(&world, &second, &Digest::of(b"absent")).await.refusal(),
        (422, "Invalid".into())
    );
    assert_eq!(
        push(&world, &first, &digest).await.refusal(),
        (409, "NotCurrent".into())
    );
}

#[tokio::test]
async fn nothing_is_pushed_before_the_claim() {
    let world = world(settings(free_port()));
    world.cluster.workflow(1, "Running");
    let pod = world
        .cluster
        .attempt_by("deployment", &json!({}), 1, &Value::Null);
    assert_eq!(
        push(&world, &pod, &Digest::of(b"x")).await.refusal(),
        (409, "NotClaimed".into())
    );
}

#[tokio::test]
async fn a_registry_that_wants_a_token_gets_one_for_the_repository() {
    let registry = TokenRegistry::start().await;
    let world = world(with_password(settings(registry.port()), PASSWORD));
    let pod = deployment(&world, 1).await;
    let digest = upload(&world, &pod).await;
    let reply = push(&world, &pod, &digest).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let state = registry.0.lock().unwrap();
    assert_eq!(state.blobs.len(), 3);
    assert_eq!(Digest::of(&state.manifests[COMMIT]), digest);
    assert!(
        state
            .scopes
            .iter()
            .any(|query| query.contains("scope=repository%3Abuilt%2Fteam%2Fp%3Apull%2Cpush")),
        "{:?}",
        state.scopes
    );
}

/// While blobs are on their way, the next attempt is granted: the older one must not move the tag any more.
#[tokio::test]
async fn an_attempt_that_is_overtaken_meanwhile_puts_no_manifest() {
    let registry = TokenRegistry::start().await;
    let world = Arc::new(world(with_password(settings(registry.port()), PASSWORD)));
    let pod = deployment(&world, 1).await;
    let digest = upload(&world, &pod).await;
    let cluster = world.cluster.clone();
    registry.0.lock().unwrap().meanwhile = Some(Box::new(move || cluster.workflow(2, "Running")));
    assert_eq!(
        push(&world, &pod, &digest).await.refusal(),
        (409, "NotCurrent".into())
    );
    assert!(registry.0.lock().unwrap().manifests.is_empty());

    // The fence holds by itself, whatever the status says.
    world.cluster.workflow(1, "Running");
    let (store, bound) = (world.directory.path().to_owned(), UID);
    let path = store.join(format!("workflows/{bound}/stages/{}/bound/2.json", key(1).stage));
    registry.0.lock().unwrap().blobs.clear();
    registry.0.lock().unwrap().meanwhile = Some(Box::new(move || {
        std::fs::write(&path, "{}").unwrap();
    }));
    assert_eq!(
        push(&world, &pod, &digest).await.refusal(),
        (409, "Fenced".into())
    );
    assert!(registry.0.lock().unwrap().manifests.is_empty());
}
