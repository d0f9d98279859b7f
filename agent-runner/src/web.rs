//! A web server for the files of an application: what deployed applications run, and what end-to-end tests use.

use std::future::Future;
use std::io;
use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tower_http::services::{ServeDir, ServeFile};

/// What a visitor gets first, and for every path that the application's own code resolves.
pub const INDEX: &str = "index.html";
/// Below here builds put files whose names change with their content.
const ASSETS: &str = "/assets/";

/// Serves a directory: its files, `index.html` for directories and for paths that name no file and have no dot in their last
/// part. Nothing that a link leads to outside of the directory, and no file whose name begins with a dot.
pub fn router(root: &Path) -> Router {
    let files = ServeDir::new(root).fallback(ServeFile::new(root.join(INDEX)));
    Router::new()
        .fallback_service(files)
        .layer(middleware::from_fn_with_state(root.to_owned(), guard))
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

async fn guard(State(root): State<PathBuf>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let mut response = if reads && !allowed(&root, &path).await {
        (StatusCode::NOT_FOUND, "there is no such file\n").into_response()
    } else {
        next.run(request).await
    };
    let is_page = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let is_there = response.status().is_success() || response.status() == StatusCode::NOT_MODIFIED;
    let headers = response.headers_mut();
    if is_page {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    }
    let caching = if is_there && !is_page && path.starts_with(ASSETS) {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    headers.insert(
        REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    );
    response
}

/// Whether a path may be looked up: a file within the root, or one that the application's own code may resolve.
async fn allowed(root: &Path, path: &str) -> bool {
    let Ok(path) = percent_decode_str(path).decode_utf8() else {
        return false;
    };
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| match part {
        Component::Normal(name) => !name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    });
    if !plain || path.contains('\0') {
        return false;
    }
    match tokio::fs::canonicalize(root.join(relative)).await {
        Ok(found) => tokio::fs::canonicalize(root)
            .await
            .is_ok_and(|root| found.starts_with(root)),
        // With a dot it is meant as a file, and that is not there.
        Err(_) => relative.extension().is_none(),
    }
}
