//! What calls of models share.

use std::sync::Arc;
use std::time::Duration;

use stagecraft_api::budget::Amount;
use stagecraft_api::provider::ProviderLimits;
use tokio_util::task::TaskTracker;

use super::breaker::Rules;
use super::crowd::{Crowd, PATIENCE};
use super::health::{Health, Wait};
use super::ledgers::{DailyBudgets, Ledgers};
use super::provider::Providers;
use super::report::Reach;
use super::retry::Patience;
use super::shared::{Place, Shared, now};
use crate::args::Quotas;
use crate::queue::Queue;
use crate::store::Store;
use crate::tls::authorities;

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

    /// Waits for leave to call a provider, as long as patience allows. `tokens` is what the call takes about.
    pub async fn ask(&self, place: &Place, limits: &ProviderLimits, tokens: u64) -> Result<(), NotNow> {
        let mut left = self.patience.longest;
        loop {
            let asked = self
                .shared
                .change(place, |health, now| health.ask(now, &self.rules, limits, tokens));
            let (what, until) = match asked.await {
                Ok(()) => return Ok(()),
                Err(Wait::Open { until }) => return Err(NotNow::Open(span(until))),
                Err(Wait::Requests { until }) => ("requests", until),
                Err(Wait::Tokens { until }) => ("tokens", until),
            };
            let wait = span(until);
            if wait > left {
                return Err(NotNow::Limit(what, wait));
            }
            left -= wait;
            tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        }
    }

    /// The outcome of a try. False when the provider is left alone now.
    pub async fn report(&self, place: &Place, good: bool) -> bool {
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
            if let Some(good) = good {
                health.report(now, good, &shared.rules);
            }
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

fn span(until: u64) -> Duration {
    Duration::from_millis(until.saturating_sub(now()))
}
