//! Ledgers of what models were used for, each a log of its states of which the highest number counts:
//!
//! ```text
//! workflows/UID/ledger/NUMBER.json           of one Workflow
//! days/NAMESPACE/YYYY-MM-DD/NUMBER.json      of one namespace on one day, in UTC
//! ```
//!
//! Creating NUMBER is the compare-and-swap, as with branches. A state that was overtaken is deleted once it is older than anybody's copy of
//! the one before it may be: until then it keeps its number from being created again.

use std::time::Duration;

use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use stagecraft_api::Moment;

use super::{Store, StoreError, absent_as_none, encode, workflow};

/// Where a ledger is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LedgerPlace {
    Workflow {
        uid: String,
    },
    /// `day` as YYYY-MM-DD.
    Day {
        namespace: String,
        day: String,
    },
}

impl LedgerPlace {
    fn path(&self) -> Path {
        match self {
            Self::Workflow { uid } => workflow(uid).join("ledger"),
            Self::Day { namespace, day } => Path::from_iter(["days", namespace, day]),
        }
    }
}

/// How long a copy of a state may be built upon.
pub const FRESH: Duration = Duration::from_secs(20);
/// How long a state stays after it was overtaken: longer than a copy is fresh and its write may take.
const KEPT: Duration = Duration::from_mins(2);
/// How often a ledger is read again when it moves on while it is read.
const TRIES: usize = 10;

impl Store {
    /// The latest state and its number; none when nothing was ever written.
    pub async fn ledger<T: DeserializeOwned>(
        &self,
        place: &LedgerPlace,
    ) -> Result<Option<(u64, T)>, StoreError> {
        let path = place.path();
        for _ in 0..TRIES {
            let Some(number) = self.numbers(&path).await?.into_iter().max() else {
                return Ok(None);
            };
            if let Some(state) = self.read(&entry(&path, number)).await? {
                return Ok(Some((number, state)));
            }
        }
        Ok(None)
    }

    /// Writes the state that follows upon `number`. False when another one was quicker.
    pub async fn write_ledger(
        &self,
        place: &LedgerPlace,
        number: u64,
        state: &impl Serialize,
    ) -> Result<bool, StoreError> {
        let path = place.path();
        self.create(&entry(&path, number + 1), &encode(state)?).await
    }

    /// Deletes the states before `number` that nobody builds upon any more.
    pub async fn trim_ledger(&self, place: &LedgerPlace, number: u64) -> Result<(), StoreError> {
        let listed = absent_as_none(self.objects.list_with_delimiter(Some(&place.path())).await)?;
        let kept = Moment::now().timestamp() - KEPT;
        for meta in listed.map(|listed| listed.objects).unwrap_or_default() {
            let is_before = super::number(&meta).is_some_and(|found| found < number);
            if is_before && meta.last_modified.timestamp_millis() < kept.as_millisecond() {
                absent_as_none(self.objects.delete(&meta.location).await)?;
            }
        }
        Ok(())
    }

    /// Deletes the ledgers of days before `day`.
    pub async fn trim_days(&self, namespace: &str, day: &str) -> Result<(), StoreError> {
        let path = Path::from_iter(["days", namespace]);
        let listed = absent_as_none(self.objects.list_with_delimiter(Some(&path)).await)?;
        let days = listed.map(|listed| listed.common_prefixes).unwrap_or_default();
        for old in days
            .iter()
            .filter(|path| path.filename().is_some_and(|found| found < day))
        {
            let objects = absent_as_none(self.objects.list_with_delimiter(Some(old)).await)?;
            for meta in objects.map(|listed| listed.objects).unwrap_or_default() {
                absent_as_none(self.objects.delete(&meta.location).await)?;
            }
        }
        Ok(())
    }
}

fn entry(path: &Path, number: u64) -> Path {
    path.clone().join(format!("{number}.json"))
}
