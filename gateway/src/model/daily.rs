//! Budgets of namespaces by the day.

use std::collections::HashMap;
use std::str::FromStr;

use serde::Deserialize;
use stagecraft_api::budget::Budget;

/// Most that the Workflows of a namespace may use in a day, in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyBudgets {
    /// Of every namespace, where it has no limit of its own.
    #[serde(default)]
    pub default: DailyBudget,
    #[serde(default)]
    pub namespaces: HashMap<String, DailyBudget>,
}

/// The budget of one of them. A name that nobody knows would be no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DailyBudget {
    tokens: Option<u64>,
    cost: Option<u64>,
    calls: Option<u64>,
}

impl From<DailyBudget> for Budget {
    fn from(budget: DailyBudget) -> Self {
        let DailyBudget { tokens, cost, calls } = budget;
        Self { tokens, cost, calls }
    }
}

impl FromStr for DailyBudgets {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

impl DailyBudgets {
    pub fn of(&self, namespace: &str) -> Budget {
        let own = self.namespaces.get(namespace).copied().unwrap_or_default();
        Budget::from(own).or(self.default.into())
    }
}
