//! What calls of models have used and may still use: a value, and what happens to it. [`super::ledgers`] keeps it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stagecraft_api::Moment;
use stagecraft_api::budget::{Amount, Budget, ModelUsage};

/// Most lines; what is beyond them is summed up in one.
const LINES: usize = 256;

/// Everything that was used under one budget, or several.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// What was settled.
    lines: Vec<ModelUsage>,
    /// Calls under way, each with the most that it may take.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    open: BTreeMap<String, Open>,
}

/// A call under way.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// Who calls, and the most that the call may take.
    #[serde(flatten)]
    pub most: ModelUsage,
    /// When the gateway that let it through has surely ended it, or has itself ended: then it counts with the most that it may have taken.
    pub until: Moment,
}

/// What counts against a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts<'call> {
    All,
    /// One run of the Workflow.
    Run(u32),
    /// One stage of a run.
    Stage(u32, &'call str),
}

impl Counts<'_> {
    fn has(self, usage: &ModelUsage) -> bool {
        match self {
            Self::All => true,
            Self::Run(run) => usage.run == run,
            Self::Stage(run, stage) => usage.run == run && usage.stage == stage,
        }
    }
}

/// A budget with what counts against it.
pub struct Limit<'call> {
    /// As it is told: "stage scaffold".
    pub name: String,
    pub budget: Budget,
    pub counts: Counts<'call>,
}

/// How much has to be left for a call to be let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Anything: the last call may pass the limit by its own maximum.
    Some,
    /// What it may cost at the most.
    Whole,
}

/// A budget without room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub name: String,
    /// "100 of 100 tokens".
    pub used: String,
    /// Whether it begins anew with the day: else with a new run.
    pub is_daily: bool,
}

/// Why a call is not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// What was settled reaches the limit: there will be no room any more.
    Exhausted(Exhausted),
    /// Calls under way reach it, which may give back what they do not need.
    Full(Exhausted),
}

impl Ledger {
    /// What was settled, and what is under way with the most that it may take.
    pub fn committed(&self, counts: Counts<'_>) -> Amount {
        let open = self.open.values().map(|open| &open.most);
        sum(self.lines.iter().chain(open), counts)
    }

    /// Lets a call through while none of the limits is reached by what was let through before. So however many calls run at once, a
    /// limit is passed by one call's own maximum at the most.
    pub fn reserve(
        &mut self,
        id: &str,
        open: Open,
        limits: &[Limit<'_>],
        room: Room,
        now: Moment,
    ) -> Result<(), NoRoom> {
        self.expire(now);
        for limit in limits {
            let settled = sum(self.lines.iter(), limit.counts);
            if let Some(used) = limit.exceeded(settled, open.most.amount, room) {
                return Err(NoRoom::Exhausted(used));
            }
        }
        for limit in limits {
            let committed = self.committed(limit.counts);
            if let Some(used) = limit.exceeded(committed, open.most.amount, room) {
                return Err(NoRoom::Full(used));
            }
        }
        self.open.insert(id.to_owned(), open);
        Ok(())
    }

    /// Ends a call with what it took. One that was not reserved, or has expired since, counts all the same.
    pub fn settle(&mut self, id: &str, used: &ModelUsage, now: Moment) {
        self.open.remove(id);
        self.expire(now);
        self.add(used);
    }

    /// Takes back a call that was not made.
    pub fn release(&mut self, id: &str) {
        self.open.remove(id);
    }

    pub fn lines(&self) -> &[ModelUsage] {
        &self.lines
    }

    /// Gateways that were killed settle nothing any more.
    fn expire(&mut self, now: Moment) {
        let (gone, open): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(_, open)| open.until <= now);
        self.open = open;
        for open in gone.values() {
            self.add(&open.most);
        }
    }

    fn add(&mut self, used: &ModelUsage) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.is_about_the_same(used)) {
            line.amount = line.amount.plus(used.amount);
            return;
        }
        if self.lines.len() >= LINES {
            self.make_room();
        }
        self.lines.push(used.clone());
    }

    /// Sums up the two oldest lines of the same run and stage, or else the two oldest: those of runs long over.
    fn make_room(&mut self) {
        let pair = (1..self.lines.len()).find_map(|second| {
            let line = self.lines.get(second)?;
            let first = self
                .lines
                .iter()
                .take(second)
                .position(|known| known.run == line.run && known.stage == line.stage)?;
            Some((first, second))
        });
        let (first, second) = pair.unwrap_or((0, 1));
        let removed = self.lines.remove(second);
        if let Some(line) = self.lines.get_mut(first) {
            let is_one_stage = line.run == removed.run && line.stage == removed.stage;
            *line = ModelUsage {
                run: if is_one_stage { line.run } else { 0 },
                stage: if is_one_stage {
                    line.stage.clone()
                } else {
                    String::new()
                },
                amount: line.amount.plus(removed.amount),
                ..ModelUsage::default()
            };
        }
    }
}

impl Limit<'_> {
    /// What of it is used up by what was used before, and by the call itself where all of it needs room.
    fn exceeded(&self, before: Amount, most: Amount, room: Room) -> Option<Exhausted> {
        let cost = Budget {
            cost: self.budget.cost,
            ..Budget::default()
        };
        let used = self.budget.exhausted_by(&before).or_else(|| match room {
            Room::Some => None,
            Room::Whole => cost.exceeded_by(&before.plus(most)),
        })?;
        Some(Exhausted {
            name: self.name.clone(),
            used,
            is_daily: self.counts == Counts::All,
        })
    }
}

fn sum<'usage>(usages: impl Iterator<Item = &'usage ModelUsage>, counts: Counts<'_>) -> Amount {
    usages
        .filter(|usage| counts.has(usage))
        .fold(Amount::default(), |sum, usage| sum.plus(usage.amount))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stagecraft_api::Moment;
    use stagecraft_api::budget::{Amount, Budget, ModelUsage, Tokens};

    use super::{Counts, Exhausted, LINES, Ledger, Limit, NoRoom, Open, Room};

    fn usage(run: u32, stage: &str, model: &str, tokens: u64) -> ModelUsage {
        ModelUsage {
            run,
            stage: stage.to_owned(),
            provider: "p".to_owned(),
            model: model.to_owned(),
            amount: Amount {
                calls: 1,
                tokens: Tokens {
                    output: tokens,
                    ..Tokens::default()
                },
                cost: tokens * 2,
            },
        }
    }

    fn at(seconds: i64) -> Moment {
        Moment::new(jiff::Timestamp::from_second(1_000_000 + seconds).unwrap())
    }

    fn reserve(
        ledger: &mut Ledger,
        id: &str,
        most: u64,
        tokens: Option<u64>,
        now: i64,
    ) -> Result<(), NoRoom> {
        let open = Open {
            most: usage(1, "a", "m", most),
            until: at(now + 100),
        };
        let limit = Limit {
            name: "stage a".to_owned(),
            budget: Budget {
                tokens,
                ..Budget::default()
            },
            counts: Counts::Stage(1, "a"),
        };
        ledger.reserve(id, open, &[limit], Room::Some, at(now))
    }

    #[test]
    fn calls_are_let_through_until_what_may_be_used_reaches_the_limit() {
        let mut ledger = Ledger::default();
        reserve(&mut ledger, "1", 60, Some(100), 0).unwrap();
        reserve(&mut ledger, "2", 60, Some(100), 0).unwrap();
        let told = |used: &str| Exhausted {
            name: "stage a".to_owned(),
            used: used.to_owned(),
            is_daily: false,
        };
        assert_eq!(
            reserve(&mut ledger, "3", 1, Some(100), 0),
            Err(NoRoom::Full(told("120 of 100 tokens"))),
            "those under way may need less"
        );
        ledger.settle("1", &usage(1, "a", "m", 10), at(1));
        reserve(&mut ledger, "3", 1, Some(100), 1).unwrap();
        ledger.release("3");
        ledger.settle("2", &usage(1, "a", "m", 20), at(2));
        assert_eq!(
            ledger.lines(),
            [ModelUsage {
                amount: usage(1, "a", "m", 30).amount.plus(Amount {
                    calls: 1,
                    ..Amount::default()
                }),
                ..usage(1, "a", "m", 0)
            }]
        );
    }

    #[test]
    fn what_was_settled_alone_uses_a_budget_up() {
        let mut ledger = Ledger::default();
        reserve(&mut ledger, "1", 500, Some(100), 0).unwrap();
        ledger.settle("2", &usage(1, "a", "m", 99), at(0));
        let refused = |ledger: &mut Ledger| reserve(ledger, "3", 1, Some(100), 0).unwrap_err();
        assert!(matches!(refused(&mut ledger), NoRoom::Full(_)));
        ledger.settle("2", &usage(1, "a", "m", 1), at(0));
        assert!(matches!(refused(&mut ledger), NoRoom::Exhausted(_)));
    }

    #[test]
    fn what_another_stage_uses_is_its_own() {
        let mut ledger = Ledger::default();
        ledger.settle("0", &usage(1, "b", "m", 1000), at(0));
        assert!(reserve(&mut ledger, "1", 1, Some(100), 0).is_ok());
    }

    #[test]
    fn a_call_that_nobody_settles_counts_with_its_maximum() {
        let mut ledger = Ledger::default();
        reserve(&mut ledger, "1", 90, Some(100), 0).unwrap();
        reserve(&mut ledger, "2", 5, Some(100), 99).unwrap();
        assert!(ledger.lines().is_empty());
        reserve(&mut ledger, "3", 5, Some(100), 100).unwrap();
        assert_eq!(ledger.lines(), [usage(1, "a", "m", 90)]);
        // Its gateway was only slow: it counts as well, which errs on the safe side.
        ledger.settle("1", &usage(1, "a", "m", 7), at(101));
        assert_eq!(ledger.committed(Counts::All).tokens.total(), 90 + 7 + 5 + 5);
    }

    #[test]
    fn it_is_bounded_and_forgets_no_sum() {
        let mut ledger = Ledger::default();
        let mut expected = 0;
        for run in 1..=60 {
            for stage in ["a", "b", "c"] {
                for model in ["m", "n"] {
                    ledger.settle("", &usage(run, stage, model, u64::from(run)), at(0));
                    expected += u64::from(run);
                }
            }
        }
        assert!(ledger.lines().len() <= LINES);
        assert_eq!(ledger.committed(Counts::All).tokens.total(), expected);
        let last = ledger.committed(Counts::Stage(60, "b"));
        assert_eq!(
            last.tokens.total(),
            120,
            "the latest run is told apart to the end"
        );
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
    }

    proptest! {
        /// However calls overlap, the limit is passed by less than one call's own maximum.
        #[test]
        fn a_limit_is_passed_by_one_call_at_the_most(
            limit in 1_u64..500,
            steps in proptest::collection::vec((1_u64..100, 0_u64..100, any::<bool>()), 1..200),
        ) {
            let mut ledger = Ledger::default();
            let mut open: Vec<(String, u64)> = Vec::new();
            for (index, (most, percent, begins)) in steps.into_iter().enumerate() {
                if begins {
                    let id = index.to_string();
                    if reserve(&mut ledger, &id, most, Some(limit), 0).is_ok() {
                        open.push((id, most));
                    }
                } else if !open.is_empty() {
                    let (id, most) = open.remove(index % open.len());
                    ledger.settle(&id, &usage(1, "a", "m", most * percent / 100), at(0));
                }
                let committed = ledger.committed(Counts::All).tokens.total();
                prop_assert!(committed < limit + 100, "{committed} of {limit}");
            }
        }
    }
}
