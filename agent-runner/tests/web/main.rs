//! The web server over HTTP.
#![cfg(test)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::{Client, Method, Response};
use rustix::process::{Pid, Signal, kill_process};
use stagecraft_agent_runner::web;
use tempfile::TempDir;
use tokio::net::TcpListener;

struct Site {
    _directory: TempDir,
    url: String,
    http: Client,
}

impl Site {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("site");
        std::fs::create_dir_all(root.join("assets")).unwrap();
        std::fs::create_dir_all(root.join("help")).unwrap();
        for (file, text) in [
            ("index.html", "<title>home</title>"),
            ("help/index.html", "<title>help</title>"),
            ("assets/a.js", "code()"),
            ("style.css", "p {}"),
            (".env", "secret"),
            ("../outside.txt", "secret"),
        ] {
            std::fs::write(root.join(file), text).unwrap();
        }
        std::os::unix::fs::symlink("../outside.txt", root.join("link.txt")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(web::serve(listener, root, std::future::pending()));
        Self {
            _directory: directory,
            url,
            http: client(),
        }
    }

    async fn get(&self, path: &str) -> Response {
        self.http.get(format!("{}{path}", self.url)).send().await.unwrap()
    }
}

fn client() -> Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn files_pages_and_paths_of_the_application_are_served() {
    let site = Site::start().await;
    for (path, kind, caching, text) in [
        ("/", "text/html; charset=utf-8", "no-cache", "home"),
        ("/help/", "text/html; charset=utf-8", "no-cache", "help"),
        ("/some/where?q=1", "text/html; charset=utf-8", "no-cache", "home"),
        (
            "/assets/a.js",
            "text/javascript",
            "public, max-age=31536000, immutable",
            "code()",
        ),
        ("/style.css", "text/css", "no-cache", "p {}"),
    ] {
        let found = site.get(path).await;
        assert_eq!(found.status(), 200, "{path}");
        assert_eq!(
            (header(&found, "content-type"), header(&found, "cache-control")),
            (kind, caching),
            "{path}"
        );
        assert_eq!(header(&found, "x-content-type-options"), "nosniff");
        assert!(found.text().await.unwrap().contains(text), "{path}");
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let site = Site::start().await;
    for path in [
        "/absent.js",
        "/assets/absent.js",
        "/.env",
        "/link.txt",
        "/up/outside.txt",
        "/up/",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/assets/..%2f..%2foutside.txt",
        "/a%00b",
        "/%ff",
    ] {
        let found = site.get(path).await;
        assert_eq!(found.status(), 404, "{path}");
        assert!(!found.text().await.unwrap().contains("secret"), "{path}");
    }
    let posted = site
        .http
        .request(Method::POST, format!("{}/", site.url))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (posted.status().as_u16(), header(&posted, "allow")),
        (405, "GET,HEAD")
    );
}

#[tokio::test]
async fn heads_and_conditional_requests_send_no_content() {
    let site = Site::start().await;
    let head = site
        .http
        .head(format!("{}/assets/a.js", site.url))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (head.status().as_u16(), header(&head, "content-length")),
        (200, "6")
    );
    let modified = header(&head, "last-modified").to_owned();
    let again = site
        .http
        .get(format!("{}/assets/a.js", site.url))
        .header("If-Modified-Since", modified);
    assert_eq!(again.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn the_program_serves_until_it_is_told_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_stagecraft-web");
    let refused = Command::new(program)
        .arg("--root")
        .arg(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("--root") && said.contains("index.html"),
        "{said}"
    );

    std::fs::write(directory.path().join("index.html"), "<title>home</title>").unwrap();
    let mut child = Command::new(program)
        .args(["--listen", "127.0.0.1:0", "--root"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line.trim().rsplit(' ').next().unwrap().to_owned();
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    let ended = tokio::time::timeout(Duration::from_secs(9), ended)
        .await
        .unwrap()
        .unwrap();
    assert!(ended.success(), "{ended}");
}
