//! Asks the application itself, through its Service, as its users will.

use std::net::IpAddr;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use k8s_openapi::api::core::v1::Service;
use stagecraft_api::error::chain;
use tokio::time::Instant;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Why the application is not well.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    #[error("the Service has no ClusterIP")]
    NoAddress,
    #[error("GET {path} was answered with {status}, not with 200 OK")]
    Status {
        path: String,
        status: reqwest::StatusCode,
    },
    #[error("GET {path} got no answer: {problem}")]
    Silent { path: String, problem: String },
}

/// Asks until the answer is 200, at most until `until`: a Service takes a moment to know its Pods. Answers how long that
/// answer took.
pub async fn check(
    http: &reqwest::Client,
    service: &Service,
    port: u16,
    path: &str,
    until: Instant,
) -> Result<Duration, HealthError> {
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref());
    let address: IpAddr = address
        .and_then(|address| address.parse().ok())
        .ok_or(HealthError::NoAddress)?;
    let host = match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let url = format!("http://{host}:{port}{path}");
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(1))
        .without_max_times();
    let ask = || async {
        let began = Instant::now();
        let answer = http.get(&url).timeout(ANSWER).send().await;
        let answer = answer.map_err(|error| HealthError::Silent {
            path: path.to_owned(),
            problem: chain(&error.without_url()),
        })?;
        if answer.status() == reqwest::StatusCode::OK {
            Ok(began.elapsed())
        } else {
            Err(HealthError::Status {
                path: path.to_owned(),
                status: answer.status(),
            })
        }
    };
    ask.retry(backoff)
        .when(|_: &HealthError| Instant::now() < until)
        .await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;
    use serde_json::json;

    use super::*;
    use crate::deploy::places::plain_http;

    fn service(address: &str) -> Service {
        serde_json::from_value(json!({"spec": {"clusterIP": address}})).unwrap()
    }

    /// An application that is well from the third question on. Answers its port.
    async fn application() -> (u16, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let router = Router::new()
            .route(
                "/",
                get(|| async move {
                    if counter.fetch_add(1, Ordering::SeqCst) < 2 {
                        StatusCode::SERVICE_UNAVAILABLE
                    } else {
                        StatusCode::OK
                    }
                }),
            )
            .route(
                "/moved",
                get(|| async { (StatusCode::FOUND, [("location", "/")]) }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (port, asked)
    }

    #[tokio::test]
    async fn the_application_may_take_a_moment() {
        let (port, asked) = application().await;
        let until = Instant::now() + Duration::from_mins(1);
        let http = plain_http().unwrap();
        check(&http, &service("127.0.0.1"), port, "/", until)
            .await
            .unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn what_is_not_200_is_not_well_and_says_so() {
        let (port, _) = application().await;
        let http = plain_http().unwrap();
        let now = Instant::now();
        for (path, text) in [("/absent", "404"), ("/moved", "302")] {
            let error = check(&http, &service("127.0.0.1"), port, path, now)
                .await
                .unwrap_err();
            assert!(error.to_string().contains(text), "{error}");
        }
        let silent = check(&http, &service("127.0.0.1"), 1, "/", now)
            .await
            .unwrap_err();
        assert!(matches!(silent, HealthError::Silent { .. }), "{silent}");
        let nowhere = check(&http, &service("None"), port, "/", now).await.unwrap_err();
        assert!(matches!(nowhere, HealthError::NoAddress), "{nowhere}");
    }
}
