//! What follows a failed attempt.

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::status::StageStatus;

use crate::settings::Settings;

/// What a failed attempt is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Against the stage's `retries`.
    Failure,
    /// Against the bound for attempts that the cluster took away.
    Loss,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another attempt, after this many milliseconds.
    Retry { after_millis: u64 },
    /// The stage has failed.
    GiveUp,
}

/// The agent is not to blame when the cluster took the work away.
pub fn count(error: &StructuredError) -> Count {
    if error.category == Category::Network {
        Count::Loss
    } else {
        Count::Failure
    }
}

/// What comes after an attempt that failed with `error`, when `failures` and `losses` include it.
pub fn next(
    error: &StructuredError,
    failures: u32,
    losses: u32,
    retries: u32,
    key: &AttemptKey,
    settings: &Settings,
) -> Next {
    let exhausted = match count(error) {
        Count::Failure => failures > retries,
        Count::Loss => losses > settings.max_losses,
    };
    if exhausted || !error.retryable {
        return Next::GiveUp;
    }
    let after_millis = match count(error) {
        Count::Failure => backoff(failures, key, settings),
        // The first loss is usually a single Pod: go on at once.
        Count::Loss if losses <= 1 => 0,
        Count::Loss => backoff(losses - 1, key, settings),
    };
    let asked = u64::from(error.retry_after.unwrap_or(0)) * 1000;
    Next::Retry {
        after_millis: after_millis.max(asked),
    }
}

/// Whether a failed stage has no attempt left. One that has was given up because another stage failed.
pub fn used_up(stage: &StageStatus, retries: u32, settings: &Settings) -> bool {
    let Some(error) = &stage.error else { return true };
    !error.retryable
        || match count(error) {
            Count::Failure => stage.failures > retries,
            Count::Loss => stage.losses > settings.max_losses,
        }
}

/// Exponential, capped, with up to a quarter of jitter that depends on the attempt alone: the planner has no randomness.
fn backoff(count: u32, key: &AttemptKey, settings: &Settings) -> u64 {
    let doublings = count.saturating_sub(1).min(20);
    let wait = settings
        .backoff_base_millis
        .saturating_mul(1 << doublings)
        .min(settings.backoff_cap_millis);
    let seed = key
        .to_string()
        .bytes()
        .fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(byte));
    wait + (wait / 4).saturating_mul(seed % 101) / 100
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn waits_double_up_to_the_cap() {
        let settings = Settings::default();
        let waits: Vec<u64> = (1..=10).map(|count| backoff(count, &key(), &settings)).collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!((1_000..=1_250).contains(&waits[0]), "{waits:?}");
        assert!((60_000..=75_000).contains(&waits[9]), "{waits:?}");
    }

    #[test]
    fn retries_are_used_up() {
        let settings = Settings::default();
        let execution = error(Category::Execution);
        assert!(matches!(
            next(&execution, 3, 0, 3, &key(), &settings),
            Next::Retry { .. }
        ));
        assert_eq!(next(&execution, 4, 0, 3, &key(), &settings), Next::GiveUp);
        assert_eq!(next(&execution, 1, 0, 0, &key(), &settings), Next::GiveUp);
    }

    #[test]
    fn losses_cost_no_retry_but_are_bounded() {
        let settings = Settings::default();
        let network = error(Category::Network);
        assert_eq!(
            next(&network, 0, 1, 0, &key(), &settings),
            Next::Retry { after_millis: 0 }
        );
        assert!(matches!(
            next(&network, 0, 20, 0, &key(), &settings),
            Next::Retry { .. }
        ));
        assert_eq!(next(&network, 0, 21, 0, &key(), &settings), Next::GiveUp);
    }

    #[test]
    fn a_fatal_error_is_never_repeated() {
        let fatal = error(Category::Network).fatal();
        assert_eq!(next(&fatal, 0, 1, 3, &key(), &Settings::default()), Next::GiveUp);
    }

    #[test]
    fn an_error_may_ask_for_a_longer_wait() {
        let mut slow = error(Category::Execution);
        slow.retry_after = Some(30);
        assert_eq!(
            next(&slow, 1, 0, 3, &key(), &Settings::default()),
            Next::Retry { after_millis: 30_000 }
        );
    }
}
