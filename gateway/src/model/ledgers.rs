//! Budgets at work: a call is let through by the ledgers of its Workflow and of its namespace's day, and settled in both however it ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use stagecraft_api::Moment;
use stagecraft_api::budget::{Amount, ModelUsage};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::daily::DailyBudgets;
use super::ledger::{Counts, Exhausted, Ledger, Limit, NoRoom, Open, Room};
use crate::authorize::Member;
use crate::store::ledgers::{FRESH, LedgerPlace};
use crate::store::{Store, StoreError};

/// Longest course of a call. One that a killed gateway leaves open counts with its maximum after it.
pub const LONGEST_CALL: Duration = Duration::from_hours(1);
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
/// Pauses before what a call used is written again where that failed.
const SETTLED_AGAIN: [Duration; 4] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// How often a ledger is read again while a call waits for room: other gateways do not tell this one what they settle.
const LOOKED_AFTER: Duration = Duration::from_secs(1);

/// Why a call is not let through.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    #[error("the budget of {name} is used up: {used}", name = .0.name, used = .0.used)]
    Exhausted(Exhausted),
    #[error("calls under way may use up the budget of {name}: {used}", name = .0.name, used = .0.used)]
    Full(Exhausted),
    #[error("what was used cannot be read or written")]
    Store(#[from] StoreError),
    #[error("other gateways were quicker {TRIES} times")]
    Busy,
}

/// The ledgers, with copies of those in use.
pub struct Ledgers {
    store: Store,
    daily: DailyBudgets,
    /// How long a call waits for what those under way give back.
    patience: Duration,
    slots: Mutex<HashMap<LedgerPlace, Arc<Slot>>>,
    background: TaskTracker,
}

/// What this gateway knows of a ledger.
#[derive(Default)]
struct Slot {
    copy: tokio::sync::Mutex<Option<Copy>>,
    /// Rings when a call is settled or taken back.
    freed: Arc<Notify>,
}

/// A state as it was read or written.
struct Copy {
    number: u64,
    ledger: Ledger,
    at: Instant,
}

impl Ledgers {
    pub fn new(store: Store, daily: DailyBudgets, patience: Duration, background: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            store,
            daily,
            patience,
            slots: Mutex::default(),
            background,
        })
    }

    /// Lets a call through that takes no more than `most`, where there is this much room. Where calls under way leave none, it waits for what they
    /// give back, unless all of it needs room. Without any limit nothing is written before the call.
    pub async fn reserve(
        self: &Arc<Self>,
        member: &Member,
        most: &ModelUsage,
        room: Room,
    ) -> Result<Reservation, BudgetError> {
        let began = Instant::now();
        loop {
            let mut reservation = Reservation {
                ledgers: self.clone(),
                id: format!("{:032x}", fastrand::u128(..)),
                places: Vec::new(),
                most: most.clone(),
                used: None,
            };
            let Some((slot, freed, no_room)) = self.enter(&mut reservation, member, room).await? else {
                return Ok(reservation);
            };
            reservation.close().await;
            let used = match no_room {
                NoRoom::Exhausted(used) => return Err(BudgetError::Exhausted(used)),
                NoRoom::Full(used) => used,
            };
            let left = self.patience.saturating_sub(began.elapsed());
            if left.is_zero() || room == Room::Whole {
                return Err(BudgetError::Full(used));
            }
            if timeout(left.min(LOOKED_AFTER), freed).await.is_err() {
                slot.copy.lock().await.take();
            }
        }
    }

    /// Reserves in both ledgers. Where one has no room it says so, with what rings when that may be otherwise.
    async fn enter(
        &self,
        reservation: &mut Reservation,
        member: &Member,
        room: Room,
    ) -> Result<Option<(Arc<Slot>, OwnedNotified, NoRoom)>, BudgetError> {
        let now = Moment::now();
        let open = Open {
            until: now.plus_seconds(LONGEST_CALL.as_secs()),
            most: reservation.most.clone(),
        };
        for (place, limits) in self.limits(member, &open.most, now) {
            let slot = self.slot(&place);
            // Whoever gives something back from now on is heard.
            let freed = slot.freed.clone().notified_owned();
            // A write whose acknowledgement is lost is taken back, too.
            reservation.places.push(place.clone());
            if !limits.is_empty() {
                let entered = self.change(&place, |ledger| {
                    ledger.reserve(&reservation.id, open.clone(), &limits, room, now)
                });
                if let Err(no_room) = entered.await? {
                    reservation.places.pop();
                    return Ok(Some((slot, freed, no_room)));
                }
            }
        }
        Ok(None)
    }

    /// The ledgers that a call is reckoned in, each with the limits that it has to keep.
    fn limits<'call>(
        &self,
        member: &Member,
        most: &'call ModelUsage,
        now: Moment,
    ) -> [(LedgerPlace, Vec<Limit<'call>>); 2] {
        let workflow = LedgerPlace::Workflow {
            uid: member.key.workflow_uid.clone(),
        };
        let budgets = member.envelope.budgets;
        let of_day = Limit {
            name: format!("namespace {} for today", member.namespace),
            budget: self.daily.of(&member.namespace),
            counts: Counts::All,
        };
        let of_stage = Limit {
            name: format!("stage {}", most.stage),
            budget: budgets.stage,
            counts: Counts::Stage(most.run, &most.stage),
        };
        let of_run = Limit {
            name: "the Workflow".to_owned(),
            budget: budgets.workflow,
            counts: Counts::Run(most.run),
        };
        let limited = |limit: &Limit<'_>| !limit.budget.is_unlimited();
        [
            (
                day(&member.namespace, now),
                Some(of_day).into_iter().filter(limited).collect(),
            ),
            (workflow, [of_stage, of_run].into_iter().filter(limited).collect()),
        ]
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

    /// Ends a call in one ledger; nothing was used where it was never made.
    async fn settle(
        &self,
        place: &LedgerPlace,
        id: &str,
        used: Option<&ModelUsage>,
    ) -> Result<(), BudgetError> {
        let now = Moment::now();
        self.change(place, |ledger| match used {
            Some(used) => ledger.settle(id, used, now),
            None => ledger.release(id),
        })
        .await
    }

    /// Changes a ledger, once, whoever else does at the same time.
    async fn change<T>(
        &self,
        place: &LedgerPlace,
        mut act: impl FnMut(&mut Ledger) -> T + Send,
    ) -> Result<T, BudgetError> {
        let slot = self.slot(place);
        let mut copy = slot.copy.lock().await;
        for _ in 0..TRIES {
            let known = match copy.take() {
                Some(copy) if copy.at.elapsed() < FRESH => copy,
                _ => {
                    let at = Instant::now();
                    let (number, ledger) = self.store.ledger(place).await?.unwrap_or_default();
                    Copy { number, ledger, at }
                }
            };
            let (number, at) = (known.number, known.at);
            let mut ledger = known.ledger.clone();
            let answer = act(&mut ledger);
            if ledger == known.ledger {
                *copy = Some(known);
                return Ok(answer);
            }
            // As old as what it is built upon, so that it is read again in time.
            if self.store.write_ledger(place, number, &ledger).await? {
                let number = number + 1;
                *copy = Some(Copy { number, ledger, at });
                self.trim(place, number);
                return Ok(answer);
            }
        }
        Err(BudgetError::Busy)
    }

    fn slot(&self, place: &LedgerPlace) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= COPIES {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        slots.entry(place.clone()).or_default().clone()
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

impl Reservation {
    /// Ends it now, where that may not wait for its drop.
    pub async fn close(mut self) {
        self.end().await;
    }

    /// Writes what the call used, or takes it back. Until that is done it counts with its maximum.
    fn end(&mut self) -> impl Future<Output = ()> + Send + 'static {
        let ledgers = self.ledgers.clone();
        let (id, places, used) = (
            std::mem::take(&mut self.id),
            std::mem::take(&mut self.places),
            self.used.take().map(|amount| ModelUsage {
                amount,
                ..self.most.clone()
            }),
        );
        async move {
            for place in places {
                let mut pauses = SETTLED_AGAIN.into_iter();
                while let Err(error) = ledgers.settle(&place, &id, used.as_ref()).await {
                    let Some(pause) = pauses.next() else {
                        tracing::warn!(error = %stagecraft_api::error::chain(&error), "what a call used was not written; it counts with its maximum");
                        break;
                    };
                    sleep(pause).await;
                }
                ledgers.slot(&place).freed.notify_waiters();
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.places.is_empty() {
            let end = self.end();
            // The gateway waits for it when it ends.
            self.ledgers.background.spawn(end);
        }
    }
}
