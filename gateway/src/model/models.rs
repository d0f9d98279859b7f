//! What calls of models share.

use std::sync::Arc;
use std::time::Duration;

use stagecraft_api::budget::Amount;
use stagecraft_api::provider::ProviderLimits;
use tokio_util::task::TaskTracker;

use super::breaker::Rules;
use super::crowd::{Crowd, PATIENCE};
use super::daily::DailyBudgets;
use super::health::{Health, Wait};
use super::ledgers::Ledgers;
use super::providers::Providers;
use super::report::Reach;
use super::retry::Patience;
use super::shared::{Place, Shared, now};
use crate::args::Quotas;
use crate::queue::Queue;
use crate::store::Store;
use crate::tls::authorities;

/// How often it is asked whether another call has found out.
const LOOKED_AFTER: Duration = Duration::from_secs(1);

/// The providers, how they do, and what they were used for.
pub struct Models {
    pub http: reqwest::Client,
    pub providers: Providers,
    pub ledgers: Arc<Ledgers>,
    pub crowd: Arc<Crowd>,
    pub(super) reach: Reach,
    shared: Shared,
    rules: Rules,
    pub patience: Patience,
    background: TaskTracker,
}

/// Why a provider is not called now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotNow {
    /// It failed too often.
    Open(Duration),
    /// A limit of what is sent to it is reached: of what.
    Limit(&'static str, Duration),
}

impl Models {
    pub fn new(
        client: kube::Client,
        store: Store,
        queue: Queue,
        daily: DailyBudgets,
        quotas: &Quotas,
        background: TaskTracker,
    ) -> Result<Self, reqwest::Error> {
        let budget_wait = Duration::from_secs(quotas.model_budget_wait_seconds.into());
        let http = reqwest::Client::builder()
            .tls_certs_only(authorities("")?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .build()?;
        Ok(Self {
            http,
            providers: Providers::new(client),
            ledgers: Ledgers::new(store, daily, budget_wait, background.clone()),
            crowd: Crowd::new(
                usize::try_from(quotas.attempt_model_calls).unwrap_or(usize::MAX),
                quotas.model_request_bytes,
                PATIENCE,
            ),
            reach: Reach::default(),
            shared: Shared::new(queue),
            rules: Rules::default(),
            patience: Patience::default(),
            background,
        })
    }

    /// Waits for leave to call a provider, as long as `patience` allows. `tokens` is what the call takes about.
    pub async fn ask(
        &self,
        place: &Place,
        limits: &ProviderLimits,
        tokens: u64,
        patience: Duration,
    ) -> Result<(), NotNow> {
        let mut left = patience;
        loop {
            let asked = self
                .shared
                .change(place, |health, now| health.ask(now, &self.rules, limits, tokens));
            let Err(refusal) = asked.await else {
                return Ok(());
            };
            let pause = pause(refusal, left, now())?;
            left -= pause;
            tokio::time::sleep(pause).await;
        }
    }

    /// The outcome of a try; none when it says nothing. False when the provider is left alone now.
    pub async fn report(&self, place: &Place, good: Option<bool>) -> bool {
        let reported = self
            .shared
            .change(place, |health, now| health.report(now, good, &self.rules));
        reported.await
    }

    /// How a provider does.
    pub async fn health(&self, place: &Place) -> Health {
        self.shared.change(place, |health, _| health.clone()).await
    }
}

/// The end of a call for the state of its provider, beside what else goes on.
pub fn settle(models: &Arc<Models>, place: Place, limits: ProviderLimits, end: CallEnd) {
    let shared = models.clone();
    models.background.spawn(async move {
        let CallEnd { good, expected, used } = end;
        let settled = shared.shared.change(&place, |health, now| {
            health.report(now, good, &shared.rules);
            health.settle(now, expected, used, &limits);
        });
        settled.await;
    });
}

/// What a call comes to for the state of its provider.
#[derive(Clone, Copy)]
pub struct CallEnd {
    /// Whether it speaks for or against the provider's health; none where that was reported before, or nothing is known.
    pub good: Option<bool>,
    /// Tokens that were reckoned with.
    pub expected: u64,
    pub used: Amount,
}

/// How long to wait before leave is asked for again. How long another call takes to find out is not known: that is asked again soon.
fn pause(refusal: Wait, left: Duration, now: u64) -> Result<Duration, NotNow> {
    let span = |until: u64| Duration::from_millis(until.saturating_sub(now).max(1));
    let (refused, pause) = match refusal {
        Wait::Open { until } => return Err(NotNow::Open(span(until))),
        Wait::Probe { until } => (NotNow::Open(span(until)), span(until).min(LOOKED_AFTER)),
        Wait::Requests { until } => (NotNow::Limit("requests", span(until)), span(until)),
        Wait::Tokens { until } => (NotNow::Limit("tokens", span(until)), span(until)),
    };
    if pause > left { Err(refused) } else { Ok(pause) }
}

#[cfg(test)]
mod tests {
    use super::{Duration, NotNow, Wait, pause};

    #[test]
    fn a_call_waits_while_another_finds_out_and_not_while_a_breaker_is_open() {
        let (left, second) = (Duration::from_secs(5), Duration::from_secs(1));
        let probe = Wait::Probe { until: 60_000 };
        assert_eq!(pause(probe, left, 0), Ok(second));
        let minute = NotNow::Open(Duration::from_mins(1));
        assert_eq!(pause(probe, second / 2, 0), Err(minute));
        assert_eq!(pause(Wait::Open { until: 60_000 }, left, 0), Err(minute));
        assert_eq!(pause(Wait::Requests { until: 2000 }, left, 0), Ok(2 * second));
        let tokens = NotNow::Limit("tokens", 6 * second);
        assert_eq!(pause(Wait::Tokens { until: 6000 }, left, 0), Err(tokens));
    }
}
