//! How attempts end: by what the gateway keeps of them, by their owner's will, or because nothing can come of them any more.

use serde_json::Value;
use stagecraft_api::AttemptKey;
use stagecraft_api::failure::{GATE_FAILED, POD_TERMINATED};
use stagecraft_api::result::{AttemptResult, Outcome};

use crate::cluster::AGENT_ERROR;
use crate::journal::{Journal, Reply};

/// What comes of a result alone.
const BY_RESULT: [&str; 2] = [AGENT_ERROR, GATE_FAILED];

/// Whether only the cluster, or what runs on it, can have ended an attempt so.
pub fn is_loss(code: &str) -> bool {
    !BY_RESULT.contains(&code)
}

/// I4, I6: a stage that succeeded says what the gateway had taken of that attempt before, and nothing else.
pub fn succeeded(journal: &Journal, key: &AttemptKey, outputs: &Value, revision: u64) -> Result<(), String> {
    let sent = journal.writer(revision).map_or(0, |writer| writer.sent);
    match journal.result(key) {
        Some((step, result)) if step < sent => match result.outcome {
            Outcome::Succeeded { outputs: stored, .. } if *outputs == Value::Object(stored.clone()) => Ok(()),
            outcome => Err(format!(
                "I6: {key} succeeded with {outputs}, but {outcome:?} is stored"
            )),
        },
        Some(_) => Err(format!("I4: {key} succeeded before its result was stored")),
        None => Err(format!("I4: {key} succeeded without a result")),
    }
}

/// I4, I6: an attempt fails by its stored result; or the gateway, asked before, had none.
pub fn failed(journal: &Journal, key: &AttemptKey, code: &str, revision: u64) -> Result<(), String> {
    let Some(writer) = journal.writer(revision) else {
        return Err(format!("I3: {key} was ended by nobody: {code}"));
    };
    let result = journal.result(key);
    let known = result.filter(|(step, _)| *step < writer.sent);
    if known.is_some_and(|(_, result)| explains(&result, code)) {
        return Ok(());
    }
    if BY_RESULT.contains(&code) {
        return Err(format!(
            "I6: {key} failed by {code}, which its result does not say"
        ));
    }
    match journal.knew(&writer, key) {
        Some((_, Reply::None)) => Ok(()),
        Some((_, Reply::Found)) => Err(format!("I4: {key} ended by {code} though its result was found")),
        Some((_, Reply::Unavailable)) => Err(format!(
            "I4: {key} ended by {code} though the gateway did not say that there is no result"
        )),
        None => Err(format!(
            "I4: {key} ended by {code} and the gateway was never asked"
        )),
    }
}

/// Whether a result leads to an error of this code. A runner that was told to end knows no more than that.
fn explains(result: &AttemptResult, code: &str) -> bool {
    match &result.outcome {
        Outcome::Succeeded { .. } => code == GATE_FAILED,
        Outcome::Failed { error } => error.code == code || error.code == POD_TERMINATED,
    }
}
