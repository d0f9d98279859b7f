//! Jobs that the API server refused to create, with its answer: nothing else tells why an attempt has no Job.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use stagecraft_api::AttemptKey;

/// Answers by attempt, until the attempt is accounted for.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<AttemptKey, String>>);

impl Refusals {
    /// Takes note when the answer is definite: the Job does not exist and will not.
    pub fn note(&self, key: &AttemptKey, error: &kube::Error) {
        let kube::Error::Api(answer) = error else { return };
        let definite = (400..500).contains(&answer.code) && !matches!(answer.code, 408 | 409 | 429);
        if definite {
            self.insert(key, answer.message.clone());
        }
    }

    /// Takes note of a reason for which the Job was never asked for, and will not be.
    pub fn insert(&self, key: &AttemptKey, reason: String) {
        self.lock().insert(key.clone(), reason);
    }

    pub fn get(&self, key: &AttemptKey) -> Option<String> {
        self.lock().get(key).cloned()
    }

    pub fn forget(&self, key: &AttemptKey) {
        self.lock().remove(key);
    }

    /// Forgets a deleted Workflow.
    pub fn forget_workflow(&self, uid: &str) {
        self.lock().retain(|key, _| key.workflow_uid != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<AttemptKey, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16) -> kube::Error {
        let mut status = kube::core::Status::failure("exceeded quota", "Forbidden");
        status.code = code;
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn only_a_definite_answer_is_a_refusal() {
        let key = AttemptKey {
            workflow_uid: "uid".into(),
            stage: "scaffold".into(),
            attempt: 1,
        };
        for (code, definite) in [
            (403, true),
            (422, true),
            (404, true),
            (409, false),
            (429, false),
            (500, false),
        ] {
            let refusals = Refusals::default();
            refusals.note(&key, &answer(code));
            assert_eq!(refusals.get(&key).is_some(), definite, "{code}");
        }
    }
}
