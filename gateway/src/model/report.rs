//! How a provider does, as the operator asks: whether it answers, whether it is left alone, and what it was used for.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use reqwest::{Client, Url};
use stagecraft_api::Moment;
use stagecraft_api::protocol::ProviderReport;
use tokio::time::timeout;

use super::ledgers::BudgetError;
use super::models::Models;
use super::provider::ProviderError;
use super::shared::{Place, now};

/// How long it is believed whether a provider answers.
const BELIEVED: Duration = Duration::from_secs(30);
/// A problem is looked after sooner.
const DOUBTED: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most providers that are remembered.
const PROVIDERS: usize = 1024;

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(transparent)]
    Provider(#[from] ProviderError),
    #[error(transparent)]
    Ledger(#[from] BudgetError),
}

/// Which providers answer.
#[derive(Default)]
pub struct Reach(Mutex<HashMap<Place, Asked>>);

/// What was found out about one of them.
struct Asked {
    at: Instant,
    url: Url,
    /// Why it does not answer; none when it does.
    problem: Option<String>,
}

impl Asked {
    fn is_believed(&self) -> bool {
        let believed = if self.problem.is_some() { DOUBTED } else { BELIEVED };
        self.at.elapsed() < believed
    }
}

impl Reach {
    /// Why a provider does not answer. It is asked for the list of its models, without a key: any answer will do, and none is charged.
    async fn problem(&self, http: &Client, place: &Place, url: Url) -> Option<String> {
        let known = |all: &HashMap<Place, Asked>| {
            let asked = all.get(place)?;
            (asked.url == url && asked.is_believed()).then(|| asked.problem.clone())
        };
        if let Some(problem) = known(&self.lock()) {
            return problem;
        }
        let at = Instant::now();
        let problem = match timeout(PATIENCE, http.get(url.clone()).send()).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(stagecraft_api::error::chain(&error.without_url())),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        let mut all = self.lock();
        all.retain(|_, asked| asked.at.elapsed() < BELIEVED);
        if all.len() < PROVIDERS {
            let problem = problem.clone();
            all.insert(place.clone(), Asked { at, url, problem });
        }
        problem
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Place, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Models {
    /// How a provider does.
    pub async fn report_on(&self, place: &Place) -> Result<ProviderReport, ReportError> {
        let (unusable, unreachable) = match self.providers.list_of_models(&place.0, &place.1).await {
            Ok(url) => (None, self.reach.problem(&self.http, place, url).await),
            Err(error @ ProviderError::ApiServer(_)) => return Err(error.into()),
            Err(error) => (Some(error.to_string()), None),
        };
        let health = self.health(place).await;
        let (day_used_up, day_ends) = self.ledgers.today(&place.0).await?;
        let now = now();
        Ok(ProviderReport {
            unusable,
            unreachable,
            breaker: health.breaker(now),
            open_until: health.open_until(now).and_then(Moment::from_millis),
            last_hour: health.last_hour(now),
            day_used_up,
            day_ends,
        })
    }
}
