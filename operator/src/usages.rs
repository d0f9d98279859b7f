//! What calls of models took, by Workflow, as the gateway said lately.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use stagecraft_api::budget::ModelUsage;
use tokio::time::Instant;

use crate::gateway::Gateway;

/// How long an answer is believed while nothing ends.
const BELIEVED: Duration = Duration::from_secs(20);

/// Answers by UID.
#[derive(Default)]
pub struct Usages(Mutex<HashMap<String, (Instant, Vec<ModelUsage>)>>);

impl Usages {
    /// What a Workflow used; asked for anew where something `ended`. None when the gateway does not say: the next look asks again.
    pub async fn get(&self, gateway: &dyn Gateway, uid: &str, ended: bool) -> Option<Vec<ModelUsage>> {
        let known = self.known(uid);
        if let Some((at, used)) = &known
            && !ended
            && at.elapsed() < BELIEVED
        {
            return Some(used.clone());
        }
        let asked_at = Instant::now();
        match gateway.usage(uid).await {
            Ok(used) => {
                let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                all.insert(uid.to_owned(), (asked_at, used.clone()));
                Some(used)
            }
            Err(error) => {
                tracing::debug!(
                    uid,
                    error = &error as &dyn std::error::Error,
                    "nobody says what models were used for"
                );
                known.map(|(_, used)| used)
            }
        }
    }

    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn known(&self, uid: &str) -> Option<(Instant, Vec<ModelUsage>)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(uid)
            .cloned()
    }
}
