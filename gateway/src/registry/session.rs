//! What is said to the registry about one repository.

use std::time::Duration;

use bytes::Bytes;
use http_auth::parse_challenges;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, Url};
use serde::Deserialize;
use stagecraft_api::Digest;
use stagecraft_api::error::{chain, one_line, truncate};

use super::{Registry, RegistryError, STALL};
use crate::store::Blob;

/// Longest wait for an answer that needs no transfer.
const ANSWER: Duration = Duration::from_secs(30);
/// Slowest transfer that is waited for, in bytes per second.
const SLOWEST: u64 = 128 * 1024;
/// Longest part of an answer that is told on, in bytes.
const PROBLEM_BYTES: usize = 400;
/// Largest body of an error or a token that is read.
const BODY_BYTES: usize = 64 * 1024;

/// Where an image goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub(super) repository: String,
    pub(super) tag: String,
}

/// Speaks about one repository, with what the registry wants to see of the gateway.
pub struct Session<'registry> {
    registry: &'registry Registry,
    target: Target,
    authorization: Option<HeaderValue>,
}

impl<'registry> Session<'registry> {
    pub(super) fn new(registry: &'registry Registry, target: Target) -> Self {
        Self {
            registry,
            target,
            authorization: None,
        }
    }

    /// What nodes pull.
    pub fn pinned(&self, manifest: &Digest) -> String {
        format!("{}/{}@{manifest}", self.registry.host, self.target.repository)
    }

    /// Whether the repository has this blob.
    pub async fn has(&mut self, digest: &Digest) -> Result<bool, RegistryError> {
        let url = self.url(&format!("blobs/{digest}"))?;
        let response = self.ask(&|http| http.head(url.clone())).await?;
        match response.status() {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.failure(response).await),
        }
    }

    /// Uploads a blob in one piece, as it comes from the store.
    pub async fn put_blob(&mut self, digest: &Digest, blob: Blob) -> Result<(), RegistryError> {
        let Blob { bytes, content } = blob;
        let url = self.url("blobs/uploads/")?;
        // Some registries insist on the length of an empty body.
        let begun = self
            .ask(&|http| http.post(url.clone()).header(header::CONTENT_LENGTH, 0))
            .await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.failure(begun).await);
        }
        let mut upload = self.location(&url, begun.headers())?;
        upload.query_pairs_mut().append_pair("digest", digest.as_str());
        let request = self
            .registry
            .http
            .request(Method::PUT, upload.clone())
            .headers(self.credentials_for(&upload))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, bytes)
            .timeout(STALL + Duration::from_secs(bytes / SLOWEST))
            .body(Body::wrap_stream(content));
        let response = request.send().await.map_err(|error| self.away(error))?;
        self.expect_created(response).await
    }

    /// Puts the manifest under the tag, by which the image comes to be.
    pub async fn put_manifest(&mut self, manifest: &Bytes, media_type: &str) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{}", self.target.tag))?;
        let response = self
            .ask(&|http| {
                http.put(url.clone())
                    .header(header::CONTENT_TYPE, media_type)
                    .body(manifest.clone())
            })
            .await?;
        self.expect_created(response).await
    }

    /// Asks, and asks once more with what the registry wants to see when it says so.
    async fn ask(
        &mut self,
        request: &(dyn Fn(&reqwest::Client) -> RequestBuilder + Sync),
    ) -> Result<Response, RegistryError> {
        let response = self.send(request).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let Some(authorization) = self.answer_challenge(&response).await? else {
            return Ok(response);
        };
        self.authorization = Some(authorization);
        self.send(request).await
    }

    async fn send(
        &self,
        request: &(dyn Fn(&reqwest::Client) -> RequestBuilder + Sync),
    ) -> Result<Response, RegistryError> {
        let request = request(&self.registry.http)
            .headers(self.credentials_for(&self.registry.base))
            .timeout(ANSWER);
        request.send().await.map_err(|error| self.away(error))
    }

    /// What proves who the gateway is, for the registry alone: an upload may be sent elsewhere.
    fn credentials_for(&self, url: &Url) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = &self.authorization
            && url.origin() == self.registry.base.origin()
        {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        headers
    }

    /// Answers the challenge of a 401; none when it is one that the gateway has no answer to.
    async fn answer_challenge(&self, response: &Response) -> Result<Option<HeaderValue>, RegistryError> {
        for text in response.headers().get_all(header::WWW_AUTHENTICATE) {
            let challenges = text.to_str().ok().and_then(|text| parse_challenges(text).ok());
            for challenge in challenges.unwrap_or_default() {
                let parameter = |wanted: &str| {
                    challenge
                        .params
                        .iter()
                        .find(|(name, _)| name.eq_ignore_ascii_case(wanted))
                        .map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer")
                    && let Some(realm) = parameter("realm")
                {
                    let token = self.fetch_token(&realm, parameter("service")).await?;
                    return Ok(sensitive(&format!("Bearer {token}")));
                }
                if challenge.scheme.eq_ignore_ascii_case("basic")
                    && let Some((username, password)) = &self.registry.credentials
                {
                    return Ok(basic(
                        &self.registry.http,
                        &self.registry.base,
                        username,
                        &password.0,
                    ));
                }
            }
        }
        Ok(None)
    }

    async fn fetch_token(&self, realm: &str, service: Option<String>) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(alias = "access_token")]
            token: String,
        }
        let realm = Url::parse(realm)
            .map_err(|_| self.refused(format!("its token service {realm:?} is not a URL")))?;
        let scope = format!("repository:{}:pull,push", self.target.repository);
        let mut query = vec![("scope", scope)];
        query.extend(service.map(|service| ("service", service)));
        let mut request = self.registry.http.get(realm).query(&query).timeout(ANSWER);
        if let Some((username, password)) = &self.registry.credentials {
            request = request.basic_auth(username, Some(&password.0));
        }
        let response = request.send().await.map_err(|error| self.away(error))?;
        if !response.status().is_success() {
            return Err(self.failure(response).await);
        }
        let body = read(response).await;
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| self.refused("its token service answered without a token".to_owned()))?;
        Ok(answer.token)
    }

    fn url(&self, path: &str) -> Result<Url, RegistryError> {
        self.registry
            .base
            .join(&format!("v2/{}/{path}", self.target.repository))
            .map_err(|error| self.refused(error.to_string()))
    }

    fn location(&self, asked: &Url, headers: &HeaderMap) -> Result<Url, RegistryError> {
        headers
            .get(header::LOCATION)
            .and_then(|location| asked.join(location.to_str().ok()?).ok())
            .ok_or_else(|| self.refused("it did not say where to upload to".to_owned()))
    }

    async fn expect_created(&self, response: Response) -> Result<(), RegistryError> {
        if response.status() == StatusCode::CREATED {
            Ok(())
        } else {
            Err(self.failure(response).await)
        }
    }

    async fn failure(&self, response: Response) -> RegistryError {
        let status = response.status();
        let body = read(response).await;
        let problem = problem(status, &String::from_utf8_lossy(&body));
        let host = self.registry.host.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
                host,
                repository: self.target.repository.clone(),
                problem,
            },
            status if may_pass(status) => RegistryError::Unavailable { host, problem },
            _ => RegistryError::Refused { host, problem },
        }
    }

    fn away(&self, error: reqwest::Error) -> RegistryError {
        RegistryError::Unavailable {
            host: self.registry.host.clone(),
            problem: truncate(&one_line(&chain(&error.without_url())), PROBLEM_BYTES),
        }
    }

    fn refused(&self, problem: String) -> RegistryError {
        RegistryError::Refused {
            host: self.registry.host.clone(),
            problem,
        }
    }
}

/// The header of basic authentication, as the client writes it.
fn basic(http: &reqwest::Client, base: &Url, username: &str, password: &str) -> Option<HeaderValue> {
    let request = http.get(base.clone()).basic_auth(username, Some(password));
    request
        .build()
        .ok()?
        .headers()
        .get(header::AUTHORIZATION)
        .cloned()
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn may_pass(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
        )
}

/// What an error says by the distribution specification, or the body itself.
fn problem(status: StatusCode, body: &str) -> String {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<Said>,
    }
    #[derive(Deserialize)]
    struct Said {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let first = serde_json::from_str::<Errors>(body)
        .ok()
        .and_then(|body| body.errors.into_iter().next());
    let said = match first {
        Some(Said { code, message }) => format!("{code} {message}"),
        None => body.to_owned(),
    };
    let said = one_line(&said);
    if said.is_empty() {
        format!("status {status}")
    } else {
        truncate(&format!("status {status}: {said}"), PROBLEM_BYTES)
    }
}

/// As much of a body as anybody reads.
async fn read(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await {
        body.extend_from_slice(&piece);
        if body.len() > BODY_BYTES {
            body.truncate(BODY_BYTES);
            break;
        }
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_whether_to_come_again() {
        for (status, passes) in [
            (429, true),
            (503, true),
            (408, true),
            (400, false),
            (404, false),
            (413, false),
        ] {
            assert_eq!(
                may_pass(StatusCode::from_u16(status).unwrap()),
                passes,
                "{status}"
            );
        }
    }

    #[test]
    fn an_upload_that_is_sent_elsewhere_goes_without_credentials() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let settings = super::super::RegistrySettings {
            host: "registry.example.com:5000".into(),
            plain_http: false,
            prefix: "stagecraft".into(),
            username: String::new(),
            password: crate::args::Password::default(),
            certificate_authority: String::new(),
        };
        let registry = Registry::new(settings).unwrap();
        let mut session = registry.session(registry.target("team", "shop", "tag").unwrap());
        session.authorization = sensitive("Bearer secret");
        let given = |url: &str| session.credentials_for(&Url::parse(url).unwrap()).len();
        assert_eq!(given("https://registry.example.com:5000/v2/upload/7"), 1);
        for other in [
            "http://registry.example.com:5000/v2/upload/7",
            "https://registry.example.com/v2/upload/7",
            "https://storage.example.com:5000/v2/upload/7",
        ] {
            assert_eq!(given(other), 0, "{other}");
        }
    }

    #[test]
    fn what_the_registry_says_is_told_on_one_line() {
        let body = r#"{"errors":[{"code":"DENIED","message":"not\nyou"}]}"#;
        assert_eq!(
            problem(StatusCode::FORBIDDEN, body),
            "status 403 Forbidden: DENIED not you"
        );
        assert_eq!(problem(StatusCode::BAD_GATEWAY, ""), "status 502 Bad Gateway");
        let long = problem(StatusCode::BAD_GATEWAY, &"x".repeat(5000));
        assert!(long.len() <= PROBLEM_BYTES, "{}", long.len());
    }
}
