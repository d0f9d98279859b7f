//! What calls of models took, as the status shows it, and who is told when a budget runs low.

use stagecraft_api::budget::{Amount, Budget, ModelUsage};
use stagecraft_api::limit;
use stagecraft_api::status::{ModelTotals, StagePhase, StageStatus};

use crate::advance::Draft;
use crate::bounds::shorten;
use crate::plan::Notice;

/// How often what was used is looked at while stages run, in seconds.
const LOOKED_AFTER_EVERY: u64 = 30;
/// From this share of a budget on there is an Event, in percent.
const LOW: u64 = 80;

impl Draft<'_> {
    /// Takes over what was used since.
    pub(crate) fn note_models(&mut self) {
        let is_running = |stage: &StageStatus| stage.phase == StagePhase::Running;
        if self.run.model.is_some() && self.status.stages.iter().any(is_running) {
            self.plan
                .wake(self.observation.now.plus_seconds(LOOKED_AFTER_EVERY));
        }
        let Some(used) = self.observation.used.as_ref().filter(|used| !used.is_empty()) else {
            return;
        };
        let before = self.status.models.take().unwrap_or_default();
        let now = totals(used);
        self.warn(&before, &now);
        self.status.cost = decimal(now.total.cost);
        self.status.models = Some(now);
    }

    /// Says once of each budget that it runs low. Storing the new totals makes it once.
    fn warn(&mut self, before: &ModelTotals, now: &ModelTotals) {
        let number = self.status.run;
        let stages = self.run.stages.iter();
        let budgets = stages
            .map(|stage| {
                (
                    format!("stage {}", stage.name),
                    Some(stage.name.as_str()),
                    stage.budget,
                )
            })
            .chain([("the Workflow".to_owned(), None, self.run.budget)]);
        let mut notices = Vec::new();
        for (name, stage, budget) in budgets {
            let counts =
                |usage: &&ModelUsage| usage.run == number && stage.is_none_or(|stage| usage.stage == stage);
            let share = |totals: &ModelTotals| percent(budget, totals.by.iter().filter(counts));
            let (was, is) = (share(before), share(now));
            if is >= LOW && was < LOW {
                notices.push(Notice {
                    about: None,
                    warning: true,
                    reason: "BudgetLow",
                    message: format!("{is} % of the model budget of {name} is used"),
                });
            }
        }
        self.notices.extend(notices);
    }
}

fn percent<'a>(budget: Budget, used: impl Iterator<Item = &'a ModelUsage>) -> u64 {
    let sum = used.fold(Amount::default(), |sum, usage| sum.plus(usage.amount));
    budget.percent(&sum).unwrap_or(0)
}

/// All of it, with the latest told apart.
fn totals(used: &[ModelUsage]) -> ModelTotals {
    let total = used
        .iter()
        .fold(Amount::default(), |sum, usage| sum.plus(usage.amount));
    let mut by: Vec<ModelUsage> = used.to_vec();
    by.sort_by(|one, other| {
        let place = |usage: &ModelUsage| {
            (
                usage.run,
                usage.stage.clone(),
                usage.provider.clone(),
                usage.model.clone(),
            )
        };
        place(one).cmp(&place(other))
    });
    if by.len() > limit::MODEL_USAGES {
        let older = by.len() - limit::MODEL_USAGES + 1;
        let rest = by
            .drain(..older)
            .fold(Amount::default(), |sum, usage| sum.plus(usage.amount));
        by.insert(
            0,
            ModelUsage {
                amount: rest,
                ..ModelUsage::default()
            },
        );
    }
    let mut totals = ModelTotals { total, by };
    bound(&mut totals);
    totals
}

/// What a status can hold of them.
pub(crate) fn bound(totals: &mut ModelTotals) {
    totals.total = bounded(totals.total);
    let surplus = totals.by.len().saturating_sub(limit::MODEL_USAGES);
    totals.by.drain(..surplus);
    for usage in &mut totals.by {
        usage.amount = bounded(usage.amount);
        for (name, longest) in [
            (&mut usage.stage, 63),
            (&mut usage.provider, 63),
            (&mut usage.model, 200),
        ] {
            shorten(name, longest);
        }
    }
}

/// Numbers that every reader of JSON keeps.
fn bounded(amount: Amount) -> Amount {
    let mut amount = amount;
    amount.calls = amount.calls.min(limit::COUNT);
    amount.cost = amount.cost.min(limit::COUNT);
    let tokens = &mut amount.tokens;
    for class in [
        &mut tokens.input,
        &mut tokens.output,
        &mut tokens.cache_write,
        &mut tokens.cache_read,
    ] {
        *class = (*class).min(limit::COUNT);
    }
    amount
}

/// Micro-units as a decimal, to four places, rounded up: what costs anything never shows as nothing.
pub(crate) fn decimal(micros: u64) -> String {
    let parts = micros.div_ceil(100);
    format!("{}.{:04}", parts / 10_000, parts % 10_000)
}

#[cfg(test)]
mod tests {
    use stagecraft_api::budget::{Amount, ModelUsage};
    use stagecraft_api::limit;

    use super::{decimal, totals};

    #[test]
    fn cost_is_shown_as_people_write_it() {
        for (micros, expected) in [
            (0, "0.0000"),
            (1, "0.0001"),
            (42_600, "0.0426"),
            (5_000_000, "5.0000"),
            (123_456_789, "123.4568"),
        ] {
            assert_eq!(decimal(micros), expected);
        }
    }

    #[test]
    fn totals_are_bounded_and_keep_the_latest_apart() {
        let used: Vec<ModelUsage> = (1..=100)
            .map(|run| ModelUsage {
                run,
                stage: "a".to_owned(),
                amount: Amount {
                    calls: 1,
                    cost: u64::from(run),
                    ..Amount::default()
                },
                ..ModelUsage::default()
            })
            .collect();
        let totals = totals(&used);
        assert_eq!(totals.by.len(), limit::MODEL_USAGES);
        assert_eq!((totals.total.calls, totals.total.cost), (100, 5050));
        let sum = totals.by.iter().fold(0, |sum, usage| sum + usage.amount.cost);
        assert_eq!(sum, 5050);
        assert_eq!(totals.by.last().unwrap().run, 100);
        assert_eq!(totals.by.first().unwrap().amount.calls, 37);
    }
}
