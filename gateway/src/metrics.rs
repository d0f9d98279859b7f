//! What the gateway counts, for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder,
    exponential_buckets,
};
use stagecraft_api::budget::{Amount, Tokens};

/// Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    refusals: IntCounterVec,
    token_reviews: IntCounterVec,
    claims: IntCounterVec,
    results: IntCounterVec,
    announce_seconds: HistogramVec,
    blob_bytes: IntCounterVec,
    events: IntCounterVec,
    redis_errors: IntCounterVec,
    model_calls: IntCounterVec,
    model_seconds: HistogramVec,
    model_tokens: IntCounterVec,
    model_cost: IntCounterVec,
}

impl Metrics {
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(format!("stagecraft_gateway_{name}"), help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let histogram = |name: &str, help: &str, labels: &[&str]| {
            let options = HistogramOpts::new(format!("stagecraft_gateway_{name}"), help)
                .buckets(exponential_buckets(0.0005, 2.0, 18)?);
            let family = HistogramVec::new(options, labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Self(Arc::new(Families {
            requests: counter(
                "requests_total",
                "Requests by route and status",
                &["route", "status"],
            )?,
            request_seconds: histogram("request_seconds", "Time to answer, by route", &["route"])?,
            refusals: counter("refusals_total", "Requests refused, by code", &["code"])?,
            token_reviews: counter(
                "token_reviews_total",
                "Tokens reviewed by the API server",
                &["outcome"],
            )?,
            claims: counter("claims_total", "Claims answered: first or repeated", &["outcome"])?,
            results: counter(
                "results_total",
                "Results: stored, repeated, or different from the stored one",
                &["outcome"],
            )?,
            announce_seconds: histogram(
                "result_announce_seconds",
                "Time from the acceptance of a result to its entry in the result stream",
                &["outcome"],
            )?,
            blob_bytes: counter(
                "blob_bytes_total",
                "Bytes of blobs: uploaded, downloaded",
                &["direction"],
            )?,
            events: counter("events_total", "Events taken from runners", &["kind"])?,
            redis_errors: counter(
                "redis_errors_total",
                "Operations that Redis did not do",
                &["operation"],
            )?,
            model_calls: counter(
                "model_calls_total",
                "Calls of models by operation: answered, refused, error, failed, broken, no answer, hung up",
                &["operation", "outcome"],
            )?,
            model_seconds: histogram(
                "model_call_seconds",
                "Time of a call of a model, to the end of its answer",
                &["operation"],
            )?,
            model_tokens: counter(
                "model_tokens_total",
                "Tokens of calls of models: input, output, cache_write, cache_read",
                &["class"],
            )?,
            model_cost: counter(
                "model_cost_micros_total",
                "Cost of calls of models by the prices of their providers, in micro-units of the account's currency",
                &[],
            )?,
            registry,
        })))
    }

    pub fn request(&self, route: &str, status: u16, elapsed: Duration) {
        let status = status.to_string();
        self.0.requests.with_label_values(&[route, &status]).inc();
        self.0
            .request_seconds
            .with_label_values(&[route])
            .observe(elapsed.as_secs_f64());
    }

    pub fn refusal(&self, code: &str) {
        self.0.refusals.with_label_values(&[code]).inc();
    }

    pub fn token_review(&self, outcome: &str) {
        self.0.token_reviews.with_label_values(&[outcome]).inc();
    }

    pub fn claim(&self, outcome: &str) {
        self.0.claims.with_label_values(&[outcome]).inc();
    }

    pub fn result(&self, outcome: &str) {
        self.0.results.with_label_values(&[outcome]).inc();
    }

    /// `outcome`: `at once`, `late` or `never`.
    pub fn announced(&self, outcome: &str, elapsed: Duration) {
        self.0
            .announce_seconds
            .with_label_values(&[outcome])
            .observe(elapsed.as_secs_f64());
    }

    pub fn blob_bytes(&self, direction: &str, bytes: u64) {
        self.0.blob_bytes.with_label_values(&[direction]).inc_by(bytes);
    }

    pub fn event(&self, kind: &str) {
        self.0.events.with_label_values(&[kind]).inc();
    }

    pub fn redis_error(&self, operation: &str) {
        self.0.redis_errors.with_label_values(&[operation]).inc();
    }

    pub fn model_call(&self, operation: &str, outcome: &str, elapsed: Duration) {
        self.0.model_calls.with_label_values(&[operation, outcome]).inc();
        self.0
            .model_seconds
            .with_label_values(&[operation])
            .observe(elapsed.as_secs_f64());
    }

    pub fn model_used(&self, amount: Amount) {
        self.0
            .model_cost
            .with_label_values::<&str>(&[])
            .inc_by(amount.cost);
        let Tokens {
            input,
            output,
            cache_write,
            cache_read,
        } = amount.tokens;
        let classes = [
            ("input", input),
            ("output", output),
            ("cache_write", cache_write),
            ("cache_read", cache_read),
        ];
        for (class, count) in classes {
            self.0.model_tokens.with_label_values(&[class]).inc_by(count);
        }
    }

    /// All of it in the text format.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.0.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be written");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}
