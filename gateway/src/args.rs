//! Command line and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, ValueEnum};

use crate::model::crowd::BODY_BYTES;
use crate::model::daily::DailyBudgets;
use crate::registry::RegistrySettings;

/// The Stagecraft gateway: tasks, results and blobs of stage Pods.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    /// Address of the API, over TLS.
    #[arg(long, env = "STAGECRAFT_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Address of /healthz, /readyz and /metrics, without TLS.
    #[arg(long, env = "STAGECRAFT_STATUS_LISTEN", default_value = "0.0.0.0:8080")]
    pub status_listen: SocketAddr,
    /// Certificate chain as PEM. Read again when it changes.
    #[arg(long, env = "STAGECRAFT_TLS_CERTIFICATE_FILE")]
    pub tls_certificate_file: PathBuf,
    /// Private key as PEM. Read again when it changes.
    #[arg(long, env = "STAGECRAFT_TLS_KEY_FILE")]
    pub tls_key_file: PathBuf,
    /// Directory of the store. Nothing else is written to.
    #[arg(long, env = "STAGECRAFT_STORE")]
    pub store: PathBuf,
    /// redis://HOST:PORT of the queues. The password comes from STAGECRAFT_REDIS_PASSWORD.
    #[arg(long, env = "STAGECRAFT_REDIS_URL")]
    pub redis_url: String,
    /// Password of Redis.
    #[arg(
        long,
        env = "STAGECRAFT_REDIS_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    pub redis_password: Password,
    /// system:serviceaccount:NAMESPACE:NAME of the operator, the only caller of its part of the API.
    #[arg(long, env = "STAGECRAFT_OPERATOR_SERVICE_ACCOUNT")]
    pub operator_service_account: String,
    /// How often a runner sends a heartbeat, in seconds.
    #[arg(long, env = "STAGECRAFT_HEARTBEAT_SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=300))]
    pub heartbeat_seconds: u32,
    /// How log lines are written.
    #[arg(long, env = "STAGECRAFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Most that calls of models may use in each namespace in a day, in UTC, as JSON: {"default": {"tokens": 1000000}, "namespaces":
    /// {"team": {"cost": 5000000}}}. Each budget has tokens, cost (micro-units) and calls.
    #[arg(long, env = "STAGECRAFT_DAILY_BUDGETS", default_value = "{}")]
    pub daily_budgets: DailyBudgets,
    #[command(flatten)]
    pub registry: RegistryArguments,
    #[command(flatten)]
    pub quotas: Quotas,
}

/// The registry that images are pushed to.
#[derive(Clone, Debug, Args)]
pub struct RegistryArguments {
    /// HOST or HOST:PORT of the image registry that nodes pull from. Without it no image can be pushed.
    #[arg(long, env = "STAGECRAFT_REGISTRY_HOST", default_value = "")]
    pub registry_host: String,
    /// Whether the registry speaks HTTP without TLS.
    #[arg(
        long,
        env = "STAGECRAFT_REGISTRY_PLAIN_HTTP",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = ArgAction::Set
    )]
    pub registry_plain_http: bool,
    /// First part of the repositories: images go to PREFIX/NAMESPACE/PROJECT.
    #[arg(
        long,
        env = "STAGECRAFT_REGISTRY_REPOSITORY_PREFIX",
        default_value = "stagecraft"
    )]
    pub registry_repository_prefix: String,
    /// User of the registry; none when it is empty.
    #[arg(long, env = "STAGECRAFT_REGISTRY_USERNAME", default_value = "")]
    pub registry_username: String,
    /// Password of that user.
    #[arg(
        long,
        env = "STAGECRAFT_REGISTRY_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    pub registry_password: Password,
    /// Authority of the registry's certificate beside the public ones, as PEM text.
    #[arg(
        long,
        env = "STAGECRAFT_REGISTRY_CA",
        hide_env_values = true,
        default_value = ""
    )]
    pub registry_ca: String,
}

impl RegistryArguments {
    /// What the registry's client needs; none when no registry is named.
    pub fn settings(self) -> Option<RegistrySettings> {
        let Self {
            registry_host,
            registry_plain_http,
            registry_repository_prefix,
            registry_username,
            registry_password,
            registry_ca,
        } = self;
        (!registry_host.is_empty()).then_some(RegistrySettings {
            host: registry_host,
            plain_http: registry_plain_http,
            prefix: registry_repository_prefix,
            username: registry_username,
            password: registry_password,
            certificate_authority: registry_ca,
        })
    }
}

/// How much callers may ask for.
#[derive(Clone, Copy, Debug, Args)]
pub struct Quotas {
    /// Failed authentications that one source address may make, a second.
    #[arg(long, env = "STAGECRAFT_SOURCE_FAILURES_PER_SECOND", default_value_t = 20)]
    pub source_failures_per_second: u32,
    /// Failed authentications that one source address may make at once.
    #[arg(long, env = "STAGECRAFT_SOURCE_FAILURES_BURST", default_value_t = 50)]
    pub source_failures_burst: u32,
    /// Requests that one attempt may make, a second.
    #[arg(long, env = "STAGECRAFT_ATTEMPT_REQUESTS_PER_SECOND", default_value_t = 100)]
    pub attempt_requests_per_second: u32,
    /// Requests that one attempt may make at once.
    #[arg(long, env = "STAGECRAFT_ATTEMPT_REQUESTS_BURST", default_value_t = 500)]
    pub attempt_requests_burst: u32,
    /// Events that one attempt may send, a minute.
    #[arg(long, env = "STAGECRAFT_ATTEMPT_EVENTS_PER_MINUTE", default_value_t = 1000)]
    pub attempt_events_per_minute: u32,
    /// Calls of models that one attempt may have under way.
    #[arg(long, env = "STAGECRAFT_ATTEMPT_MODEL_CALLS", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub attempt_model_calls: u32,
    /// Bytes that the requests of all calls of models may take, until the provider begins to answer. Each may have 32 MiB, and is held twice at
    /// the most, so the gateway needs about twice as much memory. From 32 MiB.
    #[arg(long, env = "STAGECRAFT_MODEL_REQUEST_BYTES", default_value_t = 128 * 1024 * 1024, value_parser = request_bytes)]
    pub model_request_bytes: usize,
    /// How long a call of a model waits where calls under way may use up a budget, in seconds. Then it is told to come back.
    #[arg(long, env = "STAGECRAFT_MODEL_BUDGET_WAIT_SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=300))]
    pub model_budget_wait_seconds: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            source_failures_per_second: 20,
            source_failures_burst: 50,
            attempt_requests_per_second: 100,
            attempt_requests_burst: 500,
            attempt_events_per_minute: 1000,
            attempt_model_calls: 16,
            model_request_bytes: 128 * 1024 * 1024,
            model_budget_wait_seconds: 60,
        }
    }
}

/// Less than one request, and none of that size would ever be let through.
fn request_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|error| format!("{error}"))?;
    if bytes < BODY_BYTES {
        return Err(format!("a single request may have {BODY_BYTES} bytes"));
    }
    Ok(bytes)
}

/// A password that no debug output shows.
#[derive(Clone, Default)]
pub struct Password(pub String);

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Password(..)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_debug_output_shows_the_password() {
        assert!(!format!("{:?}", Password("hunter2".into())).contains("hunter2"));
    }
}
