//! What calls of models may use, and what they used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most that calls of models may use. It is looked at before each call: the last one that is let through may go beyond it, by no more
/// than its own maximum. Default of each: no limit.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Tokens of all classes together, from 1 to 10^12. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub tokens: Option<u64>,
    /// Cost by the provider's `prices`, in micro-units of the account's currency: 5000000 is 5.00. From 1 to 10^12. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub cost: Option<u64>,
    /// Calls that are charged, from 1 to 1000000. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls: Option<u64>,
}

impl Budget {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// This one, with another's limits where it has none.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.or(other.tokens),
            cost: self.cost.or(other.cost),
            calls: self.calls.or(other.calls),
        }
    }

    /// What of it is used up, as it is told to people; none when nothing is.
    pub fn exhausted_by(&self, amount: &Amount) -> Option<String> {
        let pairs = self.pairs(amount);
        let (name, limit, used) = pairs.iter().find(|(_, limit, used)| used >= limit)?;
        Some(format!("{used} of {limit} {name}"))
    }

    /// What of it more would go beyond, as it is told to people; none while there is room.
    pub fn exceeded_by(&self, amount: &Amount) -> Option<String> {
        let pairs = self.pairs(amount);
        let (name, limit, used) = pairs.iter().find(|(_, limit, used)| used > limit)?;
        Some(format!("up to {used} of {limit} {name}"))
    }

    /// The largest share that is used, in percent; none without a limit.
    pub fn percent(&self, amount: &Amount) -> Option<u64> {
        let shares = self.pairs(amount);
        let percent = |(_, limit, used): &(&str, u64, u64)| {
            u64::try_from(u128::from(*used) * 100 / u128::from((*limit).max(1))).unwrap_or(u64::MAX)
        };
        shares.iter().map(percent).max()
    }

    /// Name, limit and what is used of it.
    fn pairs(&self, amount: &Amount) -> Vec<(&'static str, u64, u64)> {
        let pairs = [
            ("tokens", self.tokens, amount.tokens.total()),
            ("micro-units of cost", self.cost, amount.cost),
            ("calls", self.calls, amount.calls),
        ];
        let limited = |(name, limit, used): (&'static str, Option<u64>, u64)| Some((name, limit?, used));
        pairs.into_iter().filter_map(limited).collect()
    }
}

/// Tokens by class. What is read from or written to the provider's prompt cache is not in `input`.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// Tokens read. Default: 0.
    #[serde(default)]
    pub input: u64,
    /// Tokens written. Default: 0.
    #[serde(default)]
    pub output: u64,
    /// Tokens written to the prompt cache. Default: 0.
    #[serde(default)]
    pub cache_write: u64,
    /// Tokens read from the prompt cache. Default: 0.
    #[serde(default)]
    pub cache_read: u64,
}

impl Tokens {
    pub fn total(self) -> u64 {
        [self.output, self.cache_write, self.cache_read]
            .iter()
            .fold(self.input, |sum, class| sum.saturating_add(*class))
    }

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            output: self.output.saturating_add(other.output),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_read: self.cache_read.saturating_add(other.cache_read),
        }
    }
}

/// What calls took.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Amount {
    /// Calls that were charged. Default: 0.
    #[serde(default)]
    pub calls: u64,
    /// Their tokens, by class.
    #[serde(default)]
    pub tokens: Tokens,
    /// Their cost by the provider's prices, in micro-units of the account's currency: 5000000 is 5.00. Default: 0.
    #[serde(default)]
    pub cost: u64,
}

impl Amount {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            tokens: self.tokens.plus(other.tokens),
            cost: self.cost.saturating_add(other.cost),
        }
    }
}

/// What one model was used for by one stage in one run.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelUsage {
    /// Number of the run; 0 where usage of several is summed up.
    #[serde(default)]
    pub run: u32,
    /// Name of the stage; empty where usage of several is summed up. At most 63 characters.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub stage: String,
    /// Name of the ModelProvider; empty where usage of several is summed up. At most 63 characters.
    #[serde(default)]
    #[schemars(length(max = 63))]
    pub provider: String,
    /// Name of the model; empty where usage of several is summed up. At most 200 characters.
    #[serde(default)]
    #[schemars(length(max = 200))]
    pub model: String,
    /// What it took.
    #[serde(flatten)]
    pub amount: Amount,
}

impl ModelUsage {
    /// Whether the other one speaks of the same stage, run, provider and model.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        (self.run, &self.stage, &self.provider, &self.model)
            == (other.run, &other.stage, &other.provider, &other.model)
    }
}

/// The budgets that a task is under.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Budgets {
    /// Of all attempts of the stage in this run.
    #[serde(default)]
    pub stage: Budget,
    /// Of all stages in this run.
    #[serde(default)]
    pub workflow: Budget,
}

impl Budgets {
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Budget, Tokens};

    #[test]
    fn the_first_limit_that_is_reached_is_named() {
        let budget = Budget {
            tokens: Some(100),
            cost: None,
            calls: Some(3),
        };
        let used = |tokens, calls| Amount {
            calls,
            tokens: Tokens {
                input: tokens,
                ..Tokens::default()
            },
            cost: 1_000_000,
        };
        assert_eq!(budget.exhausted_by(&used(99, 2)), None);
        assert_eq!(budget.exhausted_by(&used(100, 2)).unwrap(), "100 of 100 tokens");
        assert_eq!(budget.exhausted_by(&used(1, 4)).unwrap(), "4 of 3 calls");
        assert_eq!(budget.percent(&used(80, 2)), Some(80));
        assert_eq!(budget.percent(&used(0, 3)), Some(100));
        assert_eq!(Budget::default().percent(&used(80, 2)), None);
        assert_eq!(Budget::default().exhausted_by(&used(u64::MAX, 9)), None);
    }

    #[test]
    fn nothing_overflows() {
        let most = Amount {
            calls: u64::MAX,
            tokens: Tokens {
                input: u64::MAX,
                output: u64::MAX,
                cache_write: 0,
                cache_read: 0,
            },
            cost: u64::MAX,
        };
        assert_eq!(most.plus(most).tokens.total(), u64::MAX);
        let one = Budget {
            tokens: Some(1),
            ..Budget::default()
        };
        assert_eq!(one.percent(&most), Some(u64::MAX));
    }
}
