//! Who calls: the token, reviewed by the API server.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use sha2::{Digest as _, Sha256};
use stagecraft_api::protocol::AUDIENCE;

use crate::args::Quotas;
use crate::error::Refusal;
use crate::metrics::Metrics;
use crate::rate::Buckets;

/// The owner of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub username: String,
    /// Set when the token is bound to a Pod.
    pub pod: Option<PodIdentity>,
}

/// The Pod that a token is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// How long the answer about a token is believed.
const REMEMBER: Duration = Duration::from_secs(30);
/// Most answers that are remembered, of each kind: what strangers send cannot push out what is good.
const ANSWERS: usize = 4096;
/// Longest wait for the API server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest token that is looked at, in bytes. The usual ones have about 1 KiB.
const TOKEN_BYTES: usize = 16 * 1024;

/// Reviews tokens and remembers the answers.
pub struct Authenticator {
    client: Client,
    accepted: Answers<Caller>,
    refused: Answers<String>,
    failures: Buckets<IpAddr>,
    metrics: Metrics,
}

impl Authenticator {
    pub fn new(client: Client, quotas: &Quotas, metrics: Metrics) -> Self {
        Self {
            client,
            accepted: Answers::default(),
            refused: Answers::default(),
            failures: Buckets::new(
                f64::from(quotas.source_failures_per_second),
                f64::from(quotas.source_failures_burst),
            ),
            metrics,
        }
    }

    /// The caller, or 401, 429, 503. A known good token passes also from an address that fails a lot.
    pub async fn authenticate(&self, headers: &HeaderMap, source: IpAddr) -> Result<Caller, Refusal> {
        let now = Instant::now();
        let token = match bearer(headers) {
            Ok(token) => token,
            Err(refusal) => return Err(self.failed(source, now, refusal)),
        };
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(caller) = self.accepted.get(&digest, now) {
            return Ok(caller);
        }
        if let Some(reason) = self.refused.get(&digest, now) {
            return Err(self.failed(source, now, Refusal::BadToken(reason)));
        }
        self.failures
            .peek(&source, now)
            .map_err(|wait| Refusal::TooManyFailures { wait })?;
        match accept(self.review(token).await?) {
            Ok(caller) => {
                self.metrics.token_review("accepted");
                self.accepted.put(digest, caller.clone(), now);
                Ok(caller)
            }
            Err(reason) => {
                self.metrics.token_review("refused");
                self.refused.put(digest, reason.clone(), now);
                Err(self.failed(source, now, Refusal::BadToken(reason)))
            }
        }
    }

    async fn review(&self, token: &str) -> Result<TokenReviewStatus, Refusal> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let outcome = tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &review)).await;
        let problem = match outcome {
            Ok(Ok(review)) => return Ok(review.status.unwrap_or_default()),
            Ok(Err(error)) => stagecraft_api::error::chain(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        self.metrics.token_review("error");
        Err(Refusal::ApiServer(problem))
    }

    /// Counts a failed authentication; over the limit the answer says so instead.
    fn failed(&self, source: IpAddr, now: Instant, refusal: Refusal) -> Refusal {
        match self.failures.take(&source, 1.0, now) {
            Ok(()) => refusal,
            Err(wait) => Refusal::TooManyFailures { wait },
        }
    }
}

/// The token of the `Authorization` header.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(Refusal::NoToken);
    };
    let text = value.to_str().map_err(|_| Refusal::NoToken)?;
    let (scheme, token) = text.split_once(' ').ok_or(Refusal::NoToken)?;
    let token = token.trim();
    let well_formed = scheme.eq_ignore_ascii_case("bearer")
        && !token.is_empty()
        && token.len() <= TOKEN_BYTES
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if well_formed {
        Ok(token)
    } else {
        Err(Refusal::NoToken)
    }
}

/// What a review says: the caller, or why the token is refused.
fn accept(status: TokenReviewStatus) -> Result<Caller, String> {
    if status.authenticated != Some(true) {
        return Err("it is not valid or expired".to_owned());
    }
    let audiences = status.audiences.unwrap_or_default();
    if !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err("it is meant for another audience".to_owned());
    }
    let user = status.user.unwrap_or_default();
    let username = user
        .username
        .filter(|name| !name.is_empty())
        .ok_or_else(|| "it has no user".to_owned())?;
    let extra = user.extra.unwrap_or_default();
    let only = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.clone()),
        _ => None,
    };
    let namespace = username
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'))
        .map(|(namespace, _)| namespace.to_owned());
    let pod = match (
        namespace,
        only("authentication.kubernetes.io/pod-name"),
        only("authentication.kubernetes.io/pod-uid"),
    ) {
        (Some(namespace), Some(name), Some(uid)) => Some(PodIdentity { namespace, name, uid }),
        _ => None,
    };
    Ok(Caller { username, pod })
}

/// Answers by the SHA-256 of the token, bounded in number and time. No token is kept.
struct Answers<T>(Mutex<HashMap<[u8; 32], (Instant, T)>>);

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<T: Clone> Answers<T> {
    fn get(&self, digest: &[u8; 32], now: Instant) -> Option<T> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .get(digest)
            .filter(|(at, _)| now.saturating_duration_since(*at) < REMEMBER)
            .map(|(_, answer)| answer.clone())
    }

    fn put(&self, digest: [u8; 32], answer: T, now: Instant) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS {
            answers.retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBER);
        }
        if answers.len() >= ANSWERS {
            let oldest = answers.iter().min_by_key(|(_, (at, _))| *at).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                answers.remove(&oldest);
            }
        }
        answers.insert(digest, (now, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::UserInfo;
    use std::collections::BTreeMap;

    fn status() -> TokenReviewStatus {
        let extra = BTreeMap::from([
            (
                "authentication.kubernetes.io/pod-name".to_owned(),
                vec!["pod".to_owned()],
            ),
            (
                "authentication.kubernetes.io/pod-uid".to_owned(),
                vec!["uid".to_owned()],
            ),
        ]);
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec![AUDIENCE.to_owned()]),
            user: Some(UserInfo {
                username: Some("system:serviceaccount:team:default".to_owned()),
                extra: Some(extra),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    #[test]
    fn a_review_names_the_pod() {
        let caller = accept(status()).unwrap();
        let pod = PodIdentity {
            namespace: "team".into(),
            name: "pod".into(),
            uid: "uid".into(),
        };
        assert_eq!(caller.pod, Some(pod));
    }

    #[test]
    fn an_api_server_that_ignores_audiences_is_not_enough() {
        for audiences in [
            None,
            Some(vec![]),
            Some(vec!["https://kubernetes.default.svc".to_owned()]),
        ] {
            accept(TokenReviewStatus {
                audiences,
                ..status()
            })
            .unwrap_err();
        }
        accept(TokenReviewStatus {
            authenticated: None,
            ..status()
        })
        .unwrap_err();
    }

    #[test]
    fn a_user_that_is_no_service_account_has_no_pod() {
        let mut status = status();
        status.user.as_mut().unwrap().username = Some("admin".into());
        assert_eq!(accept(status).unwrap().pod, None);
    }

    #[test]
    fn only_one_well_formed_bearer_token_counts() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["Bearer abc"])).unwrap(), "abc");
        for bad in [
            &[][..],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a", "Bearer b"],
        ] {
            bearer(&headers(bad)).unwrap_err();
        }
    }

    #[test]
    fn answers_are_forgotten_in_time_and_bounded_in_number() {
        let answers = Answers::default();
        let start = Instant::now();
        answers.put([0; 32], "a", start);
        assert_eq!(answers.get(&[0; 32], start + Duration::from_secs(29)), Some("a"));
        assert_eq!(answers.get(&[0; 32], start + REMEMBER), None);
        for number in 0..=ANSWERS {
            let mut digest = [1; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            answers.put(digest, "b", start);
        }
        assert_eq!(answers.0.lock().unwrap().len(), ANSWERS);
    }
}
