//! What follows a failed attempt.

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::error::StructuredError;
use stagecraft_api::failure::{FailureClass, MODEL_REFUSED};
use stagecraft_api::run::RunStage;
use stagecraft_api::status::StageStatus;

use crate::settings::Settings;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after this many milliseconds.
    Retry { after_millis: u64 },
    /// The stage has failed.
    GiveUp,
}

/// Counts an attempt that failed with `error`.
pub fn count(stage: &mut StageStatus, error: &StructuredError) {
    let class = FailureClass::of(error);
    // The agent is not to blame when the cluster took the work away.
    if class == FailureClass::Infrastructure {
        stage.losses = stage.losses.saturating_add(1);
    } else {
        stage.failures = stage.failures.saturating_add(1);
    }
    let failed = stage.failed_by.entry(class).or_default();
    *failed = failed.saturating_add(1);
}

/// What comes after an attempt that failed with `error` and was counted.
pub fn next(
    error: &StructuredError,
    stage: &StageStatus,
    run: &RunStage,
    key: &AttemptKey,
    settings: &Settings,
) -> Next {
    if is_exhausted(error, stage, run, settings) {
        return Next::GiveUp;
    }
    let class = FailureClass::of(error);
    let after_millis = match class {
        // The first loss is usually a single Pod: go on at once.
        FailureClass::Infrastructure if stage.losses <= 1 => 0,
        FailureClass::Infrastructure => backoff(stage.losses - 1, run, key, settings),
        _ => backoff(stage.failures, run, key, settings),
    };
    let asked = u64::from(error.retry_after.unwrap_or(0)) * 1000;
    Next::Retry {
        after_millis: after_millis.max(asked),
    }
}

/// Whether a failed stage has no attempt left. One that has was given up because another stage failed.
pub fn used_up(stage: &StageStatus, run: &RunStage, settings: &Settings) -> bool {
    let Some(error) = &stage.error else { return true };
    is_exhausted(error, stage, run, settings)
}

fn is_exhausted(error: &StructuredError, stage: &StageStatus, run: &RunStage, settings: &Settings) -> bool {
    let class = FailureClass::of(error);
    let failed = stage.failed_by.get(&class).copied().unwrap_or(0);
    let limit = run.retry_policy.limit(class);
    match (class, limit) {
        // Whether the same work is judged once more is the template's choice.
        (FailureClass::WrongResult, limit) => failed > limit.unwrap_or(0),
        // So is whether a model is asked once more what it has refused.
        (FailureClass::Model, limit) if error.code == MODEL_REFUSED => failed > limit.unwrap_or(0),
        _ if !error.retryable => true,
        (_, Some(limit)) => failed > limit,
        (FailureClass::Infrastructure, None) => failed > settings.max_losses,
        (_, None) => shared_failures(stage, run) > run.retries,
    }
}

/// Failures of the classes without a number of their own.
fn shared_failures(stage: &StageStatus, run: &RunStage) -> u32 {
    let shared = FailureClass::ALL.into_iter().filter(|class| {
        let own = matches!(class, FailureClass::Infrastructure | FailureClass::WrongResult);
        !own && run.retry_policy.limit(*class).is_none()
    });
    shared
        .filter_map(|class| stage.failed_by.get(&class))
        .fold(0, |sum: u32, failed| sum.saturating_add(*failed))
}

/// Exponential, capped, with up to a quarter of jitter that depends on the attempt alone: the planner has no randomness.
fn backoff(count: u32, run: &RunStage, key: &AttemptKey, settings: &Settings) -> u64 {
    let (base, factor, cap) = match run.retry_policy.backoff {
        Some(backoff) => (
            u64::from(backoff.base_seconds) * 1000,
            u64::from(backoff.factor),
            u64::from(backoff.cap_seconds) * 1000,
        ),
        None => (settings.backoff_base_millis, 2, settings.backoff_cap_millis),
    };
    let growth = factor.saturating_pow(count.saturating_sub(1));
    let wait = base.saturating_mul(growth).min(cap);
    let seed = key
        .to_string()
        .bytes()
        .fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    wait + (wait / 4).saturating_mul(seed % 101) / 100
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use stagecraft_api::error::Category;
    use stagecraft_api::failure::GATE_FAILED;

    use super::*;

    fn key() -> AttemptKey {
        AttemptKey {
            workflow_uid: "u".into(),
            stage: "s".into(),
            attempt: 1,
        }
    }

    fn error(category: Category) -> StructuredError {
        StructuredError::new("Code", category, "message")
    }

    fn run(retries: u32, policy: &Value) -> RunStage {
        serde_json::from_value(json!({
            "name": "s", "needs": [], "phase": "Running", "timeoutSeconds": 1, "retries": retries, "payload": {},
            "retryPolicy": policy,
            "agent": {"name": "worker", "version": "", "command": ["x"], "env": [], "resources": {}},
        }))
        .unwrap()
    }

    /// Fails with each of the errors in turn: what comes after the last one.
    fn after(errors: &[StructuredError], run: &RunStage) -> Next {
        let mut stage = StageStatus::default();
        let mut last = Next::GiveUp;
        for error in errors {
            count(&mut stage, error);
            last = next(error, &stage, run, &key(), &Settings::default());
        }
        last
    }

    fn goes_on(errors: &[StructuredError], run: &RunStage) -> bool {
        matches!(after(errors, run), Next::Retry { .. })
    }

    #[test]
    fn waits_grow_up_to_the_cap() {
        let settings = Settings::default();
        let waits: Vec<u64> = (1..=10)
            .map(|count| backoff(count, &run(0, &json!({})), &key(), &settings))
            .collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!((1_000..=1_250).contains(&waits[0]), "{waits:?}");
        assert!((60_000..=75_000).contains(&waits[9]), "{waits:?}");
        let own = run(
            0,
            &json!({"backoff": {"baseSeconds": 10, "factor": 3, "capSeconds": 50}}),
        );
        let waits: Vec<u64> = [1, 2, 3, u32::MAX]
            .map(|count| backoff(count, &own, &key(), &settings) / 10_000)
            .into();
        assert!(matches!(waits[..], [1, 3, 5 | 6, 5 | 6]), "{waits:?}");
    }

    #[test]
    fn attempts_that_fail_together_do_not_come_back_together() {
        let wait = |number: u32| {
            let key = AttemptKey {
                attempt: number,
                ..key()
            };
            backoff(1, &run(0, &json!({})), &key, &Settings::default())
        };
        let waits: Vec<u64> = (1..=50).map(wait).collect();
        assert!(
            waits.iter().all(|wait| (1_000..=1_250).contains(wait)),
            "{waits:?}"
        );
        let different: std::collections::BTreeSet<&u64> = waits.iter().collect();
        assert!(different.len() > 10, "{waits:?}");
        assert_eq!(wait(7), wait(7), "planned once more, it is the same");
    }

    #[test]
    fn retries_are_used_up() {
        let failures = vec![error(Category::Execution); 4];
        let run = run(3, &json!({}));
        assert!(goes_on(&failures[..3], &run));
        assert!(!goes_on(&failures, &run));
    }

    #[test]
    fn classes_share_the_retries_unless_they_have_a_number_of_their_own() {
        let mixed = [
            error(Category::Execution),
            error(Category::Timeout),
            error(Category::Resource),
        ];
        assert!(goes_on(&mixed[..2], &run(2, &json!({}))));
        assert!(!goes_on(&mixed, &run(2, &json!({}))));
        assert!(goes_on(&mixed, &run(2, &json!({"timeout": 1}))), "two are shared");
        assert!(!goes_on(&mixed[..2], &run(2, &json!({"timeout": 0}))));
        let model = StructuredError::new("ModelOverloaded", Category::Dependency, "busy");
        let models = vec![model; 5];
        assert!(goes_on(&models, &run(0, &json!({"model": 5}))));
    }

    #[test]
    fn losses_cost_no_retry_but_are_bounded() {
        let losses = vec![error(Category::Network); 21];
        let plain = run(0, &json!({}));
        assert_eq!(after(&losses[..1], &plain), Next::Retry { after_millis: 0 });
        assert!(goes_on(&losses[..20], &plain));
        assert!(!goes_on(&losses, &plain));
        assert!(!goes_on(&losses[..3], &run(9, &json!({"infrastructure": 2}))));
    }

    #[test]
    fn a_fatal_error_is_never_repeated_and_a_wrong_result_only_on_request() {
        assert!(!goes_on(&[error(Category::Network).fatal()], &run(3, &json!({}))));
        let gate = [StructuredError::new(GATE_FAILED, Category::Validation, "too few").fatal()];
        assert!(!goes_on(&gate, &run(3, &json!({}))));
        assert!(goes_on(&gate, &run(0, &json!({"wrongResult": 1}))));
    }

    #[test]
    fn what_a_model_refused_is_asked_again_only_on_request() {
        let refused = StructuredError::new(MODEL_REFUSED, Category::Dependency, "no");
        let refused = [StructuredError {
            retryable: false,
            ..refused
        }];
        assert_eq!(FailureClass::of(&refused[0]), FailureClass::Model);
        assert!(!goes_on(&refused, &run(3, &json!({}))));
        assert!(goes_on(&refused, &run(0, &json!({"model": 1}))));
    }

    #[test]
    fn an_error_may_ask_for_a_longer_wait() {
        let mut slow = error(Category::Execution);
        slow.retry_after = Some(30);
        assert_eq!(
            after(&[slow], &run(3, &json!({}))),
            Next::Retry { after_millis: 30_000 }
        );
    }
}
