//! The web server over HTTP.
#![cfg(test)]

mod program;

use std::os::unix::fs::symlink;
use std::time::Duration;

use reqwest::{Client, Method, Response};
use stagecraft_agent_runner::web;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const KEEP: &str = "public, max-age=31536000, immutable";
const PAGE: &str = "text/html; charset=utf-8";

struct Site {
    directory: TempDir,
    host: String,
    http: Client,
}

impl Site {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("site");
        for name in ["assets/doc", "help", "empty", "leak", ".git", "../outside"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        for (file, text) in [
            ("index.html", "<title>home</title>"),
            ("help/index.html", "<title>help</title>"),
            ("assets/a.js", "code()"),
            ("assets/doc/index.html", "<title>doc</title>"),
            ("a b.css", "p {}"),
            ("logo.svg", "<svg/>"),
            ("data.json", "{}"),
            ("sum.wasm", "\0asm"),
            (".env", "secret"),
            (".git/config", "secret"),
            ("../outside/index.html", "secret"),
            ("../outside.txt", "secret"),
        ] {
            std::fs::write(root.join(file), text).unwrap();
        }
        for (link, target) in [
            ("same.js", "assets/a.js"),
            ("link.txt", "../outside.txt"),
            ("plain", "../outside.txt"),
            ("up", ".."),
            ("there", "../outside"),
            ("leak/index.html", "../../outside/index.html"),
            ("hidden.txt", ".env"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        tokio::spawn(web::serve(listener, root, std::future::pending()));
        Self {
            directory,
            host,
            http: client(),
        }
    }

    async fn get(&self, path: &str) -> Response {
        self.ask(Method::GET, path, &[]).await
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.http.request(method, format!("http://{}{path}", self.host));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// Status line, headers and body of a path as it is written here: a client would tidy it before it asks.
    async fn raw(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.host).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: site\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let reading = stream.read_to_end(&mut answer);
        tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .unwrap_or_else(|_| panic!("{path} is not answered"))
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
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
    let long = format!("/sum/{}", "1+".repeat(300));
    for (path, kind, caching, text) in [
        ("/", PAGE, "no-cache", "home"),
        ("/index.html", PAGE, "no-cache", "home"),
        ("/help/", PAGE, "no-cache", "help"),
        ("/some/where?q=1.5", PAGE, "no-cache", "home"),
        ("/version-1.5/notes/", PAGE, "no-cache", "home"),
        (long.as_str(), PAGE, "no-cache", "home"),
        ("/empty", PAGE, "no-cache", "home"),
        ("/assets/", PAGE, "no-cache", "home"),
        ("/assets/doc/", PAGE, "no-cache", "doc"),
        ("/assets/some/where", PAGE, "no-cache", "home"),
        ("/assets/a.js/more", PAGE, "no-cache", "home"),
        ("/assets/a.js", "text/javascript", KEEP, "code()"),
        ("/same.js", "text/javascript", KEEP, "code()"),
        ("/a%20b.css", "text/css", "no-cache", "p {}"),
        ("/logo.svg", "image/svg+xml", "no-cache", "<svg/>"),
        ("/data.json", "application/json", "no-cache", "{}"),
        ("/sum.wasm", "application/wasm", "no-cache", "\0asm"),
    ] {
        let found = site.get(path).await;
        assert_eq!(found.status(), 200, "{path}");
        assert_eq!(
            (header(&found, "content-type"), header(&found, "cache-control")),
            (kind, caching),
            "{path}"
        );
        assert!(found.text().await.unwrap().contains(text), "{path}");
    }
}

#[tokio::test]
async fn a_directory_without_its_slash_is_sent_to_the_one_with_it_on_this_host() {
    let site = Site::start().await;
    let found = site.get("/help?q=1").await;
    assert_eq!(
        (found.status().as_u16(), header(&found, "location")),
        (307, "/help/?q=1")
    );
    let elsewhere = site.raw("//help").await;
    assert!(elsewhere.starts_with("HTTP/1.1 404 "), "{elsewhere}");
}

#[tokio::test]
async fn nothing_hidden_outside_or_absent_is_served() {
    let site = Site::start().await;
    let root = site.directory.path().join("site");
    let pipe = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.txt"), pipe).unwrap();
    for path in [
        "/absent.js",
        "/assets/absent.js",
        "/data.json/",
        "/.env",
        "/%2eenv",
        "/.git/config",
        "/.git",
        "/hidden.txt",
        "/link.txt",
        "/plain",
        "/up/outside.txt",
        "/up/",
        "/up",
        "/there/",
        "/there/index.html",
        "/leak/",
        "/leak",
        "/loop",
        "/pipe.txt",
        "/../outside.txt",
        "/help/../../outside.txt",
        "/%2e%2e/outside.txt",
        "/..%2foutside.txt",
        "/assets/..%2f..%2foutside.txt",
        "/%2fetc/passwd",
        "//etc/passwd",
        "/a%00b",
        "/%ff",
    ] {
        let found = site.raw(path).await;
        assert!(found.starts_with("HTTP/1.1 404 "), "{path}: {found}");
        assert!(
            found.contains("content-type: text/plain") && found.ends_with("there is no such file\n"),
            "{path}: {found}"
        );
        assert!(found.contains("cache-control: no-cache"), "{path}: {found}");
    }
}

#[tokio::test]
async fn a_first_page_that_leads_outside_is_served_for_no_path() {
    let site = Site::start().await;
    let root = site.directory.path().join("site");
    assert!(web::has_index(&root));
    std::fs::remove_file(root.join("index.html")).unwrap();
    symlink("../outside/index.html", root.join("index.html")).unwrap();
    assert!(!web::has_index(&root));
    for path in ["/", "/index.html", "/some/where", "/assets/"] {
        let found = site.raw(path).await;
        assert!(found.starts_with("HTTP/1.1 404 "), "{path}: {found}");
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let site = Site::start().await;
    for (method, path, status) in [
        (Method::GET, "/", 200),
        (Method::HEAD, "/assets/a.js", 200),
        (Method::GET, "/help", 307),
        (Method::GET, "/absent.js", 404),
        (Method::DELETE, "/", 405),
    ] {
        let found = site.ask(method, path, &[]).await;
        assert_eq!(found.status(), status, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "SAMEORIGIN"),
            ("referrer-policy", "strict-origin-when-cross-origin"),
        ] {
            assert_eq!(header(&found, name), value, "{path}");
        }
    }
}

#[tokio::test]
async fn files_are_only_read() {
    let site = Site::start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        for path in ["/", "/data.json", "/absent.js"] {
            let found = site.ask(method.clone(), path, &[]).await;
            assert_eq!(
                (found.status().as_u16(), header(&found, "allow")),
                (405, "GET, HEAD"),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn heads_and_conditional_requests_send_no_content() {
    let site = Site::start().await;
    for (path, length, caching) in [
        ("/assets/a.js", "6", KEEP),
        // Pages, whose caching must not become that of assets because they have not changed.
        ("/assets/doc/", "18", "no-cache"),
        ("/assets/some/where", "19", "no-cache"),
    ] {
        let head = site.ask(Method::HEAD, path, &[]).await;
        assert_eq!(
            (head.status().as_u16(), header(&head, "content-length")),
            (200, length),
            "{path}"
        );
        let (modified, tag) = (header(&head, "last-modified"), header(&head, "etag"));
        for condition in [("if-modified-since", modified), ("if-none-match", tag)] {
            let again = site.ask(Method::GET, path, &[condition]).await;
            assert_eq!(
                (again.status().as_u16(), header(&again, "cache-control")),
                (304, caching),
                "{path} {condition:?}"
            );
            assert_eq!(again.text().await.unwrap(), "");
        }
        let other = site
            .ask(Method::GET, path, &[("if-none-match", "\"other\"")])
            .await;
        assert_eq!(other.status(), 200, "{path}");
        assert!(!other.text().await.unwrap().is_empty(), "{path}");
    }
}
