//! The provider of a Workflow with its key, from the objects as they were read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use reqwest::Url;
use reqwest::header::HeaderValue;
use stagecraft_api::label::ALLOWED_HOSTS;
use stagecraft_api::model::Protocol;
use stagecraft_api::provider::{
    ModelFallback, ModelProviderSpec, Prices, ProviderKind, ProviderLimits, SecretKeyRef,
};

use super::redact::Redactor;
use super::request::Operation;

/// What a call needs to know.
#[derive(Clone, Debug)]
pub struct Provider {
    pub protocol: Protocol,
    pub base: Url,
    key: Option<HeaderValue>,
    /// The model of whoever asks for none.
    pub model: String,
    pub allowed: Vec<String>,
    /// Longest silence.
    pub timeout: Duration,
    pub prices: Prices,
    pub limits: ProviderLimits,
    /// Most tokens that a call writes which does not say.
    pub max_output: u64,
    /// What is called instead.
    pub fallback: Vec<ModelFallback>,
    pub fallback_on_budget: bool,
    /// What agents may have it do with things outside of their requests.
    pub server_tools: Vec<String>,
}

/// Why there is no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    #[error("there is no ModelProvider {0} in the Workflow's namespace: create it")]
    Missing(String),
    #[error(
        "ModelProvider {0} is built in and calls no model: name another in spec.model.provider of the Workflow"
    )]
    BuiltIn(String),
    #[error("ModelProvider {provider} cannot be used: {problem}")]
    Unusable { provider: String, problem: String },
    #[error("the API server cannot be asked for the ModelProvider: {0}")]
    ApiServer(String),
}

impl Provider {
    /// From the objects as they were read.
    pub fn new(name: &str, spec: &ModelProviderSpec, secret: Option<&Secret>) -> Result<Self, ProviderError> {
        let unusable = |problem: String| ProviderError::Unusable {
            provider: name.to_owned(),
            problem,
        };
        let (protocol, public) =
            api_of(spec.provider).ok_or_else(|| ProviderError::BuiltIn(name.to_owned()))?;
        let text = spec.base_url.as_deref().unwrap_or(public);
        let base = base(text).map_err(unusable)?;
        let key = match &spec.secret_ref {
            None => None,
            Some(reference) => Some(key(reference, secret, &base, public).map_err(unusable)?),
        };
        let model = spec.model.clone().unwrap_or_default();
        let mut allowed = spec.allowed_models.clone();
        if !allowed.contains(&model) {
            allowed.push(model.clone());
        }
        Ok(Self {
            protocol,
            base,
            key,
            model,
            allowed,
            timeout: Duration::from_secs(spec.timeout_seconds.into()),
            prices: spec.prices.clone(),
            limits: spec.limits.clone(),
            max_output: spec.max_output_tokens.into(),
            fallback: spec.fallback.clone(),
            fallback_on_budget: spec.fallback_on_budget,
            server_tools: spec.server_tools.clone(),
        })
    }

    /// Where an operation is. The base of OpenAI ends with its version, that of Anthropic does not.
    pub fn url(&self, operation: Operation) -> Url {
        at(&self.base, self.protocol, operation)
    }

    /// The header that carries the key.
    pub fn authorization(&self) -> Option<(&'static str, HeaderValue)> {
        let key = self.key.clone()?;
        Some(match self.protocol {
            Protocol::Anthropic => ("x-api-key", key),
            Protocol::Openai => ("authorization", key),
        })
    }
}

impl Provider {
    /// Takes the key out of what comes back.
    pub fn redactor(&self) -> Redactor {
        let header = self.key.as_ref().map(HeaderValue::as_bytes).unwrap_or_default();
        Redactor::new(header.strip_prefix(b"Bearer ").unwrap_or(header))
    }
}

/// Protocol and public base URL.
pub fn api_of(kind: ProviderKind) -> Option<(Protocol, &'static str)> {
    match kind {
        ProviderKind::Builtin => None,
        ProviderKind::Anthropic => Some((Protocol::Anthropic, "https://api.anthropic.com")),
        ProviderKind::Openai => Some((Protocol::Openai, "https://api.openai.com/v1")),
    }
}

pub fn base(text: &str) -> Result<Url, String> {
    let is_plain = |url: &Url| {
        let has_user = !url.username().is_empty() || url.password().is_some();
        url.has_host() && !has_user && url.query().is_none() && url.fragment().is_none()
    };
    let parsed = Url::parse(text).ok().filter(is_plain);
    parsed.ok_or_else(|| {
        "spec.baseUrl is not a URL with a host and a path alone: a user, a query or a fragment does not belong to it".to_owned()
    })
}

pub fn at(base: &Url, protocol: Protocol, operation: Operation) -> Url {
    let path = operation.path();
    let path = match protocol {
        Protocol::Anthropic => path,
        Protocol::Openai => path.strip_prefix("v1/").unwrap_or(path),
    };
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// The key as a header, if it may go to this host.
fn key(
    reference: &SecretKeyRef,
    secret: Option<&Secret>,
    base: &Url,
    public: &str,
) -> Result<HeaderValue, String> {
    let SecretKeyRef { name, key } = reference;
    let secret = secret
        .ok_or_else(|| format!("there is no Secret {name}: create it, or correct spec.secretRef.name"))?;
    let host = |url: &Url| {
        let host = url.host_str().unwrap_or_default();
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    let is_secure = base.scheme() == "https";
    // In clear a key goes only where its owner says just that.
    let wanted = if is_secure {
        host(base)
    } else {
        format!("{}://{}", base.scheme(), host(base))
    };
    let is_public = is_secure && Url::parse(public).is_ok_and(|public| host(&public) == wanted);
    let listed = secret
        .annotations()
        .get(ALLOWED_HOSTS)
        .map(String::as_str)
        .unwrap_or_default();
    if !is_public && !listed.split([',', ' ']).any(|listed| listed == wanted) {
        return Err(format!(
            "the key in Secret {name} must not go to {wanted}: whoever owns the Secret allows that by its annotation \
             {ALLOWED_HOSTS}={wanted}"
        ));
    }
    let bytes = secret.data.as_ref().and_then(|data| data.get(key));
    let bytes = bytes
        .ok_or_else(|| format!("Secret {name} has no entry {key}: add it, or correct spec.secretRef.key"))?;
    let text = std::str::from_utf8(&bytes.0).unwrap_or_default().trim();
    let header = if public.contains("anthropic") {
        text.to_owned()
    } else {
        format!("Bearer {text}")
    };
    let mut header = HeaderValue::from_str(&header)
        .ok()
        .filter(|_| !text.is_empty())
        .ok_or_else(|| {
            format!("entry {key} of Secret {name} is not a key: it is empty, or no header can hold it")
        })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use serde_json::{Value, json};
    use stagecraft_api::provider::ModelProviderSpec;

    use super::{Operation, Provider, ProviderError};

    fn spec(value: Value) -> ModelProviderSpec {
        serde_json::from_value(value).unwrap()
    }

    fn secret(hosts: &str) -> Secret {
        serde_json::from_value(json!({
            "metadata": {"name": "keys", "annotations": {"stagecraft.dev/allowed-hosts": hosts}},
            "data": {"apiKey": "c2VjcmV0Cg==", "empty": "Cg=="},
        }))
        .unwrap()
    }

    fn problem(spec: Value, secret: Option<&Secret>) -> String {
        Provider::new("p", &self::spec(spec), secret)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn keys_go_where_they_are_allowed_to_and_nowhere_else() {
        let anthropic = json!({"provider": "anthropic", "model": "m", "secretRef": {"name": "keys"}});
        let provider = Provider::new("p", &spec(anthropic.clone()), Some(&secret(""))).unwrap();
        let (name, value) = provider.authorization().unwrap();
        assert_eq!((name, value.as_bytes()), ("x-api-key", &b"secret"[..]));
        assert!(
            value.is_sensitive() && !format!("{provider:?}").contains("secret\""),
            "{provider:?}"
        );

        let mut elsewhere = anthropic.clone();
        elsewhere["baseUrl"] = json!("https://models.example.com:8443/x");
        let told = problem(elsewhere.clone(), Some(&secret("models.example.com")));
        assert!(told.contains("must not go to models.example.com:8443"), "{told}");
        assert!(
            told.contains("stagecraft.dev/allowed-hosts=models.example.com:8443"),
            "{told}"
        );
        assert!(Provider::new("p", &spec(elsewhere), Some(&secret("a, models.example.com:8443"))).is_ok());

        let mut plain = anthropic;
        plain["baseUrl"] = json!("http://api.anthropic.com");
        assert!(
            problem(plain, Some(&secret(""))).contains("must not go to"),
            "not without TLS"
        );
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said() {
        let with = |reference: Value| json!({"provider": "openai", "model": "m", "secretRef": reference});
        assert!(problem(with(json!({"name": "keys"})), None).contains("there is no Secret keys"));
        let found = secret("");
        assert!(problem(with(json!({"name": "keys", "key": "x"})), Some(&found)).contains("has no entry x"));
        assert!(
            problem(with(json!({"name": "keys", "key": "empty"})), Some(&found)).contains("is not a key")
        );
        let built_in = Provider::new("p", &spec(json!({"provider": "builtin"})), None);
        assert_eq!(built_in.unwrap_err(), ProviderError::BuiltIn("p".to_owned()));
        let url = json!({"provider": "openai", "model": "m", "baseUrl": "http://"});
        assert!(problem(url, None).contains("is not a URL"));
        for base in [
            "https://user:word@models.example.com",
            "https://x@models.example.com/v1",
            "https://models.example.com/v1?key=x",
            "https://models.example.com/v1#x",
        ] {
            let url = json!({"provider": "openai", "model": "m", "baseUrl": base});
            let told = problem(url, None);
            assert!(told.contains("is not a URL") && !told.contains("word"), "{told}");
        }
    }

    #[test]
    fn operations_are_found_below_the_base_as_the_sdks_find_them() {
        let url = |provider: &str, base: Option<&str>, operation| {
            let spec = spec(json!({"provider": provider, "model": "m", "baseUrl": base}));
            Provider::new("p", &spec, None)
                .unwrap()
                .url(operation)
                .to_string()
        };
        for (provider, base, operation, expected) in [
            (
                "anthropic",
                None,
                Operation::Messages,
                "https://api.anthropic.com/v1/messages",
            ),
            (
                "openai",
                None,
                Operation::Responses,
                "https://api.openai.com/v1/responses",
            ),
            (
                "openai",
                Some("http://llm:11434/v1/"),
                Operation::ChatCompletions,
                "http://llm:11434/v1/chat/completions",
            ),
            (
                "anthropic",
                Some("http://proxy/a/b"),
                Operation::CountTokens,
                "http://proxy/a/b/v1/messages/count_tokens",
            ),
        ] {
            assert_eq!(url(provider, base, operation), expected);
        }
    }

    #[test]
    fn only_its_own_model_is_allowed_unless_more_are() {
        let one = Provider::new("p", &spec(json!({"provider": "openai", "model": "m"})), None).unwrap();
        assert_eq!(one.allowed, ["m"]);
        let more = json!({"provider": "openai", "model": "m", "allowedModels": ["m", "n"]});
        assert_eq!(Provider::new("p", &spec(more), None).unwrap().allowed, ["m", "n"]);
    }
}
