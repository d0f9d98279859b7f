//! One entry to everything that is read from outside and needs no cluster, for property tests (`operator/core/tests/inputs`) and the
//! fuzz target (`fuzz/`). Whatever is handed in, an error or a value comes out; what breaks a promise panics here, since that is how
//! both notice.

#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a broken promise ends the test that asked"
)]

pub mod clean;
pub mod expressions;
pub mod promise;
pub mod property;
pub mod scene;
pub mod seeds;
pub mod values;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use stagecraft_api::agent::AgentSpec;
use stagecraft_api::approval::{ApprovalSpec, Decision};
use stagecraft_api::budget::{Budgets, ModelUsage};
use stagecraft_api::envelope::TaskEnvelope;
use stagecraft_api::error::{StructuredError, one_line, truncate};
use stagecraft_api::limit;
use stagecraft_api::protocol::{
    BranchEntry, BranchReply, ClaimReply, ClaimRequest, ErrorReply, EventsRequest, HeartbeatReply,
    HeartbeatRequest, MoveBranchRequest, ProviderReport, PushImageReply, PushImageRequest, ResultReply,
    StoredWorkflows, UsageReply,
};
use stagecraft_api::provider::{ModelProviderSpec, ModelProviderStatus};
use stagecraft_api::result::{AgentResult, AttemptResult, Finding};
use stagecraft_api::run::Run;
use stagecraft_api::status::WorkflowStatus;
use stagecraft_api::template::WorkflowTemplateSpec;
use stagecraft_api::workflow::WorkflowSpec;
use stagecraft_api::{Approval, AttemptKey, Digest, ModelProvider, Moment, Workflow, name};

use crate::scene::Scene;

/// Reads the bytes as each thing that comes from outside, and plans with what can be read.
pub fn parse_everything(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    read_text(&text);
    read_documents(bytes);
    if let Ok(scene) = serde_json::from_slice::<Scene>(bytes) {
        scene.play();
    }
    for scene in clean::scenes_with(&text) {
        scene.play();
    }
    clean::expression(&text).play();
}

/// Keys, digests, moments and names.
pub fn read_text(text: &str) {
    if let Some(key) = AttemptKey::parse(text) {
        assert_eq!(AttemptKey::parse(&key.to_string()), Some(key), "{text:?}");
    }
    match text.parse::<Digest>() {
        Ok(digest) => assert_eq!(digest.as_str(), text),
        Err(error) => assert!(error.to_string().len() < 1_024, "{error}"),
    }
    if let Ok(moment) = serde_json::from_value::<Moment>(text.into()) {
        read_moment(moment);
    }
    for attempt in [0, 1, 10_000, u32::MAX] {
        let key = AttemptKey {
            workflow_uid: text.to_owned(),
            stage: text.to_owned(),
            attempt,
        };
        let names = [
            name::job(text, &key),
            name::run(text, text, &Digest::of(text.as_bytes())),
            name::deployer(text, text),
            name::approval(text, text, text),
        ];
        for name in names {
            assert!(name.len() <= 63, "{name}");
        }
    }
    assert!(
        name::trace_id(text)
            .chars()
            .all(|digit| digit.is_ascii_hexdigit())
    );
    for bytes in [3, 15, 63, limit::MESSAGE_BYTES] {
        let json = Value::from(truncate(text, bytes)).to_string();
        assert!(limit::stored_bytes(&json) <= bytes + 2, "{bytes}: {json}");
    }
    assert!(one_line(text).lines().count() <= 1);
}

/// Arithmetic with a time never goes round, and its text is read back.
pub fn read_moment(moment: Moment) {
    let text = moment.to_string();
    let back: Moment =
        serde_json::from_value(text.clone().into()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(moment.millis_since(back) <= 1, "{text}");
    for amount in [0, 1, 86_400_000, u64::MAX / 1_000, u64::MAX] {
        let later = moment.plus_millis(amount);
        assert!(later >= moment && moment.plus_seconds(amount) >= moment, "{text}");
        assert!(later.millis_since(moment) <= amount, "{text}");
    }
}

/// Every type that is read as JSON. What can be read can be written and read once more.
pub fn read_documents(bytes: &[u8]) {
    read::<WorkflowSpec>(bytes);
    read::<WorkflowStatus>(bytes);
    read::<Workflow>(bytes);
    read::<WorkflowTemplateSpec>(bytes);
    read::<AgentSpec>(bytes);
    read::<ModelProviderSpec>(bytes);
    read::<ModelProviderStatus>(bytes);
    read::<ModelProvider>(bytes);
    read::<ProviderReport>(bytes);
    read::<UsageReply>(bytes);
    read::<ModelUsage>(bytes);
    read::<Budgets>(bytes);
    read::<ApprovalSpec>(bytes);
    read::<Approval>(bytes);
    read::<Job>(bytes);
    read::<Pod>(bytes);
    read::<ConfigMap>(bytes);
    read::<Secret>(bytes);
    read::<Decision>(bytes);
    read::<Run>(bytes);
    read::<TaskEnvelope>(bytes);
    read::<AttemptResult>(bytes);
    read::<AgentResult>(bytes);
    read::<Vec<Finding>>(bytes);
    read::<AttemptKey>(bytes);
    read::<ClaimRequest>(bytes);
    read::<ClaimReply>(bytes);
    read::<HeartbeatRequest>(bytes);
    read::<HeartbeatReply>(bytes);
    read::<EventsRequest>(bytes);
    read::<ResultReply>(bytes);
    read::<BranchReply>(bytes);
    read::<BranchEntry>(bytes);
    read::<MoveBranchRequest>(bytes);
    read::<PushImageRequest>(bytes);
    read::<PushImageReply>(bytes);
    read::<StoredWorkflows>(bytes);
    read::<ErrorReply>(bytes);
    if let Some(error) = read::<StructuredError>(bytes) {
        let bounded = error.bounded();
        assert_eq!(bounded.clone().bounded(), bounded);
    }
}

/// A document, when the bytes are one.
pub fn read<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Option<T> {
    let document: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_string(&document).expect("what was read can be written");
    if let Err(error) = serde_json::from_str::<T>(&text) {
        let shown = truncate(&text, 2_000);
        panic!("{}: {error}: {shown}", std::any::type_name::<T>());
    }
    Some(document)
}
