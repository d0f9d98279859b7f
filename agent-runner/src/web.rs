//! A web server for the files of an application: what deployed applications run, and what end-to-end tests use.
//!
//! A path is resolved once, links included, and what that gives is what is opened. A check of the path followed by another
//! look-up would miss what the look-up adds, such as the `index.html` of a directory.

use std::future::Future;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tower_http::services::ServeFile;
use tracing::error;

/// What a visitor gets first, and for every path that the application's own code resolves.
pub const INDEX: &str = "index.html";
/// Directory in which builds put files whose names change with their content.
const ASSETS: &str = "assets";

/// For what can change under its name: asked about each time, and answered with 304 while it has not.
const ASK: &str = "no-cache";
/// For what never changes under its name.
const KEEP: &str = "public, max-age=31536000, immutable";

/// Serves a directory: its files, and `index.html` for directories and for paths that name no file and have no dot in their
/// last part. Nothing that a link leads to outside of the directory, and no file whose name begins with a dot.
pub fn router(root: &Path) -> Router {
    Router::new().fallback(answer).with_state(root.to_owned())
}

/// Serves a directory until told otherwise; connections that are open then are brought to their end.
pub async fn serve(
    listener: TcpListener,
    root: PathBuf,
    until: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(&root))
        .with_graceful_shutdown(until)
        .await
}

/// Whether a directory has a first page to serve. Not so when that is a link to the outside.
pub fn has_index(root: &Path) -> bool {
    matches!(look(root, Path::new(INDEX)), Entry::File(_))
}

async fn answer(State(root): State<PathBuf>, request: Request) -> Response {
    let (mut response, caching) = respond(root, request).await;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    headers.insert(
        REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    );
    response
}

/// The response, and how long it may be kept.
async fn respond(root: PathBuf, request: Request) -> (Response, &'static str) {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let refusal = (
            StatusCode::METHOD_NOT_ALLOWED,
            [(ALLOW, "GET, HEAD")],
            "files are only read here\n",
        );
        return (refusal.into_response(), ASK);
    }
    let uri = request.uri().clone();
    let path = uri.path().to_owned();
    match tokio::task::spawn_blocking(move || resolve(&root, &path)).await {
        Ok(Target::File { file, caching }) => send(&file, caching, request).await,
        Ok(Target::Slash) => {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            let place = format!("{}/{query}", uri.path());
            (Redirect::temporary(&place).into_response(), ASK)
        }
        Ok(Target::Nothing) => (absent(), ASK),
        Err(error) => (broken(&error, uri.path()), ASK),
    }
}

async fn send(file: &Path, caching: &'static str, request: Request) -> (Response, &'static str) {
    let mut response = match ServeFile::new(file).try_call(request).await {
        Ok(response) => response.map(Body::new),
        // It was there a moment before.
        Err(error) if error.kind() == ErrorKind::NotFound => absent(),
        Err(error) => broken(&error, &file.display().to_string()),
    };
    if response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind == "text/html")
    {
        let page = HeaderValue::from_static("text/html; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, page);
    }
    let is_there = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    (response, if is_there { caching } else { ASK })
}

fn absent() -> Response {
    (StatusCode::NOT_FOUND, "there is no such file\n").into_response()
}

fn broken(error: &(dyn std::error::Error + 'static), what: &str) -> Response {
    error!(error, "{what} cannot be served");
    (StatusCode::INTERNAL_SERVER_ERROR, "this file cannot be read\n").into_response()
}

/// What a request is answered with.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    File {
        file: PathBuf,
        caching: &'static str,
    },
    /// The same path with a slash at its end, or the relative links of the directory's page would lead elsewhere.
    Slash,
    Nothing,
}

fn resolve(root: &Path, path: &str) -> Target {
    let Some(relative) = relative(path) else {
        return Target::Nothing;
    };
    let index = |directory: &Path| look(root, &directory.join(INDEX));
    let named = match look(root, Path::new(&relative)) {
        // Only a directory has a slash behind its name.
        Entry::File(_) if path.ends_with('/') => Entry::Absent,
        entry => entry,
    };
    let entry = match named {
        Entry::Directory => match index(Path::new(&relative)) {
            Entry::File(_) if !path.ends_with('/') => return Target::Slash,
            Entry::Absent => index(Path::new("")),
            other => other,
        },
        // A last part with a dot is meant as a file, and that is not there.
        Entry::Absent if !relative.rsplit('/').next().unwrap_or_default().contains('.') => {
            index(Path::new(""))
        }
        other => other,
    };
    match entry {
        Entry::File(file) => Target::File {
            caching: caching(root, &file),
            file,
        },
        Entry::Directory | Entry::Absent | Entry::Refused => Target::Nothing,
    }
}

/// The decoded path without slashes at its ends. None for one with a name that is hidden, leads upwards or is empty: a
/// browser takes what follows two slashes for a host, so such a path must not come back in a redirect.
fn relative(path: &str) -> Option<String> {
    let path = percent_decode_str(path.strip_prefix('/')?).decode_utf8().ok()?;
    let path = path.strip_suffix('/').unwrap_or(&path);
    let is_plain = path.is_empty()
        || path
            .split('/')
            .all(|name| !name.is_empty() && !name.starts_with('.'));
    (is_plain && !path.contains('\0')).then(|| path.to_owned())
}

/// By what is sent, not by what was asked for: below `/assets/` the application has paths of its own too, and those give
/// its page.
fn caching(root: &Path, file: &Path) -> &'static str {
    let is_page = file
        .extension()
        .is_some_and(|kind| kind == "html" || kind == "htm");
    let is_asset = root
        .canonicalize()
        .is_ok_and(|root| file.starts_with(root.join(ASSETS)));
    if is_asset && !is_page { KEEP } else { ASK }
}

/// What is at a path below the root once all links are followed.
enum Entry {
    File(PathBuf),
    Directory,
    Absent,
    /// Outside of the root, hidden, unreadable, or neither file nor directory: opening a pipe would never return.
    Refused,
}

fn look(root: &Path, relative: &Path) -> Entry {
    let follow = || -> io::Result<Entry> {
        let root = root.canonicalize()?;
        let found = root.join(relative).canonicalize()?;
        let is_inside = found.strip_prefix(&root).is_ok_and(|inner| {
            inner
                .iter()
                .all(|name| !name.as_encoded_bytes().starts_with(b"."))
        });
        let kind = found.metadata()?.file_type();
        Ok(match (is_inside, kind.is_file(), kind.is_dir()) {
            (true, true, _) => Entry::File(found),
            (true, _, true) => Entry::Directory,
            _ => Entry::Refused,
        })
    };
    follow().unwrap_or_else(|error| match error.kind() {
        // Paths of the application may be longer than a file's name, and may go on below a file.
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => Entry::Absent,
        _ => {
            error!(
                error = &error as &dyn std::error::Error,
                "{} below {} cannot be looked up",
                relative.display(),
                root.display()
            );
            Entry::Refused
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_an_error_that_nobody_keeps() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.js");
        // Also whoever may read everything cannot open it.
        std::os::unix::fs::symlink("a.js", &file).unwrap();
        let (response, caching) = send(&file, KEEP, Request::default()).await;
        assert_eq!(
            (response.status(), caching),
            (StatusCode::INTERNAL_SERVER_ERROR, ASK)
        );
    }
}
