//! What a call of a model comes to.

use std::sync::Arc;
use std::time::Instant;

use axum::http::StatusCode;
use stagecraft_api::budget::{Amount, Tokens};

use super::crowd::Seat;
use super::ending::is_failure;
use super::ledgers::Reservation;
use super::models::{CallEnd, settle};
use super::provider::Provider;
use super::request::Operation;
use super::usage::{Meter, cost};
use crate::metrics::Metrics;
use crate::router::Gateway;

/// Bytes of text that are taken for a token where the provider does not say how many there were.
pub const BYTES_OF_A_TOKEN: u64 = 4;
/// No model writes more tokens than this in a second.
const TOKENS_A_SECOND: u64 = 1000;

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Answered,
    /// The model did not go on.
    Refused,
    /// The answer began, and the provider failed in its middle.
    Broken,
    /// The answer began and ended in an error that says nothing of the provider's health.
    Interrupted,
    /// The provider failed; its tries were reported as they did.
    Failed,
    /// The provider did not take the request as it was.
    Error,
    /// A limit, or a key without leave: says nothing of the provider's health.
    NoLeave,
    /// Nothing was sent.
    NoAnswer,
    /// It was sent, and no answer came.
    Lost,
    /// The agent did not wait.
    HungUp,
}

impl Outcome {
    /// Of an error that came before anything of an answer.
    pub fn of(status: StatusCode) -> Self {
        if is_failure(status) {
            return Self::Failed;
        }
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS => Self::NoLeave,
            _ => Self::Error,
        }
    }

    /// Whether it speaks for or against the provider's health; none where that was reported before, or it says nothing.
    fn is_good(self) -> Option<bool> {
        match self {
            Self::Answered | Self::Refused | Self::Error => Some(true),
            Self::Broken => Some(false),
            Self::Interrupted | Self::Failed | Self::NoLeave | Self::NoAnswer | Self::Lost | Self::HungUp => {
                None
            }
        }
    }

    /// Whether the provider has worked for it.
    fn is_paid(self) -> bool {
        match self {
            Self::Answered | Self::Refused | Self::Broken | Self::Interrupted | Self::Lost | Self::HungUp => {
                true
            }
            Self::Failed | Self::Error | Self::NoLeave | Self::NoAnswer => false,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Broken | Self::Interrupted => "broken",
            Self::Failed => "failed",
            Self::Error | Self::NoLeave => "error",
            Self::NoAnswer | Self::Lost => "no answer",
            Self::HungUp => "hung up",
        }
    }
}

/// What a call comes to. It is settled however it ends: also when the agent hangs up.
pub struct Account {
    pub gateway: Arc<Gateway>,
    /// Namespace and name of the provider.
    pub place: (String, String),
    pub provider: Arc<Provider>,
    pub operation: Operation,
    pub model: String,
    pub meter: Meter,
    /// Of calls that are charged.
    pub reservation: Option<Reservation>,
    pub seat: Arc<Seat>,
    /// Sizes of what was sent and of what came back.
    pub sent: u64,
    pub received: u64,
    /// When the last try was sent.
    pub sent_at: Option<Instant>,
    /// Whether the provider may have written more than came back.
    pub is_hidden: bool,
    /// Most tokens that it may write.
    pub max_output: u64,
    /// Tokens that the limits by the minute reckoned with.
    pub expected: u64,
    pub tries: u32,
    pub began: Instant,
    pub outcome: Outcome,
}

impl Account {
    /// What the call took: as the provider reported it, or, where its answer broke off before, as much as was seen
    /// of it. Where it may be more, it is as much as there was time for.
    fn tokens(&self) -> Tokens {
        let told = self.meter.tokens();
        if self.meter.is_final() {
            return told;
        }
        let time = self.sent_at.map(|at| at.elapsed()).unwrap_or_default();
        let written = if self.is_hidden {
            let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            millis.saturating_mul(TOKENS_A_SECOND).div_ceil(1000)
        } else {
            self.received / BYTES_OF_A_TOKEN
        };
        let written = written.min(self.max_output);
        let is_input_known = told.input + told.cache_read + told.cache_write > 0;
        Tokens {
            input: if is_input_known {
                told.input
            } else {
                self.sent.div_ceil(BYTES_OF_A_TOKEN)
            },
            output: told.output.max(written),
            ..told
        }
    }

    fn amount(&self) -> Amount {
        let tokens = self.tokens();
        Amount {
            calls: 1,
            tokens,
            cost: cost(tokens, &self.provider.prices),
        }
    }

    fn is_paid(&self) -> bool {
        self.operation.is_charged() && self.outcome.is_paid() && self.sent_at.is_some()
    }

    /// Settles the budgets now.
    pub async fn close(&mut self) {
        if let Some(reservation) = self.noted() {
            reservation.close().await;
        }
    }

    /// Settles the budgets. An agent goes on at the last word of an answer, before its body ends.
    pub fn settle(&mut self) {
        drop(self.noted());
    }

    fn noted(&mut self) -> Option<Reservation> {
        let mut reservation = self.reservation.take()?;
        if self.is_paid() {
            reservation.note(self.amount());
        }
        Some(reservation)
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settle();
        let amount = self.amount();
        let is_paid = self.is_paid();
        let end = CallEnd {
            good: self.outcome.is_good(),
            expected: self.expected,
            used: if is_paid { amount } else { Amount::default() },
        };
        let limits = self.provider.limits.clone();
        settle(&self.gateway.models, self.place.clone(), limits, end);
        let metrics: &Metrics = &self.gateway.metrics;
        metrics.model_call(self.operation.path(), self.outcome.label(), self.began.elapsed());
        if is_paid {
            metrics.model_used(amount);
        }
        let tokens = amount.tokens;
        tracing::info!(
            provider = self.place.1,
            model = self.model,
            operation = self.operation.path(),
            outcome = self.outcome.label(),
            tries = self.tries,
            input_tokens = tokens.input,
            output_tokens = tokens.output,
            cache_write_tokens = tokens.cache_write,
            cache_read_tokens = tokens.cache_read,
            cost = amount.cost,
            is_final = self.meter.is_final(),
            seconds = self.began.elapsed().as_secs_f64(),
            "called a model"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Outcome, StatusCode};

    #[test]
    fn what_the_agent_did_wrong_and_limits_do_not_speak_against_a_provider() {
        let good = |status| Outcome::of(StatusCode::from_u16(status).unwrap()).is_good();
        for (status, expected) in [
            (400, Some(true)),
            (404, Some(true)),
            (401, None),
            (403, None),
            (429, None),
            (529, None),
        ] {
            assert_eq!(good(status), expected, "{status}");
        }
        assert_eq!(Outcome::Broken.is_good(), Some(false));
    }
}
