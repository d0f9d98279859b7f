//! Limits and times that the installation sets.

/// Everything that the planner may be told by configuration. Times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether `registry.host` is set.
    pub registry: bool,
    /// Most stages that run at once in the whole installation. None: no limit.
    pub max_running_stages: Option<usize>,
    /// Most stages that run at once in each namespace. None: no limit.
    pub max_running_stages_per_namespace: Option<usize>,
    /// How long a stage waits until its priority rises by one class; 0: it never does. Default: 10 min.
    pub aging_millis: u64,
    /// Attempts of one stage that the cluster may take away before the stage fails. Default: 20.
    pub max_losses: u32,
    /// First wait after a failed attempt; it doubles with each further failure. Default: 1 s.
    pub backoff_base_millis: u64,
    /// Longest wait after a failed attempt. Default: 60 s.
    pub backoff_cap_millis: u64,
    /// How long a licensed Job may be unseen before its attempt is given up. Longer than the POST's own timeout, or two
    /// operators would burn each other's attempts without any fault. Default: 12 s.
    pub job_grace_millis: u64,
    /// How long after the deadline the runner may still report before the operator deletes the Job. Default: 20 s.
    pub deadline_grace_millis: u64,
    /// How long a Job may go on after its attempt was judged before the operator deletes it. Default: 30 s.
    pub close_grace_millis: u64,
    /// How long a Pod may be on its way out, or on a node that does not answer, before it counts as gone. Default: 150 s.
    pub lost_pod_millis: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            registry: false,
            max_running_stages: None,
            max_running_stages_per_namespace: None,
            aging_millis: 600_000,
            max_losses: 20,
            backoff_base_millis: 1_000,
            backoff_cap_millis: 60_000,
            job_grace_millis: 12_000,
            deadline_grace_millis: 20_000,
            close_grace_millis: 30_000,
            lost_pod_millis: 150_000,
        }
    }
}
