//! Logs, and the span that carries what is known of a request.

use stagecraft_api::name;
use tracing::{Span, field};
use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;
use crate::authorize::Member;

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

/// The span of one request. Whom it concerns is filled in by [`identify`] once that is known.
pub fn request_span(method: &str, route: &str) -> Span {
    tracing::info_span!(
        "request",
        method,
        route,
        namespace = field::Empty,
        workflow = field::Empty,
        stage = field::Empty,
        attempt = field::Empty,
        trace_id = field::Empty,
        pod = field::Empty,
    )
}

/// Puts the attempt into the span of the request.
pub fn identify(member: &Member) {
    let span = Span::current();
    span.record("namespace", member.namespace.as_str());
    span.record("workflow", member.workflow.as_str());
    span.record("stage", member.key.stage.as_str());
    span.record("attempt", member.key.attempt);
    span.record("trace_id", name::trace_id(&member.key.workflow_uid));
    span.record("pod", member.pod.name.as_str());
}
