//! How a provider does, how much is sent to it, and what it was used for in the last hour: a value that all gateways share. [`super::shared`] keeps it.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use stagecraft_api::budget::Amount;
use stagecraft_api::provider::{BreakerState, ProviderLimits};

use super::breaker::{Breaker, Leave, Rules};

/// A minute, in milliseconds.
const MINUTE: u64 = 60_000;
/// Minutes of which the use is kept.
const MINUTES: u64 = 60;

/// The state of one provider. Times are milliseconds since 1970.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    breaker: Breaker,
    #[serde(default)]
    requests: Bucket,
    #[serde(default)]
    tokens: Bucket,
    /// What was used, by minute, the latest last.
    #[serde(default)]
    use_by_minute: VecDeque<(u64, Amount)>,
}

/// What keeps a call waiting, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The provider failed too often.
    Open { until: u64 },
    /// Another call finds out whether it does better.
    Probe { until: u64 },
    /// The limit of requests a minute is reached.
    Requests { until: u64 },
    /// The limit of tokens a minute is reached.
    Tokens { until: u64 },
}

impl Health {
    /// Asks for leave to make a call that takes about so many tokens.
    pub fn ask(&mut self, now: u64, rules: &Rules, limits: &ProviderLimits, tokens: u64) -> Result<(), Wait> {
        let (requests, spent) = (limits.requests_per_minute, limits.tokens_per_minute);
        let request = self.requests.fits(now, 1, requests);
        request.map_err(|until| Wait::Requests { until })?;
        let fits = self.tokens.fits(now, tokens, spent);
        fits.map_err(|until| Wait::Tokens { until })?;
        // Last: who is granted this reports.
        match self.breaker.ask(now, rules) {
            Leave::Granted => {}
            Leave::Denied { until } => return Err(Wait::Open { until }),
            Leave::Awaited { until } => return Err(Wait::Probe { until }),
        }
        self.requests.take(now, 1, requests);
        self.tokens.take(now, tokens, spent);
        Ok(())
    }

    /// The outcome of a try; none when it says nothing. False when the provider is left alone now.
    pub fn report(&mut self, now: u64, good: Option<bool>, rules: &Rules) -> bool {
        match good {
            Some(good) => self.breaker.report(now, good, rules),
            None => self.breaker.free(),
        }
        self.breaker.open_until(now).is_none()
    }

    /// A call that was let through for `expected` tokens took this.
    pub fn settle(&mut self, now: u64, expected: u64, used: Amount, limits: &ProviderLimits) {
        self.tokens
            .correct(expected, used.tokens.total(), limits.tokens_per_minute);
        let minute = now / MINUTE;
        self.forget(minute);
        match self.use_by_minute.back_mut() {
            Some((at, amount)) if *at == minute => *amount = amount.plus(used),
            _ => self.use_by_minute.push_back((minute, used)),
        }
    }

    /// What was used in the last hour.
    pub fn last_hour(&self, now: u64) -> Amount {
        let oldest = (now / MINUTE).saturating_sub(MINUTES);
        let recent = self.use_by_minute.iter().filter(|(minute, _)| *minute > oldest);
        recent.fold(Amount::default(), |sum, (_, amount)| sum.plus(*amount))
    }

    pub fn breaker(&self, now: u64) -> BreakerState {
        self.breaker.state(now)
    }

    /// Until when the provider is left alone.
    pub fn open_until(&self, now: u64) -> Option<u64> {
        self.breaker.open_until(now)
    }

    /// Takes over what another gateway knows that could not say so. Nothing counts twice.
    pub fn merge(&mut self, other: &Self) {
        self.breaker.merge(&other.breaker);
        for (own, other) in [
            (&mut self.requests, other.requests),
            (&mut self.tokens, other.tokens),
        ] {
            own.full_at = own.full_at.max(other.full_at);
        }
        let mut minutes: BTreeMap<u64, Amount> = self.use_by_minute.drain(..).collect();
        for (minute, amount) in &other.use_by_minute {
            let own = minutes.entry(*minute).or_default();
            if amount.calls > own.calls {
                *own = *amount;
            }
        }
        let surplus = minutes
            .len()
            .saturating_sub(usize::try_from(MINUTES).unwrap_or(0));
        self.use_by_minute = minutes.into_iter().skip(surplus).collect();
    }

    fn forget(&mut self, minute: u64) {
        while self
            .use_by_minute
            .front()
            .is_some_and(|(at, _)| at + MINUTES <= minute)
        {
            self.use_by_minute.pop_front();
        }
    }
}

/// So much a minute, evenly, with a minute's worth at once at the most (the generic cell rate algorithm).
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    /// When it is full again, in microseconds since 1970: finer than its limits, of which there may be a thousand million a minute.
    full_at: u64,
}

impl Bucket {
    /// Whether so much may be taken now, or when again. What is more than a minute's worth is let through when the bucket is full.
    fn fits(self, now: u64, amount: u64, limit: Option<u32>) -> Result<(), u64> {
        let Some(limit) = limit else { return Ok(()) };
        let minute = MINUTE * 1000;
        let cost = reckoned(amount, limit);
        let at = self.full_at.max(now * 1000) + cost;
        match at.checked_sub(now * 1000 + minute) {
            None | Some(0) => Ok(()),
            Some(early) => Err(now + early.div_ceil(1000)),
        }
    }

    fn take(&mut self, now: u64, amount: u64, limit: Option<u32>) {
        if let Some(limit) = limit {
            self.full_at = self
                .full_at
                .max(now * 1000)
                .saturating_add(reckoned(amount, limit));
        }
    }

    /// Less or more was taken than was thought.
    fn correct(&mut self, expected: u64, used: u64, limit: Option<u32>) {
        if let Some(limit) = limit {
            let (expected, used) = (reckoned(expected, limit), cost(used, limit));
            self.full_at = self.full_at.saturating_add(used).saturating_sub(expected);
        }
    }
}

/// The same of what may be less than was asked for: a minute at the most, until it is known.
fn reckoned(amount: u64, limit: u32) -> u64 {
    cost(amount, limit).min(MINUTE * 1000)
}

/// How long so much takes at an even rate, in microseconds. At most a day.
fn cost(amount: u64, limit: u32) -> u64 {
    let micros = u128::from(amount) * u128::from(MINUTE) * 1000 / u128::from(limit.max(1));
    u64::try_from(micros).unwrap_or(u64::MAX).min(86_400_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stagecraft_api::budget::{Amount, Tokens};
    use stagecraft_api::provider::ProviderLimits;

    use super::{Health, Rules, Wait};

    const NOW: u64 = 1_780_000_000_000;

    fn limits(requests: Option<u32>, tokens: Option<u32>) -> ProviderLimits {
        ProviderLimits {
            requests_per_minute: requests,
            tokens_per_minute: tokens,
        }
    }

    fn used(tokens: u64) -> Amount {
        Amount {
            calls: 1,
            tokens: Tokens {
                output: tokens,
                ..Tokens::default()
            },
            cost: 0,
        }
    }

    #[test]
    fn a_minutes_worth_of_requests_goes_at_once_and_then_evenly() {
        let (mut health, rules, limits) = (Health::default(), Rules::default(), limits(Some(6), None));
        for _ in 0..6 {
            health.ask(NOW, &rules, &limits, 0).unwrap();
        }
        let until = NOW + 10_000;
        assert_eq!(health.ask(NOW, &rules, &limits, 0), Err(Wait::Requests { until }));
        assert_eq!(
            health.ask(until - 1, &rules, &limits, 0),
            Err(Wait::Requests { until })
        );
        assert_eq!(health.ask(until, &rules, &limits, 0), Ok(()));
    }

    #[test]
    fn tokens_are_reckoned_beforehand_and_corrected_afterwards() {
        let (mut health, rules, limits) = (Health::default(), Rules::default(), limits(None, Some(1000)));
        health.ask(NOW, &rules, &limits, 900).unwrap();
        assert!(matches!(
            health.ask(NOW, &rules, &limits, 200),
            Err(Wait::Tokens { .. })
        ));
        health.settle(NOW, 900, used(100), &limits);
        health.ask(NOW, &rules, &limits, 200).unwrap();
        // More than there ever is goes when nothing else does.
        let until = NOW + 18_000;
        assert_eq!(
            health.ask(NOW, &rules, &limits, 5000),
            Err(Wait::Tokens { until })
        );
        assert_eq!(health.ask(until, &rules, &limits, 5000), Ok(()));
        assert!(health.ask(until + 59_000, &rules, &limits, 1000).is_err());
        assert_eq!(health.ask(until + 60_000, &rules, &limits, 1), Ok(()));
        health.settle(until, 5000, used(5000), &limits);
        assert!(
            health.ask(until + 120_000, &rules, &limits, 1).is_err(),
            "what was really taken counts"
        );
    }

    #[test]
    fn the_use_of_an_hour_is_kept() {
        let mut health = Health::default();
        for minute in 0..100 {
            health.settle(NOW + minute * 60_000, 0, used(1), &limits(None, None));
        }
        let last = NOW + 99 * 60_000;
        assert_eq!(health.last_hour(last).calls, 60);
        assert_eq!(health.last_hour(last + 59 * 60_000).calls, 1);
        assert_eq!(health.last_hour(last + 60 * 60_000).calls, 0);
        assert!(health.use_by_minute.len() <= 60);
    }

    #[test]
    fn what_a_gateway_noted_alone_is_taken_over_once() {
        let (rules, none) = (Rules::default(), limits(Some(60), None));
        let mut stored = Health::default();
        stored.settle(NOW, 0, used(1), &none);
        let mut alone = stored.clone();
        alone.settle(NOW, 0, used(1), &none);
        alone.settle(NOW + 60_000, 0, used(1), &none);
        alone.ask(NOW, &rules, &none, 0).unwrap();
        for _ in 0..5 {
            alone.report(NOW, Some(false), &rules);
        }
        for _ in 0..2 {
            stored.merge(&alone);
            assert_eq!(stored, alone);
        }
        alone.merge(&Health::default());
        assert_eq!(stored, alone);
    }

    #[test]
    fn a_provider_that_fails_is_left_alone_whatever_its_limits() {
        let (mut health, rules) = (Health::default(), Rules::default());
        for _ in 0..5 {
            health.ask(NOW, &rules, &limits(None, None), 0).unwrap();
            health.report(NOW, Some(false), &rules);
        }
        assert_eq!(health.open_until(NOW), Some(NOW + 60_000));
        let refused = health.ask(NOW, &rules, &limits(Some(1), None), 0);
        assert_eq!(refused, Err(Wait::Open { until: NOW + 60_000 }));
    }

    proptest! {
        /// Whatever is asked, no more than two minutes' worth goes within a minute, and who waits gets through at the time that was named.
        #[test]
        fn a_limit_holds(limit in 1_u32..100, gaps in proptest::collection::vec(0_u64..5_000, 1..300)) {
            let (mut health, rules, limits) = (Health::default(), Rules::default(), limits(Some(limit), None));
            let mut now = NOW;
            let mut granted = Vec::new();
            for gap in gaps {
                now += gap;
                match health.ask(now, &rules, &limits, 0) {
                    Ok(()) => granted.push(now),
                    Err(Wait::Requests { until }) => {
                        prop_assert!(until > now && until <= now + 60_000);
                        prop_assert_eq!(health.clone().ask(until, &rules, &limits, 0), Ok(()));
                    }
                    Err(other) => prop_assert!(false, "{other:?}"),
                }
                let recent = granted.iter().filter(|at| **at + 60_000 > now).count();
                prop_assert!(recent <= 2 * limit as usize, "{recent} of {limit}");
            }
        }
    }
}
