//! Command line and environment.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The Stagecraft operator.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    /// How log lines are written.
    #[arg(long, env = "STAGECRAFT_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, global = true)]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Reconciles Workflows while it holds the lease.
    Run(Box<RunArguments>),
    /// Stops the operator and deletes every stage Job, before the release is uninstalled.
    Uninstall(UninstallArguments),
}

#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// Namespace of the release: lease, built-in Agents and templates.
    #[arg(long, env = "STAGECRAFT_NAMESPACE")]
    pub namespace: String,
    /// Name of this process, for the lease and the result stream.
    #[arg(long, env = "STAGECRAFT_POD_NAME", default_value = "stagecraft-operator")]
    pub pod_name: String,
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
    pub redis_password: String,
    /// Name of the gateway's Service in the release's namespace.
    #[arg(
        long,
        env = "STAGECRAFT_GATEWAY_SERVICE",
        default_value = "stagecraft-gateway"
    )]
    pub gateway_service: String,
    /// Certificate authority of the gateway, as PEM.
    #[arg(long, env = "STAGECRAFT_GATEWAY_CA_FILE")]
    pub gateway_ca_file: PathBuf,
    /// Token for the gateway.
    #[arg(long, env = "STAGECRAFT_GATEWAY_TOKEN_FILE")]
    pub gateway_token_file: PathBuf,
    /// Image of the sidecar and the built-in agents.
    #[arg(long, env = "STAGECRAFT_RUNNER_IMAGE")]
    pub runner_image: String,
    /// Image with the tools that check what was generated, for the built-in agents.
    #[arg(long, env = "STAGECRAFT_TOOLCHAIN_IMAGE")]
    pub toolchain_image: String,
    /// When the runner image is pulled: Always, IfNotPresent or Never.
    #[arg(long, env = "STAGECRAFT_RUNNER_PULL_POLICY", default_value = "IfNotPresent")]
    pub runner_pull_policy: String,
    /// How the sidecars write their log lines: text or json.
    #[arg(long, env = "STAGECRAFT_LOG_FORMAT", default_value = "text")]
    pub runner_log_format: String,
    /// Image registry that the nodes can pull from, for agents that push images.
    #[arg(long, env = "STAGECRAFT_REGISTRY_HOST", default_value = "")]
    pub registry_host: String,
    /// ClusterRole that stages which deploy are bound to, in the namespace of their Workflow.
    #[arg(
        long,
        env = "STAGECRAFT_DEPLOYER_CLUSTER_ROLE",
        default_value = "stagecraft-deployer"
    )]
    pub deployer_cluster_role: String,
    /// ClusterRole that the gateway is bound to in the namespace of a Workflow that names a model provider.
    #[arg(
        long,
        env = "STAGECRAFT_MODEL_KEYS_CLUSTER_ROLE",
        default_value = "stagecraft-model-keys"
    )]
    pub model_keys_cluster_role: String,
    /// Service account of the gateway, in the namespace of the release.
    #[arg(
        long,
        env = "STAGECRAFT_GATEWAY_SERVICE_ACCOUNT",
        default_value = "stagecraft-gateway"
    )]
    pub gateway_service_account: String,
    /// Most stages that run at once; 0 for no limit.
    #[arg(long, env = "STAGECRAFT_MAX_RUNNING_STAGES", default_value_t = 0)]
    pub max_running_stages: usize,
    /// Most stages that run at once in each namespace; 0 for no limit.
    #[arg(
        long,
        env = "STAGECRAFT_MAX_RUNNING_STAGES_PER_NAMESPACE",
        default_value_t = 0
    )]
    pub max_running_stages_per_namespace: usize,
    /// How long a stage waits for a limit until its priority rises by one class, in seconds; 0: it never does.
    #[arg(long, env = "STAGECRAFT_AGING_SECONDS", default_value_t = 600)]
    pub aging_seconds: u64,
    /// Most Workflows that are reconciled at once.
    #[arg(long, env = "STAGECRAFT_CONCURRENCY", default_value_t = 16)]
    pub concurrency: u16,
    /// Where /healthz, /readyz and /metrics are served.
    #[arg(long, env = "STAGECRAFT_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

#[derive(Clone, Debug, Args)]
pub struct UninstallArguments {
    /// Namespace of the release.
    #[arg(long, env = "STAGECRAFT_NAMESPACE")]
    pub namespace: String,
    /// Name of the operator's Deployment.
    #[arg(
        long,
        env = "STAGECRAFT_OPERATOR_DEPLOYMENT",
        default_value = "stagecraft-operator"
    )]
    pub operator_deployment: String,
}
