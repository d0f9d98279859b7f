//! Reads providers with their keys from the API server when they are needed, and believes them for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use reqwest::Url;
use stagecraft_api::ModelProvider;

use super::provider::{Provider, ProviderError, api_of, at, base};
use super::request::Operation;
use super::shared::Place;

/// How long what was read is believed: a key that is taken away is used no longer than this.
const BELIEVED: Duration = Duration::from_secs(10);
/// Longest wait for one answer of the API server.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most providers that are remembered.
const PROVIDERS: usize = 1024;

/// Reads providers.
pub struct Providers {
    client: Client,
    known: Mutex<HashMap<Place, (Instant, Arc<Provider>)>>,
}

impl Providers {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            known: Mutex::default(),
        }
    }

    pub async fn get(&self, namespace: &str, name: &str) -> Result<Arc<Provider>, ProviderError> {
        let place = (namespace.to_owned(), name.to_owned());
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, provider)) = known.get(&place)
                && at.elapsed() < BELIEVED
            {
                return Ok(provider.clone());
            }
        }
        let read_at = Instant::now();
        let provider = Arc::new(self.read(namespace, name).await?);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (at, _)| at.elapsed() < BELIEVED);
        if known.len() < PROVIDERS {
            known.insert(place, (read_at, provider.clone()));
        }
        Ok(provider)
    }

    /// Where a provider lists its models. It needs no key.
    pub async fn list_of_models(&self, namespace: &str, name: &str) -> Result<Url, ProviderError> {
        let ModelProvider { spec, .. } = self.object(namespace, name).await?;
        let (protocol, public) =
            api_of(spec.provider).ok_or_else(|| ProviderError::BuiltIn(name.to_owned()))?;
        let base =
            base(spec.base_url.as_deref().unwrap_or(public)).map_err(|problem| ProviderError::Unusable {
                provider: name.to_owned(),
                problem,
            })?;
        Ok(at(&base, protocol, Operation::Models))
    }

    async fn object(&self, namespace: &str, name: &str) -> Result<ModelProvider, ProviderError> {
        let providers: Api<ModelProvider> = Api::namespaced(self.client.clone(), namespace);
        let found = bounded(providers.get_opt(name)).await?;
        found.ok_or_else(|| ProviderError::Missing(name.to_owned()))
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Provider, ProviderError> {
        let found = self.object(namespace, name).await?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = match &found.spec.secret_ref {
            Some(reference) => bounded(secrets.get_opt(&reference.name)).await?,
            None => None,
        };
        Provider::new(name, &found.spec, secret.as_ref())
    }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ProviderError> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(object)) => Ok(object),
        Ok(Err(error)) => Err(ProviderError::ApiServer(stagecraft_api::error::chain(&error))),
        Err(_) => Err(ProviderError::ApiServer("no answer in time".to_owned())),
    }
}
