use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A point in time, in UTC, written as RFC 3339 with milliseconds: stage times shorter than a second are common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(transparent)]
pub struct Moment(Timestamp);

impl Moment {
    /// The given time, cut to the millisecond that its text form keeps.
    pub fn new(timestamp: Timestamp) -> Self {
        Self(Timestamp::from_millisecond(timestamp.as_millisecond()).unwrap_or(timestamp))
    }

    /// So many milliseconds after the beginning of 1970; none past the year 9999.
    pub fn from_millis(millis: u64) -> Option<Self> {
        let timestamp = Timestamp::from_millisecond(i64::try_from(millis).ok()?);
        timestamp.ok().map(Self)
    }

    /// Reads the system clock. Only the outer shell calls this; the planner is handed the time.
    pub fn now() -> Self {
        Self::new(Timestamp::now())
    }

    pub fn timestamp(self) -> Timestamp {
        self.0
    }

    /// Milliseconds from `earlier` to `self`, zero when `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        u64::try_from(self.0.as_millisecond() - earlier.0.as_millisecond()).unwrap_or(0)
    }

    /// This time plus a number of milliseconds; the end of time when that overflows.
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Self {
        let span = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
        Self(self.0.checked_add(span).unwrap_or(Timestamp::MAX))
    }

    /// This time plus a number of seconds.
    #[must_use]
    pub fn plus_seconds(self, seconds: u64) -> Self {
        self.plus_millis(seconds.saturating_mul(1000))
    }
}

impl std::fmt::Display for Moment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:.3}", self.0)
    }
}

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Moment;

    #[test]
    fn text_keeps_milliseconds() {
        let moment: Moment = serde_json::from_str("\"2026-11-01T10:00:00.250999Z\"").unwrap();
        let moment = Moment::new(moment.timestamp());
        assert_eq!(
            serde_json::to_string(&moment).unwrap(),
            "\"2026-11-01T10:00:00.250Z\""
        );
        let back: Moment = serde_json::from_str("\"2026-11-01T10:00:00.250Z\"").unwrap();
        assert_eq!(back, moment);
    }

    #[test]
    fn differences_never_go_below_zero() {
        let early = Moment::new("2026-11-01T10:00:00Z".parse().unwrap());
        let late = early.plus_seconds(2);
        assert_eq!(late.millis_since(early), 2000);
        assert_eq!(early.millis_since(late), 0);
    }
}
