//! Prometheus metrics.

use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    /// Time of one reconciliation, in seconds.
    pub reconcile: Histogram,
    /// Time of one status patch, in seconds.
    pub status_patch: Histogram,
    /// From the gateway's acceptance of a result to the API server's acceptance of the next Job, in seconds.
    pub hand_off: Histogram,
    /// Failed reconciliations by step.
    pub errors: IntCounterVec,
    /// What happened to Workflows, by reason of the Event.
    pub events: IntCounterVec,
    /// 1 while this process leads.
    pub leader: IntGauge,
    /// 1 while Redis answers.
    pub redis_up: IntGauge,
    /// Tasks in the stream of each agent.
    pub queue_depth: IntGaugeVec,
    /// Workflows by phase.
    pub workflows: IntGaugeVec,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let fine = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let metrics = Self {
            registry: Registry::new(),
            reconcile: histogram(
                "stagecraft_reconcile_seconds",
                "Time of one reconciliation.",
                &fine,
            )?,
            status_patch: histogram(
                "stagecraft_status_patch_seconds",
                "Time of one status patch.",
                &fine,
            )?,
            hand_off: histogram(
                "stagecraft_hand_off_seconds",
                "From the acceptance of a result to the acceptance of the next Job.",
                &fine,
            )?,
            errors: IntCounterVec::new(
                Opts::new("stagecraft_reconcile_errors_total", "Failed reconciliations."),
                &["step"],
            )?,
            events: IntCounterVec::new(
                Opts::new("stagecraft_events_total", "Events on Workflows."),
                &["reason"],
            )?,
            leader: IntGauge::new("stagecraft_leader", "1 while this process leads.")?,
            redis_up: IntGauge::new("stagecraft_redis_up", "1 while Redis answers.")?,
            queue_depth: IntGaugeVec::new(
                Opts::new("stagecraft_queue_depth", "Tasks in the stream."),
                &["agent"],
            )?,
            workflows: IntGaugeVec::new(Opts::new("stagecraft_workflows", "Workflows."), &["phase"])?,
        };
        let Self {
            registry,
            reconcile,
            status_patch,
            hand_off,
            errors,
            events,
            leader,
            redis_up,
            queue_depth,
            workflows,
        } = &metrics;
        registry.register(Box::new(reconcile.clone()))?;
        registry.register(Box::new(status_patch.clone()))?;
        registry.register(Box::new(hand_off.clone()))?;
        registry.register(Box::new(errors.clone()))?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(leader.clone()))?;
        registry.register(Box::new(redis_up.clone()))?;
        registry.register(Box::new(queue_depth.clone()))?;
        registry.register(Box::new(workflows.clone()))?;
        Ok(metrics)
    }

    /// The text format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
