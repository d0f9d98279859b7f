use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::moment::Moment;

/// One question to a person about one stage of a Workflow, bound to what it is about. The operator makes it when the stage is ready;
/// whoever may patch it sets `spec.decision`, once; nothing else of it can be changed.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "stagecraft.dev",
    version = "v1alpha1",
    kind = "Approval",
    plural = "approvals",
    shortname = "sap",
    category = "stagecraft",
    namespaced,
    derive = "PartialEq",
    doc = "One question to a person about one stage of a Workflow, bound to what it is about. The operator makes it when the stage is ready; whoever may patch it sets spec.decision, once.",
    printcolumn(name = "Workflow", type_ = "string", json_path = ".spec.workflow"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".spec.stage"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.kind"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision.verdict"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.decision.by"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(name = "Question", type_ = "string", json_path = ".spec.question"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.workflow == oldSelf.workflow && self.workflowUid == oldSelf.workflowUid && self.stage == oldSelf.stage && self.run == oldSelf.run && self.round == oldSelf.round && self.kind == oldSelf.kind && self.question == oldSelf.question && self.choices == oldSelf.choices && self.subject == oldSelf.subject && self.selfApproval == oldSelf.selfApproval && self.requestedBy == oldSelf.requestedBy && self.expiresAt == oldSelf.expiresAt")
        .message("only spec.decision of an Approval can be set"),
    validation = Rule::new("!has(oldSelf.decision) || (has(self.decision) && self.decision == oldSelf.decision)")
        .message("it is decided already, and a decision is not changed"),
    validation = Rule::new("!has(self.decision) || self.decision.verdict == 'rejected' || self.kind in ['approval', 'text'] || self.decision.answer in self.choices")
        .message("spec.decision.answer must be one of spec.choices"),
    validation = Rule::new("!has(self.decision) || self.decision.verdict == 'rejected' || self.kind != 'text' || self.decision.answer != ''")
        .message("spec.decision.answer is what was asked for: set it"),
)]
pub struct ApprovalSpec {
    /// Name of the Workflow. At most 63 characters.
    #[schemars(length(max = 63))]
    pub workflow: String,
    /// Its UID. At most 63 characters.
    #[schemars(length(max = 63))]
    pub workflow_uid: String,
    /// The stage that waits. At most 63 characters.
    #[schemars(length(max = 63))]
    pub stage: String,
    /// Run of the Workflow, from 1.
    pub run: u32,
    /// Round of repair, from 0.
    pub round: u32,
    /// What kind of answer is wanted.
    pub kind: ApprovalKind,
    /// The question. At most 1024 characters.
    #[schemars(length(max = 1024))]
    pub question: String,
    /// The answers to choose from. At most 16 of 200 characters.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(max = 200)))]
    pub choices: Vec<String>,
    /// What it is about.
    pub subject: Subject,
    /// Whether whoever asked for the Workflow may decide.
    #[serde(default)]
    pub self_approval: SelfApproval,
    /// Who asked for the Workflow, as the API server knows them; empty when that is not known. At most 253 characters.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub requested_by: String,
    /// When it is too late to decide.
    pub expires_at: Moment,
    /// The decision. Absent until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
}

/// What an Approval is about.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Digest of the commit, the inputs and the payload that the stage would begin with. Another digest asks anew.
    pub digest: Digest,
    /// The commit. 40 hexadecimal digits; empty where there is none.
    #[serde(default)]
    #[schemars(length(max = 40))]
    pub commit: String,
    /// What the commit changes of what the Workflow began with: a line with the totals, then a line for each file, those with the most
    /// lines first. Empty where there is no commit. At most 1024 bytes.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub diff: String,
    /// What the stages before made and found, a line for each. At most 4096 bytes.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub summary: String,
    /// What the stage would do: its agent and its payload as JSON. At most 2048 bytes.
    #[serde(default)]
    #[schemars(length(max = 2048))]
    pub plan: String,
    /// Processor time of the stages before, in milliseconds.
    #[serde(default)]
    pub cpu_millis: u64,
    /// What calls of models cost so far, as `status.cost`: "0.0426". Empty where no model was called. At most
    /// 31 characters.
    #[serde(default)]
    #[schemars(length(max = 31))]
    pub cost: String,
}

/// What kind of answer is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ApprovalKind {
    /// Whether the stage may start.
    #[default]
    Approval,
    /// A text.
    Text,
    /// One of several texts.
    Choice,
    /// Yes or no.
    YesNo,
}

/// Whether whoever asked for a Workflow may decide about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SelfApproval {
    /// Everybody whom RBAC lets patch the Approval decides.
    #[default]
    Allowed,
    /// Everybody else does; the Workflow has to say in `spec.requestedBy` who asked for it.
    Forbidden,
}

/// What a person decided.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Whether it may go on.
    pub verdict: Verdict,
    /// Who decides: the name of the user who sends the patch, as `kubectl auth whoami` says it. At most 253 characters.
    #[schemars(length(min = 1, max = 253))]
    pub by: String,
    /// Why. Default: empty. At most 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub comment: String,
    /// The answer to a question. Default: empty. At most 1024 characters.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub answer: String,
}

/// Whether it may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It may; a question is answered.
    Approved,
    /// It may not.
    Rejected,
}

/// That a stage waits for a person.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageApproval {
    /// What kind of answer is wanted. Expressions of the stage's payload read it as `approval.answer`, with `by` and `comment`.
    /// Default: approval.
    #[serde(default)]
    pub kind: ApprovalKind,

    /// The question. At most 1024 characters.
    #[schemars(length(min = 1, max = 1024))]
    pub question: String,

    /// The answers to choose from, for the kind choice. At most 16 of 200 characters.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 200)))]
    pub choices: Vec<String>,

    /// How long there is time to decide, in seconds, from 1 to 2592000 (30 days). Default: 604800 (7 days).
    #[serde(default = "a_week")]
    #[schemars(range(min = 1, max = 2_592_000))]
    pub expires_seconds: u32,

    /// Whether whoever asked for the Workflow may decide. Default: allowed.
    #[serde(default)]
    pub self_approval: SelfApproval,

    /// A stage that the work goes back to when it is rejected, with the comment; one that is needed, directly or not. Default: the
    /// stage has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub back_to: Option<String>,
}

fn a_week() -> u32 {
    604_800
}
