//! Budgets at work: a call is let through by the ledgers of its Workflow and of its namespace's day, and settled in both however it ends.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;
use stagecraft_api::Moment;
use stagecraft_api::budget::{Amount, Budget, ModelUsage};
use tokio_util::task::TaskTracker;

use super::ledger::{Exhausted, Ledger, Limit, Open, Room};
use crate::authorize::Member;
use crate::store::ledgers::{FRESH, LedgerPlace};
use crate::store::{Store, StoreError};

/// Longest course of a call, in seconds. One that a killed gateway leaves open counts with its maximum after it.
pub const LONGEST_CALL: u64 = 3600;
/// Most ledgers of which a copy is kept.
const COPIES: usize = 4096;
/// A day, in seconds.
const DAY: i64 = 86_400;
/// Ledgers of days are deleted after this many.
const DAYS: u64 = 3;
/// Every so many writes old states are deleted.
const TRIMMED_EVERY: u64 = 32;
/// How often a write is tried when other gateways are quicker.
const TRIES: usize = 50;

/// Why a call is not let through.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    #[error("the budget of {name} is used up: {used}", name = .0.name, used = .0.used)]
    Exhausted(Exhausted),
    #[error("what was used cannot be read or written")]
    Store(#[from] StoreError),
    #[error("other gateways were quicker {TRIES} times")]
    Busy,
}

/// Most that the Workflows of a namespace may use in a day, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyBudgets {
    /// Of every namespace, where it has no limit of its own.
    #[serde(default)]
    pub default: Budget,
    #[serde(default)]
    pub namespaces: HashMap<String, Budget>,
}

impl FromStr for DailyBudgets {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl DailyBudgets {
    fn of(&self, namespace: &str) -> Budget {
        let own = self.namespaces.get(namespace).copied();
        own.unwrap_or_default().or(self.default)
    }
}

/// The ledgers, with copies of those in use.
pub struct Ledgers {
    store: Store,
    daily: DailyBudgets,
    copies: Mutex<HashMap<LedgerPlace, Arc<tokio::sync::Mutex<Option<Copy>>>>>,
    background: TaskTracker,
}

/// A state as it was read or written.
struct Copy {
    number: u64,
    ledger: Ledger,
    at: Instant,
}

impl Ledgers {
    pub fn new(store: Store, daily: DailyBudgets, background: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            store,
            daily,
            copies: Mutex::default(),
            background,
        })
    }

    /// Lets a call through that takes no more than `most`, where there is this much room. Without any limit nothing is written before the call.
    pub async fn reserve(
        self: &Arc<Self>,
        member: &Member,
        most: ModelUsage,
        room: Room,
    ) -> Result<Reservation, BudgetError> {
        let now = Moment::now();
        let budgets = member.envelope.budgets;
        let daily = self.daily.of(&member.namespace);
        let day = day(&member.namespace, now);
        let workflow = LedgerPlace::Workflow {
            uid: member.key.workflow_uid.clone(),
        };
        let mut reservation = Reservation {
            ledgers: self.clone(),
            id: format!("{:032x}", fastrand::u128(..)),
            places: Vec::new(),
            most: most.clone(),
            used: None,
        };
        let open = Open {
            until: now.plus_seconds(LONGEST_CALL),
            most: most.clone(),
        };
        if !daily.is_unlimited() {
            let limits = [Limit {
                name: format!("namespace {} for today", member.namespace),
                budget: daily,
                counts: &|_| true,
            }];
            self.change(&day, |ledger| {
                ledger.reserve(&reservation.id, open.clone(), &limits, room, now)
            })
            .await?
            .map_err(BudgetError::Exhausted)?;
        }
        reservation.places.push(day);
        if !budgets.is_unlimited() {
            let limits = [
                Limit {
                    name: format!("stage {}", most.stage),
                    budget: budgets.stage,
                    counts: &|usage| usage.run == most.run && usage.stage == most.stage,
                },
                Limit {
                    name: "the Workflow".to_owned(),
                    budget: budgets.workflow,
                    counts: &|usage| usage.run == most.run,
                },
            ];
            // A refusal takes the other reservation back, by dropping it.
            self.change(&workflow, |ledger| {
                ledger.reserve(&reservation.id, open.clone(), &limits, room, now)
            })
            .await?
            .map_err(BudgetError::Exhausted)?;
        }
        reservation.places.push(workflow);
        Ok(reservation)
    }

    /// What is used up of what a namespace may use today, and when the day ends.
    pub async fn today(&self, namespace: &str) -> Result<(Option<String>, Moment), BudgetError> {
        let now = Moment::now();
        let since = now.timestamp().as_second().rem_euclid(DAY);
        let ends = now.plus_seconds(u64::try_from(DAY - since).unwrap_or_default());
        let budget = self.daily.of(namespace);
        if budget.is_unlimited() {
            return Ok((None, ends));
        }
        let today = day(namespace, now);
        let used = self.change(&today, |ledger| {
            let amounts = ledger.lines().iter().map(|usage| usage.amount);
            amounts.fold(Amount::default(), Amount::plus)
        });
        Ok((budget.exhausted_by(&used.await?), ends))
    }

    /// What a Workflow used.
    pub async fn of_workflow(&self, uid: &str) -> Result<Vec<ModelUsage>, StoreError> {
        let place = LedgerPlace::Workflow { uid: uid.to_owned() };
        let found: Option<(u64, Ledger)> = self.store.ledger(&place).await?;
        Ok(found
            .map(|(_, ledger)| ledger.lines().to_vec())
            .unwrap_or_default())
    }

    /// Changes a ledger, once, whoever else does at the same time.
    async fn change<T>(
        &self,
        place: &LedgerPlace,
        mut act: impl FnMut(&mut Ledger) -> T + Send,
    ) -> Result<T, BudgetError> {
        let slot = self.slot(place);
        let mut copy = slot.lock().await;
        for _ in 0..TRIES {
            let (number, mut ledger) = match &*copy {
                Some(copy) if copy.at.elapsed() < FRESH => (copy.number, copy.ledger.clone()),
                _ => self.store.ledger(place).await?.unwrap_or_default(),
            };
            let before = ledger.clone();
            let answer = act(&mut ledger);
            if ledger == before {
                return Ok(answer);
            }
            // As old as what it is built upon, so that it is read again in time.
            let at = copy
                .take()
                .filter(|copy| copy.at.elapsed() < FRESH)
                .map_or_else(Instant::now, |copy| copy.at);
            if self.store.write_ledger(place, number, &ledger).await? {
                let number = number + 1;
                *copy = Some(Copy { number, ledger, at });
                self.trim(place, number);
                return Ok(answer);
            }
        }
        Err(BudgetError::Busy)
    }

    fn slot(&self, place: &LedgerPlace) -> Arc<tokio::sync::Mutex<Option<Copy>>> {
        let mut copies = self.copies.lock().unwrap_or_else(PoisonError::into_inner);
        if copies.len() >= COPIES {
            copies.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        copies.entry(place.clone()).or_default().clone()
    }

    fn trim(&self, place: &LedgerPlace, number: u64) {
        let (store, place) = (self.store.clone(), place.clone());
        let begins = number == 1;
        if !begins && !number.is_multiple_of(TRIMMED_EVERY) {
            return;
        }
        self.background.spawn(async move {
            let outcome = match &place {
                LedgerPlace::Day { namespace, .. } if begins => {
                    let oldest = Moment::now().timestamp() - std::time::Duration::from_secs(DAYS * 86_400);
                    store.trim_days(namespace, &oldest.strftime("%Y-%m-%d").to_string()).await
                }
                place => store.trim_ledger(place, number).await,
            };
            if let Err(error) = outcome {
                tracing::debug!(error = %stagecraft_api::error::chain(&error), "old ledgers were not deleted");
            }
        });
    }
}

fn day(namespace: &str, now: Moment) -> LedgerPlace {
    LedgerPlace::Day {
        namespace: namespace.to_owned(),
        day: now.timestamp().strftime("%Y-%m-%d").to_string(),
    }
}

/// Leave for one call. Dropped, it is settled with what the call used, or taken back when it was never made.
pub struct Reservation {
    ledgers: Arc<Ledgers>,
    id: String,
    places: Vec<LedgerPlace>,
    most: ModelUsage,
    used: Option<Amount>,
}

impl Reservation {
    /// The call was made, and took this as far as is known. The last word counts.
    pub fn note(&mut self, used: Amount) {
        self.used = Some(used);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let ledgers = self.ledgers.clone();
        let (id, places, used) = (
            std::mem::take(&mut self.id),
            std::mem::take(&mut self.places),
            self.used.take().map(|amount| ModelUsage {
                amount,
                ..self.most.clone()
            }),
        );
        // The gateway waits for it when it ends. Until it is written the call counts with its maximum.
        self.ledgers.background.spawn(async move {
            for place in places {
                let now = Moment::now();
                let outcome = ledgers.change(&place, |ledger| match &used {
                    Some(used) => ledger.settle(&id, used, now),
                    None => ledger.release(&id),
                });
                if let Err(error) = outcome.await {
                    tracing::warn!(error = %stagecraft_api::error::chain(&error), "what a call used was not written; it counts with its maximum");
                }
            }
        });
    }
}
