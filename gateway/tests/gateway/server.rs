//! The servers themselves: TLS, a new certificate, readiness, the end.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser as _;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use stagecraft_gateway::args::Arguments;
use stagecraft_gateway::model::ledger::Ledger;
use stagecraft_gateway::store::Store;
use stagecraft_gateway::store::ledgers::LedgerPlace;
use stagecraft_model_server::{ModelServer, Piece, Step};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, OPERATOR, UID};
use crate::models::{MESSAGES, offer};

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Writes a fresh certificate, and answers it as PEM.
fn certify(directory: &Path) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["gateway.test".to_owned()]).unwrap();
    std::fs::write(directory.join("tls.key"), signing_key.serialize_pem()).unwrap();
    std::fs::write(directory.join("tls.crt"), cert.pem()).unwrap();
    cert.pem()
}

fn arguments(directory: &Path, listen: u16, status: u16) -> Arguments {
    let path = |name: &str| directory.join(name).display().to_string();
    Arguments::parse_from([
        "stagecraft-gateway",
        "--listen",
        &format!("127.0.0.1:{listen}"),
        "--status-listen",
        &format!("127.0.0.1:{status}"),
        "--tls-certificate-file",
        &path("tls.crt"),
        "--tls-key-file",
        &path("tls.key"),
        "--store",
        &path("store"),
        "--redis-url",
        "redis://127.0.0.1:1",
        "--operator-service-account",
        OPERATOR,
    ])
}

struct Running {
    cluster: Arc<Cluster>,
    listen: u16,
    status: u16,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

fn start(directory: &Path) -> Running {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cluster = Arc::new(Cluster::default());
    cluster.token("operator", OPERATOR, None, "stagecraft-gateway");
    let (listen, status) = (free_port(), free_port());
    let (stop, stopped) = oneshot::channel();
    let stopped = async { stopped.await.unwrap() };
    let arguments = arguments(directory, listen, status);
    let serve = stagecraft_gateway::server::serve(arguments, cluster.client(), stopped);
    Running {
        cluster,
        listen,
        status,
        stop,
        task: tokio::spawn(serve),
    }
}

impl Running {
    /// Asks the API with this certificate as the only authority.
    async fn ask(&self, certificate: &str) -> reqwest::Result<u16> {
        let url = self.url("/v1/operator/workflows");
        let client = self.client(certificate);
        let response = client.get(url).bearer_auth("operator").send().await?;
        Ok(response.status().as_u16())
    }

    fn url(&self, path: &str) -> String {
        format!("https://gateway.test:{}{path}", self.listen)
    }

    fn client(&self, certificate: &str) -> reqwest::Client {
        let address = SocketAddr::from(([127, 0, 0, 1], self.listen));
        let root = reqwest::Certificate::from_pem(certificate.as_bytes()).unwrap();
        reqwest::Client::builder()
            .tls_certs_only([root])
            .resolve("gateway.test", address)
            .build()
            .unwrap()
    }

    async fn status(&self, path: &str) -> reqwest::Result<(u16, String)> {
        let response = reqwest::get(format!("http://127.0.0.1:{}{path}", self.status)).await?;
        Ok((response.status().as_u16(), response.text().await?))
    }
}

async fn soon<T, E: std::fmt::Debug>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let mut tries = 0;
    loop {
        match attempt().await {
            Ok(value) => return value,
            Err(error) if tries > 100 => panic!("{error:?}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        tries += 1;
    }
}

#[tokio::test]
async fn it_serves_over_tls_takes_over_a_new_certificate_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let old = certify(directory.path());
    let running = start(directory.path());
    assert_eq!(soon(async || running.ask(&old).await).await, 200);
    let new = certify(directory.path());
    assert_eq!(soon(async || running.ask(&new).await).await, 200);
    running.ask(&old).await.unwrap_err();
    running.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), running.task)
        .await
        .expect("idle connections do not hold it up")
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn it_is_ready_when_api_server_and_store_are() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    let running = start(directory.path());
    assert_eq!(soon(async || running.status("/readyz").await).await.0, 200);
    running.cluster.down.store(true, Ordering::SeqCst);
    let (status, text) = running.status("/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(text.starts_with("API server"), "{text}");
    running.cluster.down.store(false, Ordering::SeqCst);
    std::fs::remove_dir_all(directory.path().join("store")).unwrap();
    let (status, text) = running.status("/readyz").await.unwrap();
    assert_eq!(status, 503);
    assert!(text.starts_with("store"), "{text}");
    assert_eq!(running.status("/healthz").await.unwrap().0, 200);
    assert_eq!(running.status("/metrics").await.unwrap().0, 200);
    running.task.abort();
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    certify(directory.path());
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let arguments = arguments(directory.path(), port, free_port());
    let client = Arc::new(Cluster::default()).client();
    let serve = stagecraft_gateway::server::serve(arguments, client, std::future::pending());
    let outcome = tokio::time::timeout(Duration::from_secs(5), serve).await.unwrap();
    outcome.unwrap_err();
}

#[tokio::test]
async fn what_calls_used_is_written_before_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let certificate = certify(directory.path());
    let begin = "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":30}}}\n\n";
    let end = "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":77}}\n\ndata: {\"type\":\"message_stop\"}\n\n";
    let server = ModelServer::start([Step::stream(vec![
        Piece::Bytes(begin.into()),
        Piece::Wait(Duration::from_secs(2)),
        Piece::Bytes(end.into()),
    ])])
    .await
    .unwrap();
    let running = start(directory.path());
    let pod = offer(&running.cluster, &server, "anthropic", json!({}), &json!({}));
    let client = running.client(&certificate);
    let post = async |path: &str, body: Value| {
        let request = client.post(running.url(path)).bearer_auth(&pod);
        let request = request.header("content-type", "application/json");
        request.body(body.to_string()).send().await
    };
    let claimed = soon(async || post("/v1/claim", json!({"version": "1.2.3"})).await).await;
    assert_eq!(claimed.status(), 200);
    let call = json!({"model": "small", "max_tokens": 100, "stream": true});
    let mut answer = post(MESSAGES, call).await.unwrap();
    assert_eq!(answer.chunk().await.unwrap().unwrap(), begin);
    running.stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(answer);
    tokio::time::timeout(Duration::from_secs(10), running.task)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let store = Store::open(&directory.path().join("store")).unwrap();
    let place = LedgerPlace::Workflow { uid: UID.to_owned() };
    let (_, ledger): (u64, Ledger) = store.ledger(&place).await.unwrap().expect("nothing was written");
    assert_eq!(ledger.lines()[0].amount.tokens.output, 77);
}
