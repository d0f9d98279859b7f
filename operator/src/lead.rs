//! Everything that the leader does, over whatever is outside of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures::channel::mpsc::unbounded;
use kube::Client;
use kube::api::Api;
use kube::runtime::controller::Controller;
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::watcher;
use stagecraft_api::{Agent, ModelProvider, Moment, Workflow, WorkflowTemplate};
use stagecraft_core::Settings;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::children::Children;
use crate::clock::Clock;
use crate::controller::{self, Context, Guarded};
use crate::gateway::Gateway;
use crate::job::PodSettings;
use crate::metrics::Metrics;
use crate::permissions::ModelKeys;
use crate::providers::look_after;
use crate::queue::{Depth, Queue};
use crate::redis_link::RedisLink;
use crate::result_stream;
use crate::results::Results;
use crate::runs::Runs;
use crate::watch::{watch_catalog, watch_children, watch_deletions};
use crate::{install, sweep};

/// All that the operator acts upon, or asks.
#[derive(Clone)]
pub struct Outside {
    pub client: Client,
    pub redis: Arc<dyn RedisLink>,
    pub gateway: Arc<dyn Gateway>,
    pub clock: Clock,
}

/// What the leader is told about its release.
#[derive(Clone)]
pub struct Release {
    pub namespace: String,
    /// Name of the operator's Pod.
    pub identity: String,
    pub toolchain_image: String,
    /// ClusterRole of stages that deploy.
    pub deployer_cluster_role: String,
    pub model_keys: ModelKeys,
    /// Workflows that are reconciled at once.
    pub concurrency: u16,
    pub pod: PodSettings,
    pub settings: Settings,
}

/// Leads until `stop`. Nothing of it goes on once this future is dropped.
pub async fn lead(
    outside: Outside,
    release: Release,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Outside {
        client,
        redis,
        gateway,
        clock,
    } = outside;
    install::built_ins(&client, &release.namespace, &release.toolchain_image)
        .await
        .context("the built-ins cannot be installed")?;

    let mut tasks = JoinSet::new();
    let controller = Controller::new(Api::<Guarded>::all(client.clone()), watcher::Config::default());
    let (wake, triggers) = unbounded();
    let (jobs, pods) = (Arc::new(Children::default()), Arc::new(Children::default()));
    let approvals = Arc::new(Children::default());
    let workflows = controller.store();
    let agents = watch_catalog::<Agent>(&mut tasks, &client, workflows.clone(), wake.clone()).await?;
    let templates =
        watch_catalog::<WorkflowTemplate>(&mut tasks, &client, workflows.clone(), wake.clone()).await?;
    let providers =
        watch_catalog::<ModelProvider>(&mut tasks, &client, workflows.clone(), wake.clone()).await?;
    watch_children(&mut tasks, &client, jobs.clone(), wake.clone()).await?;
    watch_children(&mut tasks, &client, pods.clone(), wake.clone()).await?;
    watch_children(&mut tasks, &client, approvals.clone(), wake.clone()).await?;

    let results = Arc::new(Results::default());
    let admission = Arc::new(Admission::new(
        release.settings.clone(),
        clock.clone(),
        wake.clone(),
    ));
    let context = Arc::new(Context {
        recorder: Recorder::new(
            client.clone(),
            Reporter {
                controller: "stagecraft-operator".to_owned(),
                instance: Some(release.identity.clone()),
            },
        ),
        client: client.clone(),
        namespace: release.namespace,
        settings: release.settings,
        pod: release.pod,
        deployer_cluster_role: release.deployer_cluster_role,
        model_keys: release.model_keys,
        jobs,
        pods,
        approvals,
        agents,
        templates,
        providers,
        store: workflows,
        written: crate::written::Written::default(),
        usages: crate::usages::Usages::default(),
        reports: crate::providers::Reports::default(),
        runs: Runs::default(),
        refusals: crate::refusals::Refusals::default(),
        admission: admission.clone(),
        results: results.clone(),
        queue: Arc::new(Queue::new(redis.clone())),
        gateway,
        clock,
        metrics,
    });
    tasks.spawn(result_stream::listen(
        results,
        redis,
        release.identity,
        wake.clone(),
    ));
    tasks.spawn(look_after(context.clone(), wake));
    tasks.spawn(sweep::sweep(context.clone()));
    tasks.spawn(watch_deletions(client, context.clone()));
    tasks.spawn(admission.tell());
    tasks.spawn(measure(context.clone()));
    let work = controller::run(
        controller,
        context,
        triggers,
        release.concurrency,
        stop.cancelled_owned(),
    );
    tokio::select! {
        () = work => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Ok(()) | Err(_) => Err(TaskEnded.into()),
        },
    }
}

/// What runs beside the controller has no end of its own: without it, the operator would go on and miss what it does.
#[derive(Debug, thiserror::Error)]
#[error("a task of the operator has ended, and with it the operator: it starts anew")]
pub struct TaskEnded;

/// Keeps the gauges fresh.
async fn measure(context: Arc<Context>) {
    // A phase that was counted once goes back to 0.
    let mut workflows: BTreeMap<&'static str, i64> = BTreeMap::new();
    let mut stages: BTreeMap<&'static str, i64> = BTreeMap::new();
    loop {
        let metrics = &context.metrics;
        if let Ok((depths, results)) = context.queue.depths().await {
            let now = context.clock.now();
            // Several agents may share one label.
            let mut queues: BTreeMap<String, (i64, i64)> = BTreeMap::new();
            for Depth { agent, tasks, oldest } in depths {
                let (depth, age) = queues.entry(metrics.label_of(&agent)).or_default();
                *depth = depth.saturating_add(tasks);
                *age = (*age).max(oldest.map_or(0, |oldest| seconds(oldest, now)));
            }
            for (agent, (depth, age)) in queues {
                metrics.queue_depth.with_label_values(&[&agent]).set(depth);
                metrics.queue_oldest.with_label_values(&[&agent]).set(age);
            }
            metrics.results_lag.set(results);
        }
        metrics.redis_up.set(i64::from(context.queue.is_healthy()));
        let (held, oldest) = context.admission.waiting();
        metrics.stages_held.set(i64::try_from(held).unwrap_or(i64::MAX));
        let waited = oldest.map_or(0, |oldest| seconds(oldest, context.clock.now()));
        metrics.stages_held_oldest.set(waited);
        for count in workflows.values_mut().chain(stages.values_mut()) {
            *count = 0;
        }
        context.each_workflow(|workflow| {
            *workflows.entry(phase(workflow)).or_default() += 1;
            let status = workflow
                .status
                .iter()
                .filter(|status| !status.phase.is_terminal());
            for stage in status.flat_map(|status| &status.stages) {
                *stages.entry(stage.phase.as_str()).or_default() += 1;
            }
        });
        // Each is set at once, so that nobody reads one that is half counted.
        for (gauges, counts) in [(&metrics.workflows, &workflows), (&metrics.stages, &stages)] {
            for (phase, count) in counts {
                gauges.with_label_values(&[phase]).set(*count);
            }
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Whole seconds from one moment to another.
fn seconds(from: Moment, to: Moment) -> i64 {
    i64::try_from(to.millis_since(from) / 1000).unwrap_or(i64::MAX)
}

fn phase(workflow: &Workflow) -> &'static str {
    workflow
        .status
        .as_ref()
        .map(|status| status.phase)
        .unwrap_or_default()
        .as_str()
}
