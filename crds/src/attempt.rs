use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names one attempt at one stage of one Workflow, for ever: an attempt number is never used again, also across runs
/// and repairs. Outside effects carry it, results are stored under it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptKey {
    /// UID of the Workflow.
    pub workflow_uid: String,
    /// Name of the stage in the run.
    pub stage: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
}

impl AttemptKey {
    /// Reads the text form. UIDs and stage names hold no slash.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (uid, stage, attempt) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
        let whole = parts.next().is_none() && !uid.is_empty() && !stage.is_empty();
        whole.then(|| Self {
            workflow_uid: uid.to_owned(),
            stage: stage.to_owned(),
            attempt,
        })
    }
}

impl fmt::Display for AttemptKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.workflow_uid, self.stage, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::AttemptKey;

    #[test]
    fn the_text_form_is_read_back() {
        let key = AttemptKey {
            workflow_uid: "uid".into(),
            stage: "scaffold".into(),
            attempt: 7,
        };
        assert_eq!(AttemptKey::parse(&key.to_string()), Some(key));
        for text in [
            "",
            "uid/scaffold",
            "uid/scaffold/x",
            "uid/scaffold/1/2",
            "/scaffold/1",
        ] {
            assert_eq!(AttemptKey::parse(text), None, "{text}");
        }
    }
}
