//! Logs, and the span that carries the attempt on each line.

use stagecraft_api::envelope::TaskEnvelope;
use tracing::{Span, field};
use tracing_subscriber::EnvFilter;

use super::args::LogFormat;

/// Starts logging to standard error; `RUST_LOG` filters, `info` by default.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .init(),
    }
}

/// The span of everything. Whom it concerns is filled in by [`identify`] once the task is claimed.
pub fn span() -> Span {
    tracing::info_span!(
        "attempt",
        namespace = field::Empty,
        workflow = field::Empty,
        stage = field::Empty,
        attempt = field::Empty,
        trace_id = field::Empty,
    )
}

/// Puts the attempt into the current span.
pub fn identify(task: &TaskEnvelope) {
    let span = Span::current();
    span.record("namespace", task.workflow.namespace.as_str());
    span.record("workflow", task.workflow.name.as_str());
    span.record("stage", task.attempt.stage.as_str());
    span.record("attempt", task.attempt.attempt);
    span.record("trace_id", task.trace_id.as_str());
}
