//! Passes a call of an agent on to its provider, and the answer back as it comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use stagecraft_api::budget::{Amount, ModelUsage, Tokens};
use stagecraft_api::model::{ProblemKind, Protocol, RunModel};
use stagecraft_api::provider::ModelFallback;
use tokio::time::timeout;

use super::account::{Account, BYTES_OF_A_TOKEN, Outcome};
use super::confine::{allows, check, check_headers};
use super::course::pass;
use super::denied::{Denied, confined, no_provider, not_now};
use super::ledger::Room;
use super::ledgers::{BudgetError, Reservation};
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
    let confined = |error| confined(&choice.provider, error);
    check_headers(&head.headers, &provider.server_tools).map_err(confined)?;
    let prompt = match operation {
        Operation::Models => None,
        _ => Some(prompt(body, choice, &provider).await?),
    };
    if let Some(prompt) = &prompt {
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
                    .is_none_or(|prompt| check(operation, &prompt.fields, tools).is_ok())
        });
    }
    let mut ways = ways.into_iter().peekable();
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
        let asked = prompt.as_ref().map_or_else(Asked::default, |prompt| {
            Asked::of(prompt.clone(), operation, &way)
        });
        let attempt = Attempt {
            gateway: &gateway,
            member: &member,
            operation,
            headers: &head.headers,
            room,
            began,
        };
        match attempt.make(&way, asked).await {
            Tried::Missed(_) if !is_last => {
                tracing::info!(provider = way.name, "the fallback of the provider is called");
            }
            Tried::Missed(answer) | Tried::Over(answer) => return answer,
        }
    }
}

/// One way to answer a call.
struct Way {
    /// Name of the ModelProvider.
    name: String,
    provider: Arc<Provider>,
    /// The model; none: what was asked for.
    model: Option<String>,
}

/// The fallback of the first way. What cannot be used is passed over: there may be more.
async fn other_ways(gateway: &Gateway, member: &Member, ways: &mut Vec<Way>) {
    let Some(first) = ways.first() else { return };
    let (own, first) = (first.name.clone(), first.provider.clone());
    for ModelFallback { provider, model } in &first.fallback {
        let name = provider.clone().unwrap_or_else(|| own.clone());
        match gateway.models.providers.get(&member.namespace, &name).await {
            Ok(provider) if provider.protocol == first.protocol => {
                let model = model.clone().unwrap_or_else(|| provider.model.clone());
                ways.push(Way {
                    name,
                    provider,
                    model: Some(model),
                });
            }
            Ok(_) => tracing::warn!(provider = name, "a fallback speaks another protocol"),
            Err(error) => tracing::warn!(provider = name, %error, "a fallback cannot be used"),
        }
    }
}

/// How one way ended.
enum Tried {
    /// Nothing was passed on, and another way may do better.
    Missed(Result<Response, Denied>),
    Over(Result<Response, Denied>),
}

/// What all ways of a call have in common.
struct Attempt<'call> {
    gateway: &'call Arc<Gateway>,
    member: &'call Member,
    operation: Operation,
    headers: &'call HeaderMap,
    room: Room,
    began: Instant,
}

impl Attempt<'_> {
    async fn make(&self, way: &Way, asked: Asked) -> Tried {
        let models = &self.gateway.models;
        let reservation = match self.reserve(way, &asked).await {
            Ok(reservation) => reservation,
            Err(error @ (BudgetError::Exhausted(_) | BudgetError::Full(_))) if self.room == Room::Whole => {
                return Tried::Missed(Err(error.into()));
            }
            Err(error) => return Tried::Over(Err(error.into())),
        };
        let place = (self.member.namespace.clone(), way.name.clone());
        let expected = if self.operation.is_charged() {
            asked.expected()
        } else {
            0
        };
        if let Err(reason) = models.ask(&place, &way.provider.limits, expected).await {
            if let Some(reservation) = reservation {
                reservation.release().await;
            }
            return Tried::Missed(Err(not_now(&way.name, reason)));
        }
        let mut account = Account {
            gateway: self.gateway.clone(),
            place: place.clone(),
            provider: way.provider.clone(),
            operation: self.operation,
            model: asked.model,
            meter: Meter::new(way.provider.protocol),
            reservation,
            sent: asked.body.len() as u64,
            received: 0,
            max_output: asked.max_output,
            expected,
            tries: 0,
            began: self.began,
            outcome: Outcome::HungUp,
        };
        let wanted = Call {
            provider: &way.provider,
            operation: self.operation,
            headers: self.headers,
            body: asked.body,
        };
        let (answered, tries) = call(models, &place, &wanted).await;
        account.tries = tries;
        let is_missed = answered.is_missed();
        if is_missed && let Some(reservation) = account.reservation.take() {
            // The next way needs the room.
            reservation.release().await;
        }
        let answer = pass(answered, account, asked.is_own_report);
        if is_missed {
            Tried::Missed(answer)
        } else {
            Tried::Over(answer)
        }
    }

    /// Asks the budgets. Nothing is reserved for what is free of charge.
    async fn reserve(&self, way: &Way, asked: &Asked) -> Result<Option<Reservation>, BudgetError> {
        if !self.operation.is_charged() {
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
        let prices = &way.provider.prices;
        let most = ModelUsage {
            run: self.member.envelope.run,
            stage: self.member.key.stage.clone(),
            provider: way.name.clone(),
            model: asked.model.clone(),
            amount: Amount {
                calls: 1,
                tokens,
                cost: cost(tokens, prices).max(cost(written, prices)),
            },
        };
        let ledgers = &self.gateway.models.ledgers;
        ledgers.reserve(self.member, &most, self.room).await.map(Some)
    }
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
    fn of(mut prompt: Prompt, operation: Operation, way: &Way) -> Self {
        if let Some(model) = &way.model {
            prompt.set_model(model);
        }
        if operation == Operation::Responses && !allows(&way.provider.server_tools, "store") {
            prompt.keep_nothing();
        }
        let is_chat = operation == Operation::ChatCompletions && prompt.is_streamed;
        let is_own_report = is_chat && prompt.ask_for_usage();
        Self {
            body: Bytes::from(prompt.to_bytes()),
            max_output: prompt.max_output.unwrap_or(way.provider.max_output),
            model: prompt.model,
            is_own_report,
        }
    }

    /// Tokens that it takes about, for limits by the minute.
    fn expected(&self) -> u64 {
        (self.body.len() as u64 / BYTES_OF_A_TOKEN).saturating_add(self.max_output)
    }
}

/// Reads the request, and puts into it the model that the agent left to the gateway.
async fn prompt(body: Body, choice: &RunModel, provider: &Provider) -> Result<Prompt, Denied> {
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
    Ok(prompt)
}
