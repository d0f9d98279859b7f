//! One way to answer a call: budgets, limits and the provider's health are asked, then the provider.

use std::sync::Arc;
use std::time::Instant;

use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use stagecraft_api::budget::{Amount, ModelUsage, Tokens};
use stagecraft_api::provider::ModelFallback;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::account::{Account, BYTES_OF_A_TOKEN, Outcome};
use super::confine::allows;
use super::course::pass;
use super::crowd::{Memory, Seat};
use super::denied::{Denied, no_answer, not_now};
use super::ledger::Room;
use super::ledgers::{BudgetError, Reservation};
use super::provider::Provider;
use super::request::{Operation, Prompt};
use super::retry::Patience;
use super::upstream::{Call, call, kept};
use super::usage::{Meter, cost};
use crate::authorize::Member;
use crate::router::Gateway;

/// One way to answer a call.
pub struct Way {
    /// Name of the ModelProvider.
    pub name: String,
    pub provider: Arc<Provider>,
    /// The model; none: what was asked for.
    pub model: Option<String>,
}

/// The fallback of the first way. What cannot be used is passed over: there may be more.
pub async fn other_ways(gateway: &Gateway, member: &Member, ways: &mut Vec<Way>) {
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
pub enum Tried {
    /// Nothing was passed on, and another way may do better.
    Missed(Result<Response, Denied>),
    Over(Result<Response, Denied>),
}

/// What all ways of a call have in common.
pub struct Attempt<'call> {
    pub gateway: &'call Arc<Gateway>,
    pub member: &'call Member,
    pub operation: Operation,
    pub headers: &'call HeaderMap,
    pub room: Room,
    pub began: Instant,
    pub seat: Arc<Seat>,
    pub patience: Patience,
}

impl Attempt<'_> {
    pub async fn make(&self, way: &Way, asked: Asked) -> Tried {
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
        if let Err(reason) = models
            .ask(&place, &way.provider.limits, expected, self.patience.longest)
            .await
        {
            if let Some(reservation) = reservation {
                reservation.close().await;
            }
            return Tried::Missed(Err(not_now(&way.name, reason)));
        }
        let account = Account {
            gateway: self.gateway.clone(),
            place: place.clone(),
            provider: way.provider.clone(),
            operation: self.operation,
            model: asked.model,
            meter: Meter::new(way.provider.protocol),
            reservation,
            seat: self.seat.clone(),
            sent: asked.body.len() as u64,
            sent_at: None,
            received: 0,
            is_hidden: false,
            max_output: asked.max_output,
            expected,
            tries: 0,
            began: self.began,
            outcome: Outcome::HungUp,
        };
        let wanted = Call {
            provider: way.provider.clone(),
            operation: self.operation,
            headers: kept(self.headers),
            body: asked.body,
            memory: asked.memory,
            patience: self.patience,
        };
        self.under_way(wanted, account, asked.is_own_report).await
    }

    /// Makes the call beside the request: when the agent does not wait, it still has to be known what the call takes.
    async fn under_way(&self, wanted: Call, mut account: Account, strip: bool) -> Tried {
        let agent_left = CancellationToken::new();
        let left = agent_left.clone();
        let work = async move {
            let answered = call(&wanted, &mut account, &left).await;
            drop(wanted);
            account.outcome = answered.outcome();
            let is_missed = answered.is_missed();
            if is_missed {
                // The next way needs the room.
                account.close().await;
            }
            let answer = pass(answered, account, strip);
            if is_missed {
                Tried::Missed(answer)
            } else {
                Tried::Over(answer)
            }
        };
        let task = self.gateway.background.spawn(work.in_current_span());
        let guard = agent_left.drop_guard();
        let tried = task.await;
        guard.disarm();
        tried.unwrap_or_else(|error| {
            tracing::error!(%error, "a call of a model ended in its middle");
            Tried::Over(Err(no_answer("the gateway ends")))
        })
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

/// A request as it is sent, and what of it is needed afterwards.
#[derive(Default)]
pub struct Asked {
    body: Bytes,
    memory: Option<Arc<Memory>>,
    model: String,
    /// Most tokens that may be written.
    max_output: u64,
    /// The report of usage at the end of its stream is for the gateway alone.
    is_own_report: bool,
}

impl Asked {
    pub fn of(mut prompt: Prompt, memory: Arc<Memory>, operation: Operation, way: &Way) -> Self {
        if let Some(model) = &way.model {
            prompt.set_model(model);
        }
        if operation == Operation::Responses && !allows(&way.provider.server_tools, "store") {
            prompt.keep_nothing();
        }
        let is_chat = operation == Operation::ChatCompletions && prompt.is_streamed;
        let is_own_report = is_chat && prompt.ask_for_usage();
        let max_output = prompt.bound(operation, way.provider.max_output);
        Self {
            body: prompt.to_bytes(),
            memory: Some(memory),
            max_output,
            model: prompt.model,
            is_own_report,
        }
    }

    /// Tokens that it takes about, for limits by the minute.
    fn expected(&self) -> u64 {
        (self.body.len() as u64 / BYTES_OF_A_TOKEN).saturating_add(self.max_output)
    }
}
