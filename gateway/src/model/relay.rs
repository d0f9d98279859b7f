//! Passes a call of an agent on to its provider, and the answer back as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use stagecraft_api::budget::{Amount, ModelUsage, Tokens};
use stagecraft_api::model::{ProblemKind, Protocol, RunModel};
use tokio::time::timeout;

use super::course::{Account, BYTES_OF_A_TOKEN, pass};
use super::denied::{Denied, no_provider, not_now};
use super::ledgers::Reservation;
use super::provider::Provider;
use super::request::{Operation, Prompt};
use super::upstream::{Call, call};
use super::usage::{Meter, cost};
use crate::authorize::Member;
use crate::error::Refusal;
use crate::identity::PodIdentity;
use crate::router::{Gateway, StagePod};
use crate::telemetry;

/// Largest request, in bytes, as with the providers.
const BODY_BYTES: usize = 32 * 1024 * 1024;
/// Longest time that an agent may take to send it.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
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
    let asked = if operation == Operation::Models {
        Asked::default()
    } else {
        prompt(body, operation, choice, &provider).await?
    };
    let reservation = reserve(&gateway, &member, operation, choice, &provider, &asked).await?;
    let place = (member.namespace.clone(), choice.provider.clone());
    let models = &gateway.models;
    let expected = if operation.is_charged() {
        asked.expected()
    } else {
        0
    };
    models
        .ask(&place, &provider.limits, expected)
        .await
        .map_err(|reason| not_now(&choice.provider, reason))?;
    let mut account = Account {
        gateway: gateway.clone(),
        place: place.clone(),
        provider: provider.clone(),
        operation,
        model: asked.model,
        meter: Meter::new(protocol),
        reservation,
        sent: asked.body.len() as u64,
        received: 0,
        max_output: asked.max_output,
        expected,
        tries: 0,
        began,
        outcome: "hung up",
    };
    let wanted = Call {
        provider: &provider,
        operation,
        headers: &head.headers,
        body: asked.body,
    };
    let (answered, tries) = call(models, &place, &wanted).await;
    account.tries = tries;
    pass(answered, account, asked.is_own_report)
}

/// Asks the budgets. Nothing is reserved for what is free of charge.
async fn reserve(
    gateway: &Gateway,
    member: &Member,
    operation: Operation,
    choice: &RunModel,
    provider: &Provider,
    asked: &Asked,
) -> Result<Option<Reservation>, Denied> {
    if !operation.is_charged() {
        return Ok(None);
    }
    // No token is shorter than a byte.
    let tokens = Tokens {
        input: asked.body.len() as u64,
        output: asked.max_output,
        ..Tokens::default()
    };
    let written = Tokens {
        input: 0,
        cache_write: tokens.input,
        ..tokens
    };
    let most = ModelUsage {
        run: member.envelope.run,
        stage: member.key.stage.clone(),
        provider: choice.provider.clone(),
        model: asked.model.clone(),
        amount: Amount {
            calls: 1,
            tokens,
            cost: cost(tokens, &provider.prices).max(cost(written, &provider.prices)),
        },
    };
    Ok(Some(gateway.models.ledgers.reserve(member, most).await?))
}

async fn member(gateway: &Gateway, caller: &PodIdentity) -> Result<Arc<Member>, Denied> {
    let seen = gateway.chain.recent(caller).await.map_err(Refusal::from)?;
    telemetry::identify(&seen.member);
    let member = seen.current().map_err(Refusal::from)?.clone();
    gateway.held(&member).await?;
    Ok(member)
}

/// A request as it is sent, and what of it is needed afterwards.
#[derive(Default)]
struct Asked {
    body: Bytes,
    model: String,
    /// Most tokens that may be written.
    max_output: u64,
    /// The report of usage at the end of its stream is for the gateway alone.
    is_own_report: bool,
}

impl Asked {
    /// Tokens that it takes about, for limits by the minute.
    fn expected(&self) -> u64 {
        (self.body.len() as u64 / BYTES_OF_A_TOKEN).saturating_add(self.max_output)
    }
}

/// Reads the request, and puts into it what the agent left to the gateway.
async fn prompt(
    body: Body,
    operation: Operation,
    choice: &RunModel,
    provider: &Provider,
) -> Result<Asked, Denied> {
    let reading = axum::body::to_bytes(body, BODY_BYTES);
    let Ok(Ok(body)) = timeout(BODY_TIMEOUT, reading).await else {
        let message = format!("the request ended early, or has more than {BODY_BYTES} bytes");
        return Err(Denied::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ProblemKind::Request,
            "request_too_large",
            message,
        ));
    };
    let bad = |message| {
        Denied::new(
            StatusCode::BAD_REQUEST,
            ProblemKind::Request,
            "invalid_request",
            message,
        )
    };
    let mut prompt = Prompt::parse(&body).map_err(bad)?;
    if prompt.model.is_empty() || prompt.model == DEFAULT_MODEL {
        prompt.set_model(choice.model.as_ref().unwrap_or(&provider.model));
    }
    if !provider.allowed.contains(&prompt.model) {
        let message = format!(
            "ModelProvider {} does not allow the model {:?}: ask for one of {}",
            choice.provider,
            prompt.model,
            provider.allowed.join(", ")
        );
        return Err(Denied::new(
            StatusCode::FORBIDDEN,
            ProblemKind::Permission,
            "model_not_allowed",
            message,
        ));
    }
    let is_chat = operation == Operation::ChatCompletions && prompt.is_streamed;
    let is_own_report = is_chat && prompt.ask_for_usage();
    Ok(Asked {
        body: Bytes::from(prompt.to_bytes()),
        max_output: prompt.max_output.unwrap_or(provider.max_output),
        model: prompt.model,
        is_own_report,
    })
}
