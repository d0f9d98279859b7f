//! Keeps calls from a provider that does not answer well.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use stagecraft_api::provider::BreakerState;

/// When it opens and closes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How far back calls count, in milliseconds.
    pub window: u64,
    /// This many failures open it.
    pub failures: usize,
    /// So does a half of at least this many calls.
    pub calls: usize,
    /// How long it stays open, in milliseconds.
    pub open: u64,
    /// How long a call that finds out holds up the others, in milliseconds.
    pub probe: u64,
    /// This many successes in a row close it again.
    pub successes: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            window: 60_000,
            failures: 5,
            calls: 10,
            open: 60_000,
            probe: 10_000,
            successes: 2,
        }
    }
}

/// The breaker of one provider. Times are milliseconds of one clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breaker {
    state: State,
    /// Calls of the window, oldest first: when they ended, and whether well.
    calls: VecDeque<(u64, bool)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    Closed,
    Open {
        until: u64,
    },
    /// One call at a time finds out. `probe`: until when the current one counts as under way.
    HalfOpen {
        successes: u32,
        probe: Option<u64>,
    },
}

/// Whether a call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    Granted,
    /// It is open: not before this time.
    Denied {
        until: u64,
    },
    /// Another call finds out, until this time at the latest.
    Awaited {
        until: u64,
    },
}

/// Most calls that are remembered.
const CALLS: usize = 1024;

impl Breaker {
    /// Asks for leave to call. Who is granted it reports the outcome.
    pub fn ask(&mut self, now: u64, rules: &Rules) -> Leave {
        if let State::Open { until } = self.state {
            if now < until {
                return Leave::Denied { until };
            }
            self.state = State::HalfOpen {
                successes: 0,
                probe: None,
            };
        }
        match &mut self.state {
            State::HalfOpen {
                probe: Some(until), ..
            } if now < *until => Leave::Awaited { until: *until },
            State::HalfOpen { probe, .. } => {
                // A probe that never reports holds up nobody for longer than this.
                *probe = Some(now + rules.probe);
                Leave::Granted
            }
            State::Closed | State::Open { .. } => Leave::Granted,
        }
    }

    /// The outcome of a call.
    pub fn report(&mut self, now: u64, good: bool, rules: &Rules) {
        match (self.state, good) {
            // It was granted before it opened.
            (State::Open { .. }, _) => {}
            (State::HalfOpen { .. }, false) => self.open(now, rules),
            (State::HalfOpen { successes, .. }, true) => {
                let successes = successes + 1;
                self.state = if successes >= rules.successes {
                    self.calls.clear();
                    State::Closed
                } else {
                    State::HalfOpen {
                        successes,
                        probe: None,
                    }
                };
            }
            (State::Closed, _) => {
                self.calls.push_back((now, good));
                let oldest = now.saturating_sub(rules.window);
                while self.calls.len() > CALLS || self.calls.front().is_some_and(|(at, _)| *at < oldest) {
                    self.calls.pop_front();
                }
                let failures = self.calls.iter().filter(|(_, good)| !good).count();
                let half = self.calls.len() >= rules.calls && failures * 2 >= self.calls.len();
                if !good && (failures >= rules.failures || half) {
                    self.open(now, rules);
                }
            }
        }
    }

    /// A call ended that says nothing: the next may find out.
    pub fn free(&mut self) {
        if let State::HalfOpen { probe, .. } = &mut self.state {
            *probe = None;
        }
    }

    /// Takes over what another gateway knows that could not say so, where it is worse.
    pub fn merge(&mut self, other: &Self) {
        let badness = |breaker: &Self| {
            let failures = breaker.calls.iter().filter(|(_, good)| !good).count();
            match breaker.state {
                State::Open { until } => (2, until, failures),
                State::HalfOpen { .. } => (1, 0, failures),
                State::Closed => (0, 0, failures),
            }
        };
        if badness(other) > badness(self) {
            *self = other.clone();
        }
    }

    /// Its state, as people know it.
    pub fn state(&self, now: u64) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Until when it is open.
    pub fn open_until(&self, now: u64) -> Option<u64> {
        match self.state {
            State::Open { until } if now < until => Some(until),
            _ => None,
        }
    }

    fn open(&mut self, now: u64, rules: &Rules) {
        self.calls.clear();
        self.state = State::Open {
            until: now + rules.open,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Breaker, CALLS, Leave, Rules};

    const RULES: Rules = Rules {
        window: 60_000,
        failures: 5,
        calls: 10,
        open: 60_000,
        probe: 10_000,
        successes: 2,
    };

    fn failed(times: u64) -> Breaker {
        let mut breaker = Breaker::default();
        for at in 0..times {
            assert_eq!(breaker.ask(at, &RULES), Leave::Granted);
            breaker.report(at, false, &RULES);
        }
        breaker
    }

    #[test]
    fn five_failures_in_a_minute_open_it_for_a_minute() {
        let mut breaker = failed(4);
        breaker.report(59_999, false, &RULES);
        assert_eq!(breaker.ask(60_000, &RULES), Leave::Denied { until: 119_999 });
        assert_eq!(breaker.open_until(119_998), Some(119_999));
        assert_eq!(breaker.ask(119_999, &RULES), Leave::Granted);

        let mut slow = failed(4);
        slow.report(60_004, false, &RULES);
        assert_eq!(
            slow.ask(60_005, &RULES),
            Leave::Granted,
            "the first four are too old"
        );
    }

    #[test]
    fn half_of_ten_calls_open_it() {
        let rules = Rules {
            failures: 100,
            ..RULES
        };
        let mut breaker = Breaker::default();
        for at in 0..9 {
            breaker.report(at, at % 2 == 0, &rules);
        }
        assert_eq!(breaker.ask(10, &rules), Leave::Granted);
        breaker.report(11, false, &rules);
        assert_eq!(breaker.ask(12, &rules), Leave::Denied { until: 60_011 });
    }

    #[test]
    fn two_successes_close_it_and_a_failure_opens_it_again() {
        let mut breaker = failed(5);
        let later = 70_000;
        assert_eq!(breaker.ask(later, &RULES), Leave::Granted);
        assert_eq!(
            breaker.ask(later + 1, &RULES),
            Leave::Awaited {
                until: later + 10_000
            },
            "one at a time finds out"
        );
        breaker.free();
        assert_eq!(
            breaker.ask(later + 1, &RULES),
            Leave::Granted,
            "it found out nothing"
        );
        breaker.report(later + 2, true, &RULES);
        assert_eq!(breaker.ask(later + 3, &RULES), Leave::Granted);
        let mut worse = breaker.clone();
        worse.report(later + 4, false, &RULES);
        assert_eq!(
            worse.ask(later + 5, &RULES),
            Leave::Denied {
                until: later + 60_004
            }
        );
        breaker.report(later + 4, true, &RULES);
        for at in 0..4 {
            assert_eq!(breaker.ask(later + 5, &RULES), Leave::Granted);
            breaker.report(later + 5 + at, false, &RULES);
        }
        assert_eq!(
            breaker.ask(later + 10, &RULES),
            Leave::Granted,
            "it forgot what was before"
        );
    }

    #[test]
    fn a_probe_that_never_reports_does_not_hold_it_open() {
        let mut breaker = failed(5);
        assert_eq!(breaker.ask(70_000, &RULES), Leave::Granted);
        assert_eq!(breaker.ask(80_000, &RULES), Leave::Granted);
    }

    proptest! {
        /// Whatever happens, it is bounded, and nobody waits for longer than it stays open.
        #[test]
        fn nobody_waits_for_ever(steps in proptest::collection::vec((0_u64..30_000, any::<bool>(), any::<bool>()), 0..400)) {
            let mut breaker = Breaker::default();
            let mut now = 0;
            for (passed, asks, good) in steps {
                now += passed;
                if asks {
                    if let Leave::Denied { until } | Leave::Awaited { until } = breaker.ask(now, &RULES) {
                        prop_assert!(until > now && until <= now + RULES.open);
                    }
                } else {
                    breaker.report(now, good, &RULES);
                }
                prop_assert!(breaker.calls.len() <= CALLS);
                let text = serde_json::to_string(&breaker).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Breaker>(&text).unwrap(), &breaker);
            }
        }
    }
}
