//! Stages that wait for a person.

use serde_json::{Value, json};
use stagecraft_api::approval::{ApprovalKind, ApprovalSpec, Decision, StageApproval, Subject, Verdict};
use stagecraft_api::condition::Reason;
use stagecraft_api::error::{Category, StructuredError, one_line, truncate};
use stagecraft_api::moment::Moment;
use stagecraft_api::run::{INITIALIZE, RunStage};
use stagecraft_api::status::{Changes, StagePhase, StageStatus, WorkspaceRef};
use stagecraft_api::template::Repair;
use stagecraft_api::{Digest, limit, name};

use crate::advance::Draft;
use crate::envelope::{inputs, workspace};
use crate::expression::scope;
use crate::observation::Observation;
use crate::plan::Action;
use crate::reference::resolve;
use crate::summary::counted;

/// How often the work may go back because a person said so.
const ROUNDS: u32 = 10;

/// What is known of an Approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalEvidence {
    pub expires_at: Moment,
    pub decision: Option<Decision>,
    /// When the API server took the decision, as it keeps that itself; none where it does not say.
    pub decided_at: Option<Moment>,
}

impl ApprovalEvidence {
    /// The decision, unless it was made too late.
    fn in_time(&self) -> Option<&Decision> {
        let is_late = self.decided_at.is_some_and(|at| self.expires_at < at);
        self.decision.as_ref().filter(|_| !is_late)
    }
}

/// What a ready stage may do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    Start,
    Wait,
}

impl Draft<'_> {
    /// Asks a person when the stage wants that, and heeds what was decided.
    pub(crate) fn ask_leave(&mut self, stage: &RunStage) -> Leave {
        let Some(wanted) = &stage.approval else {
            return Leave::Start;
        };
        let now = self.observation.now;
        let request = self.request(stage, wanted);
        let name = approval_name(&request);
        let Some(known) = self.observation.approvals.get(&name).cloned() else {
            self.await_decision(&stage.name, &name, request.expires_at);
            self.asks.push(Action::Ask {
                name,
                request: Box::new(request),
            });
            return Leave::Wait;
        };
        let expires_at = known.expires_at;
        if let Some(decision) = known.in_time() {
            return self.heed(stage, wanted, &request, &name, decision);
        }
        if expires_at <= now {
            let late = known.decision.as_ref().map(|decision| {
                let by = &decision.by;
                format!("; {by} decided too late, which counts for nothing")
            });
            let message = format!(
                "nobody decided Approval {name} until {expires_at}{}",
                late.unwrap_or_default()
            );
            let error = StructuredError::new("ApprovalExpired", Category::Timeout, message)
                .suggest("go on with spec.retry from this stage: it asks once more")
                .fatal();
            self.refuse(&stage.name, error);
            return Leave::Wait;
        }
        self.await_decision(&stage.name, &name, expires_at);
        self.plan.wake(expires_at);
        Leave::Wait
    }

    /// The answer of the person, for the payload of a stage that may start.
    pub(crate) fn answer(&self, stage: &RunStage) -> Value {
        let decision = stage.approval.as_ref().and_then(|wanted| {
            let name = approval_name(&self.request(stage, wanted));
            self.observation.approvals.get(&name)?.decision.clone()
        });
        match decision {
            Some(decision) => {
                json!({"by": decision.by, "comment": decision.comment, "answer": decision.answer})
            }
            None => undecided(),
        }
    }

    fn heed(
        &mut self,
        stage: &RunStage,
        wanted: &StageApproval,
        request: &ApprovalSpec,
        name: &str,
        decision: &Decision,
    ) -> Leave {
        if decision.verdict == Verdict::Approved {
            return Leave::Start;
        }
        let because = if decision.comment.is_empty() {
            "without a comment".to_owned()
        } else {
            one_line(&decision.comment)
        };
        let error = StructuredError::new(
            "Rejected",
            Category::Validation,
            format!("{} rejected it: {because} (Approval {name})", decision.by),
        )
        .suggest("go on with spec.retry from an earlier stage, or create another Workflow")
        .fatal();
        let back_to = wanted.back_to.clone().map(|stage| Repair {
            stage,
            max_rounds: ROUNDS,
        });
        let sent_back =
            back_to.map(|repair| self.send_back(stage, &repair, &error, request.subject.digest.clone()));
        if sent_back != Some(Ok(())) {
            self.refuse(&stage.name, error);
        }
        Leave::Wait
    }

    fn await_decision(&mut self, name: &str, approval: &str, until: Moment) {
        self.reasons.insert(name.to_owned(), Reason::AwaitingApproval);
        if let Some(stage) = self.stage_mut(name) {
            // A commit that was sent back has its reason said; the latest wait counts.
            stage.message =
                format!("ready; waits until {until} for a decision: kubectl get approval {approval} -o yaml");
        }
    }

    /// Who will do what with what: the payload as the agent will get it, but for what the decision itself puts in, and the artifacts.
    fn what_will_be_done(&self, stage: &RunStage) -> Value {
        let mut scope = scope(&self.observation.identity, self.run, stage, &self.status);
        if let Some(scope) = scope.as_object_mut() {
            scope.insert("approval".to_owned(), undecided());
        }
        // What cannot be resolved is told when the stage starts.
        let payload = resolve(&stage.payload, &scope).unwrap_or_else(|_| stage.payload.clone());
        let mut plan = json!({"agent": stage.agent.name, "payload": payload});
        let inputs = inputs(stage, &self.status.stages).0;
        let inputs = inputs
            .iter()
            .map(|input| format!("{}/{}@{}", input.stage, input.name, input.digest));
        let inputs: Vec<String> = inputs.collect();
        if let Some(plan) = plan.as_object_mut().filter(|_| !inputs.is_empty()) {
            plan.insert("inputs".to_owned(), json!(inputs));
        }
        plan
    }

    fn request(&self, stage: &RunStage, wanted: &StageApproval) -> ApprovalSpec {
        let Observation { identity, spec, .. } = self.observation;
        let status = self.status.stages.iter().find(|status| status.name == stage.name);
        let asked_at = self.ready_since(stage);
        let workspace = workspace(stage, self.run, &self.status.stages);
        let diff = workspace.as_ref().map(diff).unwrap_or_default();
        let commit = workspace.map(|workspace| workspace.commit);
        let plan = self.what_will_be_done(stage);
        let subject = json!([commit, plan]);
        let choices = match wanted.kind {
            ApprovalKind::YesNo => vec!["yes".to_owned(), "no".to_owned()],
            ApprovalKind::Approval | ApprovalKind::Text | ApprovalKind::Choice => wanted.choices.clone(),
        };
        ApprovalSpec {
            workflow: identity.name.clone(),
            workflow_uid: identity.uid.clone(),
            stage: stage.name.clone(),
            run: self.status.run,
            round: status.map_or(0, |status| status.round),
            kind: wanted.kind,
            question: wanted.question.clone(),
            choices,
            subject: Subject {
                digest: Digest::of(subject.to_string().as_bytes()),
                commit: commit.unwrap_or_default(),
                diff,
                summary: summary(&self.status.stages),
                plan: truncate(&plan.to_string(), 2048),
                cpu_millis: self
                    .status
                    .stages
                    .iter()
                    .filter_map(|stage| stage.usage)
                    .fold(0, |sum: u64, usage| sum.saturating_add(usage.cpu_millis))
                    .min(limit::COUNT),
                cost: self.status.cost.clone(),
            },
            self_approval: wanted.self_approval,
            requested_by: spec.requested_by.clone().unwrap_or_default(),
            expires_at: asked_at.plus_seconds(wanted.expires_seconds.into()),
            decision: None,
        }
    }
}

/// What expressions read as `approval` while nobody has decided.
fn undecided() -> Value {
    json!({"by": "", "comment": "", "answer": ""})
}

/// The same for the same question about the same thing.
fn approval_name(request: &ApprovalSpec) -> String {
    let ApprovalSpec {
        workflow,
        workflow_uid,
        stage,
        run,
        round,
        subject,
        ..
    } = request;
    let question = format!("{workflow_uid}/{stage}/{run}/{round}/{}", subject.digest);
    name::approval(workflow, stage, &question)
}

/// What a commit changes, as `git diff --stat` would end and then begin.
fn diff(workspace: &WorkspaceRef) -> String {
    let Some(Changes {
        base,
        files,
        insertions,
        deletions,
        stat,
    }) = &workspace.changes
    else {
        return String::new();
    };
    let since = match base {
        Some(base) => format!("since {}", base.get(..12).unwrap_or(base)),
        None => "since there was nothing".to_owned(),
    };
    let counted = |count: u64, what| counted(usize::try_from(count).unwrap_or(usize::MAX), what);
    let totals = format!(
        "{} changed, {}(+), {}(-) {since}",
        counted(*files, "file"),
        counted(*insertions, "insertion"),
        counted(*deletions, "deletion"),
    );
    format!("{totals}\n{stat}").trim_end().to_owned()
}

/// What the stages before made and found, a line for each.
fn summary(stages: &[StageStatus]) -> String {
    let done = stages
        .iter()
        .filter(|stage| stage.phase == StagePhase::Succeeded && stage.name != INITIALIZE);
    let lines: Vec<String> = done
        .map(|stage| {
            let gates = match stage.gates.iter().filter(|gate| gate.passed).count() {
                0 => String::new(),
                passed => format!(" ({passed} of {} gates hold)", stage.gates.len()),
            };
            format!(
                "{}: {}{gates}",
                stage.name,
                truncate(&one_line(&stage.summary), 200)
            )
        })
        .collect();
    truncate(&lines.join("\n"), limit::CONDITION_BYTES)
}
