//! Passes a call of an agent on to its provider, and the answer back as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use stagecraft_api::error::truncate;
use stagecraft_api::model::{ProblemKind, Protocol, RunModel};

use super::confine::{check, check_headers};
use super::crowd::Load;
use super::denied::{Denied, confined, no_provider, too_many_calls, unread};
use super::ledger::Room;
use super::provider::Provider;
use super::request::{Operation, Prompt};
use super::way::{Asked, Attempt, Tried, Way, other_ways};
use crate::authorize::Member;
use crate::error::Refusal;
use crate::identity::PodIdentity;
use crate::router::{Gateway, StagePod};
use crate::telemetry;

/// Longest pause for a provider while there is another way.
const BEFORE_FALLBACK: Duration = Duration::from_secs(5);
/// Whoever asks for this model gets that of the Workflow or the provider.
const DEFAULT_MODEL: &str = "default";

/// `/v1/models/{protocol}/{path}`: everything below the base URL that an SDK was given.
pub async fn relay(
    State(gateway): State<Arc<Gateway>>,
    StagePod(caller): StagePod,
    Path((protocol, path)): Path<(String, String)>,
    request: Request,
) -> Response {
    let protocol = match protocol.as_str() {
        "anthropic" => Protocol::Anthropic,
        "openai" => Protocol::Openai,
        _ => return Refusal::NotFound.into_response(),
    };
    match answer(gateway.clone(), &caller, protocol, &path, request).await {
        Ok(response) => response,
        Err(denied) => {
            gateway.metrics.refusal(denied.code());
            denied.respond(protocol)
        }
    }
}

async fn answer(
    gateway: Arc<Gateway>,
    caller: &PodIdentity,
    protocol: Protocol,
    path: &str,
    request: Request,
) -> Result<Response, Denied> {
    let began = Instant::now();
    let (head, body) = request.into_parts();
    let operation = Operation::of(protocol, head.method.as_str(), path).ok_or_else(|| {
        let message = format!("Stagecraft passes no {} {path} on to a provider", head.method);
        Denied::new(StatusCode::NOT_FOUND, ProblemKind::NotFound, "not_found", message)
    })?;
    let crowd = &gateway.models.crowd;
    let seat = crowd.enter(caller).ok_or_else(|| too_many_calls(crowd.most()))?;
    let member = member(&gateway, caller).await?;
    let choice = member.envelope.model.as_ref().ok_or_else(no_provider)?;
    let provider = gateway
        .models
        .providers
        .get(&member.namespace, &choice.provider)
        .await?;
    if provider.protocol != protocol {
        let message = format!(
            "the Workflow's ModelProvider {} speaks {}: use that API",
            choice.provider,
            provider.protocol.as_str()
        );
        return Err(Denied::new(
            StatusCode::BAD_REQUEST,
            ProblemKind::Request,
            "wrong_protocol",
            message,
        ));
    }
    let confined = |error| confined(&choice.provider, &error);
    check_headers(&head.headers, &provider.server_tools).map_err(confined)?;
    let mut prompt = if operation == Operation::Models {
        None
    } else {
        let Load { body, memory } = crowd.read(body).await.map_err(unread)?;
        Some((prompt(&body, choice, &provider)?, memory))
    };
    if let Some((prompt, _)) = &prompt {
        check(operation, &prompt.fields, &provider.server_tools).map_err(confined)?;
    }
    let fallback_on_budget = provider.fallback_on_budget;
    let mut ways = vec![Way {
        name: choice.provider.clone(),
        provider,
        model: None,
    }];
    if operation.is_charged() {
        other_ways(&gateway, &member, &mut ways).await;
        // A fallback may allow less.
        ways.retain(|way| {
            let tools = &way.provider.server_tools;
            let headers = check_headers(&head.headers, tools).is_ok();
            headers
                && prompt
                    .as_ref()
                    .is_none_or(|(prompt, _)| check(operation, &prompt.fields, tools).is_ok())
        });
    }
    let (mut ways, seat) = (ways.into_iter().peekable(), Arc::new(seat));
    loop {
        let Some(way) = ways.next() else {
            return Err(no_provider());
        };
        let is_last = ways.peek().is_none();
        let room = if fallback_on_budget && !is_last {
            Room::Whole
        } else {
            Room::Some
        };
        // The last way needs it alone.
        let own = if is_last { prompt.take() } else { prompt.clone() };
        let asked = own.map_or_else(Asked::default, |(prompt, memory)| {
            Asked::of(prompt, memory, operation, &way)
        });
        let attempt = Attempt {
            gateway: &gateway,
            member: &member,
            operation,
            headers: &head.headers,
            room,
            began,
            seat: seat.clone(),
            patience: if is_last {
                gateway.models.patience
            } else {
                gateway.models.patience.at_most(BEFORE_FALLBACK)
            },
        };
        match attempt.make(&way, asked).await {
            Tried::Missed(_) if !is_last => {
                tracing::info!(provider = way.name, "the fallback of the provider is called");
            }
            Tried::Missed(answer) | Tried::Over(answer) => return answer,
        }
    }
}

async fn member(gateway: &Gateway, caller: &PodIdentity) -> Result<Arc<Member>, Denied> {
    let seen = gateway.chain.recent(caller).await.map_err(Refusal::from)?;
    telemetry::identify(&seen.member);
    let member = seen.current().map_err(Refusal::from)?.clone();
    gateway.held(&member).await?;
    Ok(member)
}

/// The request, with the model that the agent left to the gateway.
fn prompt(body: &Bytes, choice: &RunModel, provider: &Provider) -> Result<Prompt, Denied> {
    let bad = |message| {
        Denied::new(
            StatusCode::BAD_REQUEST,
            ProblemKind::Request,
            "invalid_request",
            message,
        )
    };
    let mut prompt = Prompt::parse(body).map_err(bad)?;
    if prompt.model.is_empty() || prompt.model == DEFAULT_MODEL {
        prompt.set_model(choice.model.as_ref().unwrap_or(&provider.model));
    }
    if !provider.allowed.contains(&prompt.model) {
        let message = format!(
            "ModelProvider {} does not allow the model {:?}: ask for one of {}",
            choice.provider,
            truncate(&prompt.model, 200),
            provider.allowed.join(", ")
        );
        return Err(Denied::new(
            StatusCode::FORBIDDEN,
            ProblemKind::Permission,
            "model_not_allowed",
            message,
        ));
    }
    Ok(prompt)
}
