//! The certificate that is served, read again when its files change, and the authorities that are believed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum_server::tls_rustls::RustlsConfig;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// How often the files are looked at. A Secret takes about a minute to reach them anyway.
const INTERVAL: Duration = Duration::from_secs(5);

/// What the files hold.
#[derive(PartialEq, Eq)]
pub struct Pem {
    certificates: Vec<u8>,
    key: Vec<u8>,
}

impl Pem {
    pub async fn read(certificate: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = async |path: &Path| {
            tokio::fs::read(path)
                .await
                .with_context(|| format!("{} cannot be read", path.display()))
        };
        Ok(Self {
            certificates: read(certificate).await?,
            key: read(key).await?,
        })
    }

    /// HTTP/1.1 only: a stage sends few requests, and its uploads take connections of their own.
    pub fn config(&self) -> anyhow::Result<Arc<ServerConfig>> {
        let certificates = CertificateDer::pem_slice_iter(&self.certificates)
            .collect::<Result<Vec<_>, _>>()
            .context("the certificate is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("the private key is not PEM")?;
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .context("certificate and key do not fit")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Takes over new files for ever. Files that cannot be used change nothing.
pub async fn follow(config: RustlsConfig, mut current: Pem, certificate: &Path, key: &Path) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let read = match Pem::read(certificate, key).await {
            Ok(read) if read == current => continue,
            Ok(read) => read.config().map(|next| (read, next)),
            Err(error) => Err(error),
        };
        match read {
            Ok((pem, next)) => {
                config.reload_from_config(next);
                current = pem;
                tracing::info!("the certificate changed and was read again");
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the old certificate stays in use"),
        }
    }
}

/// The public authorities and one's own. The image of the gateway holds no others.
pub fn authorities(own: &str) -> Result<Vec<reqwest::Certificate>, reqwest::Error> {
    let public = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    let mut authorities = Vec::with_capacity(public.len() + 1);
    for certificate in public {
        authorities.push(reqwest::Certificate::from_der(certificate)?);
    }
    authorities.extend(reqwest::Certificate::from_pem_bundle(own.as_bytes())?);
    Ok(authorities)
}
