//! The loop: observe, plan, apply, until there is nothing left to do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Controller};
use kube::runtime::events::Recorder;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, ResourceExt as _};
use stagecraft_api::run::Run;
use stagecraft_api::status::{StagePhase, StageStatus, WorkflowStatus};
use stagecraft_api::{Approval, Moment, Workflow, name};
use stagecraft_core::observation::RunEvidence;
use stagecraft_core::{Observation, Plan, Settings, plan};

use crate::admission::Admission;
use crate::apply::{Applied, ApplyError, apply};
use crate::children::Children;
use crate::clock::Clock;
use crate::gateway::Gateway;
use crate::install;
use crate::job::PodSettings;
use crate::metrics::Metrics;
use crate::observe::{Agents, ObserveError, Providers, Templates, observe};
use crate::permissions::ModelKeys;
use crate::providers::Reports;
use crate::queue::Queue;
use crate::refusals::Refusals;
use crate::results::Results;
use crate::runs::Runs;
use crate::usages::Usages;
use crate::written::Written;

/// A Workflow that may not be decodable: one of those must not stop the others.
pub type Guarded = DeserializeGuard<Workflow>;

/// Everything that a reconciliation needs.
pub struct Context {
    pub client: Client,
    /// Namespace of the release.
    pub namespace: String,
    pub settings: Settings,
    pub pod: PodSettings,
    /// ClusterRole of stages that deploy.
    pub deployer_cluster_role: String,
    pub model_keys: ModelKeys,
    pub jobs: Arc<Children<Job>>,
    pub pods: Arc<Children<Pod>>,
    pub approvals: Arc<Children<Approval>>,
    pub agents: Agents,
    pub templates: Templates,
    pub providers: Providers,
    pub store: Store<Guarded>,
    pub written: Written,
    pub runs: Runs,
    pub refusals: Refusals,
    pub usages: Usages,
    pub reports: Reports,
    pub admission: Arc<Admission>,
    pub results: Arc<Results>,
    pub queue: Arc<Queue>,
    pub gateway: Arc<dyn Gateway>,
    pub clock: Clock,
    pub recorder: Recorder,
    pub metrics: Arc<Metrics>,
}

impl Context {
    /// Shows every Workflow that can be decoded, without copying any.
    pub fn each_workflow(&self, mut show: impl FnMut(&Workflow)) {
        for object in self.store.state() {
            if let Ok(workflow) = &object.0 {
                show(workflow);
            }
        }
    }

    /// Every Workflow that can be decoded, by namespace and name.
    pub fn workflows(&self) -> Vec<Arc<Workflow>> {
        let all = self.store.state().into_iter();
        let mut workflows: Vec<Arc<Workflow>> = all
            .filter_map(|object| object.0.clone().ok())
            .map(Arc::new)
            .collect();
        workflows.sort_by_key(|workflow| (workflow.namespace(), workflow.name_any()));
        workflows
    }
}

/// What went wrong in one reconciliation. It is tried again after a backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("observing failed")]
    Observe(#[from] ObserveError),
    #[error("applying failed")]
    Apply(#[from] ApplyError),
    #[error("an undecodable Workflow could not be marked")]
    Mark(#[source] kube::Error),
}

impl ReconcileError {
    /// For metrics: which step failed.
    fn step(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Apply(_) => "apply",
            Self::Mark(_) => "mark",
        }
    }

    /// For metrics: why, as far as the API server's answer tells.
    fn reason(&self) -> &'static str {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<kube::Error>() {
                return reason(error);
            }
            cause = error.source();
        }
        "other"
    }
}

fn reason(error: &kube::Error) -> &'static str {
    let kube::Error::Api(status) = error else {
        return "unreachable";
    };
    match status.code {
        403 => "forbidden",
        404 => "not_found",
        409 => "conflict",
        422 => "invalid",
        429 => "throttled",
        500.. => "server",
        _ => "other",
    }
}

/// Runs the loop until `shutdown`.
pub async fn run(
    controller: Controller<Guarded>,
    context: Arc<Context>,
    triggers: impl Stream<Item = ObjectRef<Guarded>> + Send + 'static,
    concurrency: u16,
    shutdown: impl Future<Output = ()> + Send + Sync + 'static,
) {
    controller
        .with_config(controller::Config::default().concurrency(concurrency))
        .reconcile_on(triggers)
        .graceful_shutdown_on(shutdown)
        .run(reconcile, after_error, context)
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "reconciliation ended");
            }
        })
        .await;
}

/// Most turns of one reconciliation. A Workflow needs three at the most; the rest wait for their next turn.
const TURNS: usize = 8;

async fn reconcile(
    object: Arc<Guarded>,
    context: Arc<Context>,
) -> Result<controller::Action, ReconcileError> {
    let timer = context.metrics.reconcile.start_timer();
    let outcome = match &object.0 {
        Ok(workflow) => reconcile_workflow(Arc::new(workflow.clone()), &context).await,
        Err(invalid) => install::mark_undecodable(&context, invalid)
            .await
            .map_err(ReconcileError::Mark),
    };
    timer.observe_duration();
    outcome
}

async fn reconcile_workflow(
    watched: Arc<Workflow>,
    context: &Context,
) -> Result<controller::Action, ReconcileError> {
    if watched.metadata.deletion_timestamp.is_some() {
        return Ok(controller::Action::await_change());
    }
    let mut workflow = context.written.latest(watched);
    let mut live = BTreeSet::new();
    for _ in 0..TURNS {
        let mut observation = observe(context, &workflow, &live).await?;
        context.admission.note(&workflow, pinned(&observation));
        let mut planned = plan(&observation, &context.settings);
        // Kept until what was decided is stored: the next one counts it.
        let _turn = if planned.wants.is_empty() {
            // A plan that only looks closer tells nothing about what is wanted.
            if !planned.only_looks() {
                context.admission.withdraw(&observation.identity.uid);
            }
            None
        } else {
            let turn = context.admission.turn(context).await?;
            let Plan { wants, frees, .. } = &planned;
            observation.admission = context.admission.decide(&workflow, wants, frees, observation.now);
            planned = plan(&observation, &context.settings);
            Some(turn)
        };
        let wake_at = planned.wake_at;
        match apply(context, &workflow, planned).await? {
            Applied::Look(stages) => live.extend(stages),
            Applied::Stored(updated) => {
                workflow = updated;
                context.admission.note(&workflow, pinned(&observation));
                live.clear();
            }
            Applied::Outrun => return Ok(controller::Action::requeue(OUTRUN)),
            Applied::Done => return Ok(rest(context, &workflow, wake_at)),
        }
    }
    Ok(controller::Action::requeue(OUTRUN))
}

fn pinned(observation: &Observation) -> Option<&Run> {
    match &observation.run {
        RunEvidence::Pinned(run) => Some(run),
        RunEvidence::NotPinned(_) | RunEvidence::Lost(_) => None,
    }
}

/// When somebody else wrote first: the watch brings it; this is for when it does not.
const OUTRUN: Duration = Duration::from_millis(100);
/// How often results are asked for while the stream is out of reach.
const DEAF: Duration = Duration::from_secs(2);

fn rest(context: &Context, workflow: &Workflow, wake_at: Option<Moment>) -> controller::Action {
    let running = workflow.status.as_ref().is_some_and(expects_a_result);
    let wait = wake_at.map(|at| Duration::from_millis(at.millis_since(context.clock.now()).max(10)));
    let wait = if running && context.results.is_deaf() {
        Some(wait.map_or(DEAF, |wait| wait.min(DEAF)))
    } else {
        wait
    };
    wait.map_or_else(controller::Action::await_change, controller::Action::requeue)
}

/// Whether an attempt runs. Whoever only waits is woken by what it waits for.
fn expects_a_result(status: &WorkflowStatus) -> bool {
    let runs = |stage: &StageStatus| stage.phase == StagePhase::Running;
    !status.phase.is_terminal() && status.stages.iter().any(runs)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller hands these over by value"
)]
fn after_error(object: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> controller::Action {
    context
        .metrics
        .errors
        .with_label_values(&[error.step(), error.reason()])
        .inc();
    tracing::warn!(
        workflow = object.name_any(),
        namespace = object.namespace().unwrap_or_default(),
        trace_id = name::trace_id(&object.uid().unwrap_or_default()),
        error = error as &dyn std::error::Error,
        "reconciliation failed; trying again"
    );
    controller::Action::requeue(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use kube::core::Status;

    use super::{ReconcileError, expects_a_result};
    use crate::observe::ObserveError;

    #[test]
    fn an_error_is_counted_by_what_the_api_server_said() {
        for (code, expected) in [
            (403, "forbidden"),
            (409, "conflict"),
            (429, "throttled"),
            (503, "server"),
        ] {
            let refused = kube::Error::Api(Box::new(Status::failure("no", "No").with_code(code)));
            let error = ReconcileError::from(ObserveError::Read {
                what: "a Job",
                source: refused,
            });
            assert_eq!((error.step(), error.reason()), ("observe", expected));
        }
        let error = ReconcileError::from(ObserveError::Incomplete("UID"));
        assert_eq!(error.reason(), "other");
    }

    #[test]
    fn only_a_workflow_with_an_attempt_under_way_is_looked_at_while_the_results_are_out_of_reach() {
        let status = |phase: &str, stage: &str| {
            let status = json!({"phase": phase, "stages": [
                {"name": "a", "phase": "Succeeded"}, {"name": "b", "phase": stage}]});
            serde_json::from_value(status).unwrap()
        };
        assert!(expects_a_result(&status("Running", "Running")));
        for (phase, stage) in [
            ("Running", "Pending"),
            ("Running", "Waiting"),
            ("AwaitingApproval", "Pending"),
            ("Failed", "Running"),
        ] {
            assert!(!expects_a_result(&status(phase, stage)), "{phase}, {stage}");
        }
    }
}
