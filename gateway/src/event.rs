//! A runner tells how far it is.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Map;
use stagecraft_api::error::truncate;
use stagecraft_api::protocol::{AgentEvent, EventKind, EventsRequest};

use crate::body::Json;
use crate::error::Refusal;
use crate::router::{Gateway, StagePod};
use crate::telemetry;

/// Most events of one request.
const EVENTS: usize = 100;
/// Largest event, message and fields together, in bytes.
const EVENT_BYTES: usize = 4096;
/// Largest part of a message that is logged, in bytes.
const LOG_BYTES: usize = 256;

pub async fn events(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Json(request): Json<EventsRequest, { 1024 * 1024 }>,
) -> Result<StatusCode, Refusal> {
    let seen = gateway.chain.recent(&caller).await?;
    telemetry::identify(&seen.member);
    let member = seen.current()?;
    gateway.held(member).await?;
    let mut events = request.events;
    events.truncate(EVENTS);
    if events.is_empty() {
        return Ok(StatusCode::NO_CONTENT);
    }
    #[expect(clippy::cast_precision_loss, reason = "at most 100")]
    let amount = events.len() as f64;
    gateway
        .events
        .take(&caller, amount, Instant::now())
        .map_err(|wait| Refusal::TooMany { what: "events", wait })?;
    let events: Vec<AgentEvent> = events.into_iter().map(bounded).collect();
    for event in &events {
        log(&gateway, event);
    }
    gateway.queue.events(&member.key, &events).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The event within its bound: fields that do not fit go first, then the end of the message.
fn bounded(mut event: AgentEvent) -> AgentEvent {
    event.message = truncate(&event.message, EVENT_BYTES);
    let fields = serde_json::to_string(&event.fields).map_or(usize::MAX, |text| text.len());
    if fields.saturating_add(event.message.len()) > EVENT_BYTES {
        event.fields = Map::new();
    }
    event
}

fn log(gateway: &Gateway, event: &AgentEvent) {
    let message = truncate(&event.message, LOG_BYTES);
    match event.kind {
        EventKind::Runner => {
            gateway.metrics.event("runner");
            tracing::info!(at = %event.at, event = message, "runner");
        }
        EventKind::Progress => {
            gateway.metrics.event("progress");
            tracing::info!(at = %event.at, event = message, "progress");
        }
        EventKind::Log => {
            gateway.metrics.event("log");
            tracing::debug!(at = %event.at, event = message, "log");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stagecraft_api::Moment;

    #[test]
    fn an_event_never_exceeds_its_bound() {
        let event = |message: usize, field: usize| AgentEvent {
            at: Moment::now(),
            kind: EventKind::Log,
            message: "m".repeat(message),
            fields: Map::from_iter([("field".to_owned(), "f".repeat(field).into())]),
        };
        let cut = bounded(event(10_000, 10));
        assert!(cut.message.len() <= EVENT_BYTES && cut.fields.is_empty());
        let cut = bounded(event(10, 10_000));
        assert!(cut.message.len() == 10 && cut.fields.is_empty());
        assert_eq!(bounded(event(10, 10)), bounded(bounded(event(10, 10))));
        assert_eq!(bounded(event(10, 10)).fields.len(), 1);
    }
}
