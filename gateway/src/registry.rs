//! The image registry that nodes pull from, spoken to with the API of the OCI distribution specification.

//!
//! `oci-client` is not used: it makes a client with the system's certificate authorities on the way, and ends the process
//! where there are none, as in the gateway's image.

mod session;

use std::time::Duration;

use reqwest::Url;

use crate::args::Password;
use crate::tls;

pub use session::{Session, Target};

/// Where the registry is and how it is entered.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    /// HOST or HOST:PORT, as it stands in references that nodes pull.
    pub host: String,
    /// Speaks HTTP without TLS.
    pub plain_http: bool,
    /// First part of every repository.
    pub prefix: String,
    /// Empty: nobody in particular.
    pub username: String,
    pub password: Password,
    /// Authority that is trusted beside the public ones, as PEM; may be empty.
    pub certificate_authority: String,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(
        "the registry's host {0:?} is not HOST.DOMAIN, HOST:PORT or localhost: nodes would take it for a repository of Docker Hub; \
         correct registry.host in the chart's values"
    )]
    Host(String),
    #[error(
        "the repository prefix {0:?} is not lower-case letters, digits, dots, dashes and slashes; correct registry.repositoryPrefix in the chart's values"
    )]
    Prefix(String),
    #[error("the registry's client cannot be made; is registry.certificateAuthority of the chart valid PEM?")]
    Client(#[from] reqwest::Error),
}

/// Why an image is not in the registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// A later attempt may succeed.
    #[error("the registry {host} cannot be reached or is busy: {problem}")]
    Unavailable { host: String, problem: String },
    /// It does not let the gateway in.
    #[error("the registry {host} does not let the gateway push to {repository}: {problem}")]
    Denied {
        host: String,
        repository: String,
        problem: String,
    },
    /// It never will take it.
    #[error("the registry {host} refused the image: {problem}")]
    Refused { host: String, problem: String },
}

impl RegistryError {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unavailable { .. } => "see that the registry runs and that the gateway reaches it; the chart's registry.host says \
                 where it is, and registry.plainHttp whether it speaks HTTP without TLS"
                .to_owned(),
            Self::Denied { repository, .. } => format!(
                "name a Secret with the entries username and password of somebody who may push to {repository} in the chart's \
                 registry.existingSecret"
            ),
            Self::Refused { .. } => "read the registry's log, and see that it is a registry by the OCI distribution specification; \
                 the chart's registry.host says where it is"
                .to_owned(),
        }
    }
}

/// Longest pause within a transfer.
const STALL: Duration = Duration::from_mins(1);

/// The registry of the installation.
pub struct Registry {
    http: reqwest::Client,
    /// Scheme and host, where paths begin.
    base: Url,
    host: String,
    prefix: String,
    credentials: Option<(String, Password)>,
}

impl Registry {
    pub fn new(settings: RegistrySettings) -> Result<Self, SettingsError> {
        let RegistrySettings {
            host,
            plain_http,
            prefix,
            username,
            password,
            certificate_authority,
        } = settings;
        if !is_host(&host) {
            return Err(SettingsError::Host(host));
        }
        if !prefix.split('/').all(is_repository_part) {
            return Err(SettingsError::Prefix(prefix));
        }
        let scheme = if plain_http { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{}/", api_host(&host)))
            .map_err(|_| SettingsError::Host(host.clone()))?;
        let http = reqwest::Client::builder()
            .tls_certs_only(tls::authorities(&certificate_authority)?)
            .https_only(!plain_http)
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(STALL)
            .user_agent(concat!("stagecraft-gateway/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self {
            http,
            base,
            host,
            prefix,
            credentials: (!username.is_empty()).then_some((username, password)),
        })
    }

    /// The place of an image of a project; none when the names make no repository.
    pub fn target(&self, namespace: &str, project: &str, tag: &str) -> Option<Target> {
        let parts = [namespace, project];
        parts.iter().all(|part| is_repository_part(part)).then(|| Target {
            repository: format!("{}/{namespace}/{project}", self.prefix),
            tag: tag.to_owned(),
        })
    }

    /// Begins to speak about one repository.
    pub fn session(&self, target: Target) -> Session<'_> {
        Session::new(self, target)
    }
}

/// Where a registry's API is: Docker Hub has it elsewhere than its references say.
fn api_host(host: &str) -> &str {
    if host == "docker.io" {
        "registry-1.docker.io"
    } else {
        host
    }
}

/// Whether every client takes the text for a host: without dot or port it would be a part of a repository.
fn is_host(text: &str) -> bool {
    let (name, port) = text
        .split_once(':')
        .map_or((text, None), |(name, port)| (name, Some(port)));
    let good_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok());
    good_name && good_port && (name.contains('.') || port.is_some() || name == "localhost")
}

/// One component of a repository, by the distribution specification.
fn is_repository_part(text: &str) -> bool {
    let alphanumeric = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9');
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(alphanumeric))
        && text
            .bytes()
            .all(|byte| alphanumeric(byte) || matches!(byte, b'-' | b'.' | b'_'))
        && !["..", "._", "_.", "-.", ".-", "_-", "-_", "___"]
            .iter()
            .any(|pair| text.contains(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_every_client_takes_for_a_host_is_one() {
        for good in [
            "registry.example.com",
            "registry:5000",
            "localhost",
            "10.96.0.50:5000",
        ] {
            assert!(is_host(good), "{good}");
        }
        for bad in [
            "",
            "registry",
            "https://registry.example.com",
            "registry.example.com/x",
            "a b.c",
            "r:port",
        ] {
            assert!(!is_host(bad), "{bad}");
        }
    }

    #[test]
    fn a_client_needs_no_authorities_of_the_system_but_ones_own_must_be_certificates() {
        let settings = |certificate_authority: &str| RegistrySettings {
            host: "registry.example.com".into(),
            plain_http: false,
            prefix: "stagecraft".into(),
            username: String::new(),
            password: Password::default(),
            certificate_authority: certificate_authority.into(),
        };
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        assert!(Registry::new(settings("")).is_ok());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Registry::new(settings(broken)),
            Err(SettingsError::Client(_))
        ));
    }

    #[test]
    fn parts_of_repositories_are_those_of_the_specification() {
        for good in ["a", "team-1", "a--b", "a.b", "a_b", "a__b", "0"] {
            assert!(is_repository_part(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a/b", "a..b", "a___b", "a.-b", "ä"] {
            assert!(!is_repository_part(bad), "{bad}");
        }
    }
}
