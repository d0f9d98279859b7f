//! How a ModelProvider does: what its status says, and what holds back the stages that call it.

use stagecraft_api::ModelProvider;
use stagecraft_api::moment::Moment;
use stagecraft_api::protocol::ProviderReport;
use stagecraft_api::provider::{BreakerState, ModelProviderStatus, ProviderKind};

use crate::summary::set_condition;

/// Type of the one condition.
pub const READY: &str = "Ready";

/// Why no stage that calls models begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub reason: &'static str,
    pub message: String,
    /// When that ends, where it is known.
    pub until: Option<Moment>,
}

impl Trouble {
    /// Whether calls are made of what the provider falls back on: it is there, and fails.
    pub fn may_fall_back(&self) -> bool {
        matches!(self.reason, "BreakerOpen" | "Unreachable")
    }
}

/// What keeps a provider from being called now.
pub fn trouble(report: &ProviderReport, now: Moment) -> Option<Trouble> {
    if let Some(problem) = &report.unusable {
        return Some(Trouble {
            reason: "Unusable",
            message: problem.clone(),
            until: None,
        });
    }
    if let Some(used) = report.day_used_up.as_ref().filter(|_| now < report.day_ends) {
        return Some(Trouble {
            reason: "DayUsedUp",
            message: format!(
                "the namespace has used up its budget for today, {used} (chart value models.dailyBudgets); the next day begins at {}",
                report.day_ends
            ),
            until: Some(report.day_ends),
        });
    }
    if let Some(until) = report.open_until.filter(|until| now < *until) {
        return Some(Trouble {
            reason: "BreakerOpen",
            message: format!("it failed too often and is left alone until {until}"),
            until: Some(until),
        });
    }
    let problem = report.unreachable.as_ref()?;
    Some(Trouble {
        reason: "Unreachable",
        message: format!("it does not answer: {problem}"),
        until: None,
    })
}

/// The status of a provider by what was reported, which is nothing of one that is built in.
pub fn status(provider: &ModelProvider, report: Option<&ProviderReport>, now: Moment) -> ModelProviderStatus {
    let before = provider.status.clone().unwrap_or_default();
    let generation = provider.metadata.generation;
    let is_built_in = provider.spec.provider == ProviderKind::Builtin;
    let (value, reason, message) = match report.and_then(|report| trouble(report, now)) {
        Some(Trouble { reason, message, .. }) => ("False", reason, message),
        None if is_built_in => ("True", "BuiltIn", "it calls no model".to_owned()),
        None => ("True", "Reachable", "calls are let through".to_owned()),
    };
    let mut conditions = before.conditions;
    set_condition(&mut conditions, generation, READY, value, reason, &message, now);
    ModelProviderStatus {
        observed_generation: generation,
        conditions,
        breaker: report.map_or(BreakerState::Closed, |report| report.breaker),
        open_until: report.and_then(|report| report.open_until),
        last_hour: report.map(|report| report.last_hour).unwrap_or_default(),
    }
}
