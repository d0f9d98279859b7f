//! Whether a call that failed is made again, and when.

use std::time::Duration;

use serde::Deserialize;

/// What a provider answered, before any of it was passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure<'answer> {
    /// No answer: no connection, or none within the time.
    Away,
    Status {
        status: u16,
        headers: Hints<'answer>,
        body: &'answer [u8],
    },
}

/// The headers that say what to do about an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints<'answer> {
    pub retry_after_ms: Option<&'answer str>,
    pub retry_after: Option<&'answer str>,
    pub should_retry: Option<&'answer str>,
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Tries beside the first.
    pub retries: u32,
    /// The longest pause that is waited for here. After a longer one the agent is told, with the time.
    pub longest: Duration,
}

impl Patience {
    /// The same with shorter pauses.
    #[must_use]
    pub fn at_most(self, longest: Duration) -> Self {
        Self {
            longest: self.longest.min(longest),
            ..self
        }
    }
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            retries: 2,
            longest: Duration::from_mins(1),
        }
    }
}

/// First and longest pause where the provider names none.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(8)];

/// The pause before the next try; none when the answer goes to the agent as it is. `tries` have been made, and `chance` is between 0
/// and 1.
pub fn pause(failure: &Failure<'_>, tries: u32, patience: Patience, chance: f64) -> Option<Duration> {
    if tries > patience.retries {
        return None;
    }
    let told = match failure {
        Failure::Away => None,
        Failure::Status {
            status,
            headers,
            body,
        } => {
            if !may_pass(*status, *headers) || is_spent(body) {
                return None;
            }
            named(*headers)
        }
    };
    let pause = told.unwrap_or_else(|| {
        let [first, longest] = PAUSES;
        let pause = first
            .saturating_mul(1 << tries.saturating_sub(1).min(16))
            .min(longest);
        pause.mul_f64(1.0 - chance.clamp(0.0, 1.0) / 4.0)
    });
    (pause <= patience.longest).then_some(pause)
}

/// Whether the same request may succeed later.
fn may_pass(status: u16, headers: Hints<'_>) -> bool {
    match headers.should_retry {
        Some("true") => true,
        Some("false") => false,
        _ => matches!(status, 408 | 409 | 429) || status >= 500,
    }
}

/// A limit of money does not come back by waiting.
fn is_spent(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        error: Option<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(rename = "type")]
        kind: Option<String>,
        code: Option<String>,
        #[serde(default)]
        message: Option<String>,
    }
    let Ok(Body { error: Some(error) }) = serde_json::from_slice(body) else {
        return false;
    };
    let Error { kind, code, message } = error;
    [kind, code, message]
        .iter()
        .flatten()
        .any(|text| text.contains("enforced_spend_limit_reached") || text == "insufficient_quota")
}

/// The pause that the provider asks for.
fn named(headers: Hints<'_>) -> Option<Duration> {
    let number = |text: Option<&str>| text?.trim().parse::<f64>().ok().filter(|number| *number >= 0.0);
    let millis = number(headers.retry_after_ms).map(|millis| millis / 1000.0);
    let seconds = millis.or_else(|| number(headers.retry_after))?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Failure, Hints, Patience, pause};

    fn status(status: u16, headers: Hints<'static>, body: &'static str) -> Failure<'static> {
        Failure::Status {
            status,
            headers,
            body: body.as_bytes(),
        }
    }

    fn first(failure: &Failure<'_>) -> Option<Duration> {
        pause(failure, 1, Patience::default(), 0.0)
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        for code in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert!(first(&status(code, Hints::default(), "{}")).is_some(), "{code}");
        }
        for code in [400, 401, 402, 403, 404, 413, 422] {
            assert_eq!(first(&status(code, Hints::default(), "{}")), None, "{code}");
        }
        assert!(first(&Failure::Away).is_some());
    }

    #[test]
    fn the_provider_has_the_last_word() {
        let hint = |should_retry| Hints {
            should_retry: Some(should_retry),
            ..Hints::default()
        };
        assert_eq!(first(&status(529, hint("false"), "")), None);
        assert!(first(&status(400, hint("true"), "")).is_some());
        let after = |retry_after_ms, retry_after| {
            let hints = Hints {
                retry_after_ms,
                retry_after,
                should_retry: None,
            };
            first(&status(429, hints, ""))
        };
        assert_eq!(after(Some("1500"), Some("7")), Some(Duration::from_millis(1500)));
        assert_eq!(after(None, Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(after(None, Some("0.25")), Some(Duration::from_millis(250)));
        assert_eq!(after(None, Some("61")), None, "the agent hears of a long pause");
        for nonsense in ["soon", "-1", "NaN", "inf", "1e300"] {
            let pause = after(Some(nonsense), None);
            assert!(
                pause.is_none_or(|pause| pause == Duration::from_millis(500)),
                "{nonsense}: {pause:?}"
            );
        }
    }

    #[test]
    fn a_spend_limit_is_never_repeated() {
        for body in [
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"enforced_spend_limit_reached: raise it"}}"#,
            r#"{"error":{"type":"insufficient_quota","code":"insufficient_quota","message":"x"}}"#,
        ] {
            assert_eq!(first(&status(429, Hints::default(), body)), None, "{body}");
        }
    }

    #[test]
    fn pauses_grow_up_to_eight_seconds_and_end() {
        let patience = Patience {
            retries: 8,
            ..Patience::default()
        };
        let nth =
            |tries, chance| pause(&Failure::Away, tries, patience, chance).map(|pause| pause.as_millis());
        let pauses: Vec<_> = (1..=9).map(|tries| nth(tries, 0.0)).collect();
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 8000, 8000, 8000]
                .map(Some)
                .into_iter()
                .chain([None])
                .collect::<Vec<_>>()
        );
        assert_eq!(nth(2, 1.0), Some(750));
    }
}
