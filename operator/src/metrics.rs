//! Prometheus metrics. `docs/metrics.md` describes each.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use stagecraft_core::tally::Tally;

/// Times of what the operator does itself, in seconds.
const FINE: [f64; 11] = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Times of what it waits for: 100 ms to 24 h, in seconds.
const LONG: [f64; 15] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0,
];
/// Most agents that have a label of their own; the others share `other`.
const AGENTS: usize = 100;

/// Every metric of the operator.
pub struct Metrics {
    registry: Registry,
    /// Time of one reconciliation, in seconds.
    pub reconcile: Histogram,
    /// Time of one status patch, in seconds.
    pub status_patch: Histogram,
    /// Status patches by what became of them.
    pub status_patches: IntCounterVec,
    /// From the gateway's acceptance of a result to the API server's acceptance of the next Job, in seconds.
    pub hand_off: Histogram,
    /// From the gateway's acceptance of a result to the status that accounts for it, in seconds.
    pub result_latency: Histogram,
    /// Failed reconciliations by step and reason.
    pub errors: IntCounterVec,
    /// What happened to Workflows, by reason of the Event.
    pub events: IntCounterVec,
    /// 1 while this process leads.
    pub leader: IntGauge,
    /// 1 while Redis answers.
    pub redis_up: IntGauge,
    /// Tasks in the stream of each agent.
    pub queue_depth: IntGaugeVec,
    /// Age of the oldest of them, in seconds.
    pub queue_oldest: IntGaugeVec,
    /// Announced results that are not accounted for yet.
    pub results_lag: IntGauge,
    /// Workflows by phase.
    pub workflows: IntGaugeVec,
    /// Stages of Workflows that have not ended, by phase.
    pub stages: IntGaugeVec,
    /// Ready stages that a limit holds back.
    pub stages_held: IntGauge,
    /// How long the oldest of them has been ready, in seconds.
    pub stages_held_oldest: IntGauge,
    /// Requests to the API server.
    pub api_requests: ApiRequests,
    attempts: IntCounterVec,
    retries: IntCounterVec,
    attempt_duration: HistogramVec,
    stage_duration: HistogramVec,
    workflow_duration: HistogramVec,
    agents: Mutex<Vec<String>>,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let all = Register(Registry::new());
        Ok(Self {
            reconcile: all.histogram("stagecraft_reconcile_seconds", "Time of one reconciliation.")?,
            status_patch: all.histogram("stagecraft_status_patch_seconds", "Time of one status patch.")?,
            status_patches: all.counters(
                "stagecraft_status_patches_total",
                "Status patches: stored, conflict or failed.",
                &["outcome"],
            )?,
            hand_off: all.histogram(
                "stagecraft_hand_off_seconds",
                "From the acceptance of a result to the acceptance of the next Job.",
            )?,
            result_latency: all.histogram(
                "stagecraft_result_latency_seconds",
                "From the acceptance of a result to the status that accounts for it.",
            )?,
            errors: all.counters(
                "stagecraft_reconcile_errors_total",
                "Failed reconciliations.",
                &["step", "reason"],
            )?,
            events: all.counters("stagecraft_events_total", "Events on Workflows.", &["reason"])?,
            leader: all.gauge("stagecraft_leader", "1 while this process leads.")?,
            redis_up: all.gauge("stagecraft_redis_up", "1 while Redis answers.")?,
            queue_depth: all.gauges("stagecraft_queue_depth", "Tasks in the stream.", &["agent"])?,
            queue_oldest: all.gauges(
                "stagecraft_queue_oldest_seconds",
                "Age of the oldest task in the stream; 0 when it is empty.",
                &["agent"],
            )?,
            results_lag: all.gauge(
                "stagecraft_results_lag",
                "Announced results that are not accounted for yet.",
            )?,
            workflows: all.gauges("stagecraft_workflows", "Workflows.", &["phase"])?,
            stages: all.gauges(
                "stagecraft_stages",
                "Stages of Workflows that have not ended.",
                &["phase"],
            )?,
            stages_held: all.gauge("stagecraft_stages_held", "Ready stages that a limit holds back.")?,
            stages_held_oldest: all.gauge(
                "stagecraft_stages_held_oldest_seconds",
                "How long the oldest stage that a limit holds back has been ready; 0 when there is none.",
            )?,
            api_requests: ApiRequests(all.counters(
                "stagecraft_api_requests_total",
                "Requests to the API server; code is error where none came back.",
                &["method", "code"],
            )?),
            attempts: all.counters(
                "stagecraft_attempts_total",
                "Attempts that ended: succeeded, or the class of failure.",
                &["agent", "outcome"],
            )?,
            retries: all.counters(
                "stagecraft_retries_total",
                "Stages that are tried again, by class of failure.",
                &["class"],
            )?,
            attempt_duration: all.long_histograms(
                "stagecraft_attempt_duration_seconds",
                "Time of an attempt that ended.",
                &["agent"],
            )?,
            stage_duration: all.long_histograms(
                "stagecraft_stage_duration_seconds",
                "Time of a stage that ended, with all its attempts.",
                &["agent", "phase"],
            )?,
            workflow_duration: all.long_histograms(
                "stagecraft_workflow_duration_seconds",
                "Time of a run of a Workflow that ended.",
                &["phase"],
            )?,
            agents: Mutex::default(),
            registry: all.0,
        })
    }

    /// Counts what a status patch changed.
    pub fn count(&self, tallies: &[Tally]) {
        for tally in tallies {
            match tally {
                Tally::Attempt {
                    agent,
                    failed,
                    millis,
                } => {
                    let agent = self.label_of(agent);
                    let outcome = failed.map_or("succeeded", |class| class.as_str());
                    self.attempts.with_label_values(&[agent.as_str(), outcome]).inc();
                    self.attempt_duration
                        .with_label_values(&[agent.as_str()])
                        .observe(seconds(*millis));
                }
                Tally::Retry { class } => self.retries.with_label_values(&[class.as_str()]).inc(),
                Tally::Stage { millis: None, .. } => {}
                Tally::Stage {
                    agent,
                    phase,
                    millis: Some(millis),
                } => self
                    .stage_duration
                    .with_label_values(&[self.label_of(agent).as_str(), phase.as_str()])
                    .observe(seconds(*millis)),
                Tally::Workflow { phase, millis } => self
                    .workflow_duration
                    .with_label_values(&[phase.as_str()])
                    .observe(seconds(*millis)),
            }
        }
    }

    /// Whoever may create Agents must not make series without end.
    pub fn label_of(&self, agent: &str) -> String {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.iter().any(|known| known == agent) {
            return agent.to_owned();
        }
        if agents.len() < AGENTS {
            agents.push(agent.to_owned());
            return agent.to_owned();
        }
        "other".to_owned()
    }

    /// The text format.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// Milliseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of a run are far below 2^52"
)]
pub fn seconds(millis: u64) -> f64 {
    millis as f64 / 1000.0
}

struct Register(Registry);

impl Register {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.add(Histogram::with_opts(
            HistogramOpts::new(name, help).buckets(FINE.to_vec()),
        )?)
    }

    fn long_histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(LONG.to_vec());
        self.add(HistogramVec::new(options, labels)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }
}

/// A layer of the Kubernetes client that counts its requests.
#[derive(Clone)]
pub struct ApiRequests(IntCounterVec);

impl<S> tower::Layer<S> for ApiRequests {
    type Service = CountedRequests<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CountedRequests {
            inner,
            counter: self.0.clone(),
        }
    }
}

/// See [`ApiRequests`].
#[derive(Clone)]
pub struct CountedRequests<S> {
    inner: S,
    counter: IntCounterVec,
}

impl<S, B, R> tower::Service<http::Request<B>> for CountedRequests<S>
where
    S: tower::Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let method = request.method().as_str().to_owned();
        let counter = self.counter.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = match &answer {
                Ok(response) => response.status().as_u16().to_string(),
                Err(_) => "error".to_owned(),
            };
            counter.with_label_values(&[method.as_str(), code.as_str()]).inc();
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use stagecraft_api::failure::FailureClass;
    use stagecraft_api::{StagePhase, WorkflowPhase};

    use super::*;

    fn rendered(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().unwrap()).unwrap()
    }

    #[test]
    fn what_is_counted_can_be_read() {
        let metrics = Metrics::new().unwrap();
        metrics.count(&[
            Tally::Attempt {
                agent: "echo".to_owned(),
                failed: Some(FailureClass::Resource),
                millis: 1_500,
            },
            Tally::Retry {
                class: FailureClass::Resource,
            },
            Tally::Stage {
                agent: "echo".to_owned(),
                phase: StagePhase::Succeeded,
                millis: Some(90),
            },
            Tally::Workflow {
                phase: WorkflowPhase::Completed,
                millis: 90_000_000,
            },
        ]);
        let text = rendered(&metrics);
        for line in [
            "stagecraft_attempts_total{agent=\"echo\",outcome=\"resource\"} 1",
            "stagecraft_retries_total{class=\"resource\"} 1",
            "stagecraft_attempt_duration_seconds_bucket{agent=\"echo\",le=\"1\"} 0",
            "stagecraft_attempt_duration_seconds_bucket{agent=\"echo\",le=\"5\"} 1",
            "stagecraft_stage_duration_seconds_bucket{agent=\"echo\",phase=\"Succeeded\",le=\"0.1\"} 1",
            "stagecraft_workflow_duration_seconds_bucket{phase=\"Completed\",le=\"86400\"} 0",
            "stagecraft_workflow_duration_seconds_sum{phase=\"Completed\"} 90000",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }

    #[test]
    fn agents_make_no_series_without_end() {
        let metrics = Metrics::new().unwrap();
        for number in 0..1_000 {
            let agent = format!("agent-{number}");
            let (failed, millis) = (None, 1);
            metrics.count(&[Tally::Attempt {
                agent,
                failed,
                millis,
            }]);
        }
        let series = rendered(&metrics)
            .lines()
            .filter(|line| line.starts_with("stagecraft_attempts_total{"))
            .count();
        assert_eq!(series, AGENTS + 1);
    }

    #[test]
    fn every_metric_is_described() {
        let described = include_str!("../../docs/metrics.md");
        let source = include_str!("metrics.rs");
        let names: Vec<&str> = source
            .split('"')
            .filter(|text| text.starts_with("stagecraft_") && !text.contains([' ', '{', '/']))
            .filter(|text| !text.ends_with('_'))
            .collect();
        assert!(names.len() > 15, "{names:?}");
        for name in names {
            assert!(
                described.contains(&format!("`{name}`")),
                "{name} is not described"
            );
        }
    }
}
