//! One Job with its Pod, from its creation to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, json};
use stagecraft_api::error::{Category, StructuredError};
use stagecraft_api::failure::POD_TERMINATED;
use stagecraft_api::protocol::result_entry;
use stagecraft_api::result::{AttemptResult, Outcome};
use stagecraft_api::{AttemptKey, label, name};
use stagecraft_operator::evidence::JOB_NAME;

use crate::api_server::{Key, Stored};
use crate::gateway::Reply;
use crate::generator::Generator;
use crate::world::{World, sleep};

use super::objects::{container, seconds};

/// Code of what an agent fails with.
pub const AGENT_ERROR: &str = "Broken";

/// What becomes of a Pod if nothing befalls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Succeed,
    Fail,
    /// It ends without a result.
    Crash,
    RunOutOfMemory,
    Evicted,
    /// It never ends by itself.
    Hang,
    /// Its node stops answering.
    NodeLost,
    /// It reports, and does not end.
    Linger,
}

impl Fate {
    fn draw(world: &World, generator: &Generator) -> Self {
        let usual = if generator.percent(92) {
            Self::Succeed
        } else {
            Self::Fail
        };
        if !world.is_storm() {
            return usual;
        }
        match generator.below(100) {
            0..5 => Self::Crash,
            5..8 => Self::RunOutOfMemory,
            8..13 => Self::Evicted,
            13..17 => Self::Hang,
            17..20 => Self::NodeLost,
            20..23 => Self::Linger,
            _ => usual,
        }
    }
}

/// One Job with its Pod.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) world: Arc<World>,
    pub(super) generator: Arc<Generator>,
    pub(super) job: Arc<Stored>,
    attempt: AttemptKey,
    workflow: String,
    pub(super) pod: Key,
    pub(super) pod_uid: String,
}

/// The Pod is gone, or has to go.
struct Gone;

/// What becomes of a Job.
pub async fn work(world: Arc<World>, job: Arc<Stored>) {
    let generator = world.generator.fork();
    sleep(generator.millis(5, 800)).await;
    let Some(mut life) = Life::begin(world, generator, job) else {
        return;
    };
    if life.live().await.is_err() {
        // Its Workflow may have been deleted; the gateway believes what it saw a moment ago.
        life.tell("told to end");
        life.leave().await;
    }
}

impl Life {
    /// The Job controller makes the Pod.
    fn begin(world: Arc<World>, generator: Generator, job: Arc<Stored>) -> Option<Self> {
        let current = world.server.get("jobs", job.namespace(), job.name())?;
        if current.uid() != job.uid() || current.is_deleting() {
            return None;
        }
        let attempt = AttemptKey {
            workflow_uid: job.label(label::WORKFLOW_UID)?.to_owned(),
            stage: job.label(label::STAGE)?.to_owned(),
            attempt: job.label(label::ATTEMPT)?.parse().ok()?,
        };
        let workflow = job.label(label::WORKFLOW)?.to_owned();
        let template = job.value.pointer("/spec/template")?;
        let mut labels = template.pointer("/metadata/labels")?.clone();
        labels
            .as_object_mut()?
            .insert(JOB_NAME.to_owned(), json!(job.name()));
        let owner = json!({
            "apiVersion": "batch/v1", "kind": "Job", "name": job.name(), "uid": job.uid(), "controller": true,
            "blockOwnerDeletion": true,
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": format!("{}-", job.name()), "labels": labels, "ownerReferences": [owner]},
            "spec": {"terminationGracePeriodSeconds": 45},
        });
        let pods = world
            .server
            .get("jobs", job.namespace(), job.name())
            .map(|_| job.namespace().to_owned())?;
        let made = world.server.create(Key::of("pods", &pods, "")?, pod).ok()?;
        let life = Self {
            pod: Key::of("pods", made.namespace(), made.name())?,
            pod_uid: made.uid().to_owned(),
            world,
            generator: Arc::new(generator),
            job,
            attempt,
            workflow,
        };
        life.set_job(&json!({"active": 1}));
        Some(life)
    }

    async fn live(&mut self) -> Result<(), Gone> {
        let (world, generator) = (self.world.clone(), &self.generator);
        self.set_pod("Pending", json!({}));
        if world.strikes(generator, 3) {
            let unscheduled = json!({"conditions": [{
                "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available",
            }]});
            self.set_pod("Pending", unscheduled);
            self.pause(generator.millis(1_000, 20_000)).await?;
        }
        self.pause(generator.millis(20, 1_500)).await?;
        self.set_pod(
            "Running",
            json!({"containerStatuses": [container(&json!({"running": {}}))]}),
        );
        let fate = Fate::draw(&world, generator);
        world.note(|| format!("Pod of {} runs, to {fate:?}", self.attempt));
        if self.until_heard(Life::claim).await? == Reply::Refused {
            return self.end("Failed", 1, "Error").await;
        }
        self.tell("begins");
        self.pause(generator.millis(50, 4_000)).await?;
        match fate {
            Fate::Crash => return self.end("Failed", 1, "Error").await,
            Fate::RunOutOfMemory => return self.end("Failed", 137, "OOMKilled").await,
            Fate::Evicted => return self.evicted().await,
            Fate::Hang => return self.pause_until_gone().await,
            Fate::NodeLost => return self.node_lost().await,
            Fate::Succeed | Fate::Fail | Fate::Linger => {}
        }
        let result = self.result(fate);
        let reply = self.until_heard(|life| life.report(&result)).await?;
        if reply == Reply::Refused {
            return self.end("Failed", 1, "Error").await;
        }
        if fate == Fate::Linger {
            return self.pause_until_gone().await;
        }
        self.pause(generator.millis(5, 400)).await?;
        match result.outcome {
            Outcome::Succeeded { .. } => self.end("Succeeded", 0, "Completed").await,
            Outcome::Failed { .. } => self.end("Failed", 1, "Error").await,
        }
    }

    /// Lets time pass while the Pod may stay.
    async fn pause(&self, time: Duration) -> Result<(), Gone> {
        let until = tokio::time::Instant::now() + time;
        loop {
            self.stays()?;
            let left = until - tokio::time::Instant::now();
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(500))).await;
        }
    }

    async fn pause_until_gone(&self) -> Result<(), Gone> {
        loop {
            self.pause(Duration::from_secs(5)).await?;
        }
    }

    fn stays(&self) -> Result<(), Gone> {
        let found = self.found().ok_or(Gone)?;
        if found.is_deleting() { Err(Gone) } else { Ok(()) }
    }

    pub(super) fn found(&self) -> Option<Arc<Stored>> {
        let found = self
            .world
            .server
            .get("pods", &self.pod.namespace, &self.pod.name)?;
        (found.uid() == self.pod_uid).then_some(found)
    }

    /// Asks the gateway until it answers.
    async fn until_heard(&self, ask: impl Fn(&Self) -> Reply) -> Result<Reply, Gone> {
        loop {
            if self.world.gateway_is_up.load(Ordering::Relaxed) {
                return Ok(ask(self));
            }
            self.pause(Duration::from_secs(1)).await?;
        }
    }

    /// An event of the runner.
    fn tell(&self, message: &str) {
        let world = &self.world;
        if world.gateway_is_up.load(Ordering::Relaxed) && world.redis_is_up.load(Ordering::Relaxed) {
            let stream = name::events(&self.attempt.workflow_uid);
            world.redis.add(&stream, &[("message", message)]);
        }
    }

    fn claim(&self) -> Reply {
        let namespace = &self.pod.namespace;
        self.world.store.claim(namespace, &self.workflow, &self.attempt)
    }

    fn report(&self, result: &AttemptResult) -> Reply {
        let (world, namespace) = (&self.world, &self.pod.namespace);
        let reply = world.store.report(namespace, &self.workflow, result);
        if reply == Reply::Refused {
            world.note(|| format!("the result of {} is refused", self.attempt));
            world.counts.count("results refused");
            return reply;
        }
        world.note(|| format!("the result of {} is stored", self.attempt));
        // The first one stays, and that is what is announced.
        let Some(result) = world.store.result(&self.attempt) else {
            return reply;
        };
        world.journal.stored(&result);
        if !world.is_storm() {
            self.announce(&result);
            return reply;
        }
        // Not at all, or several times, each when it pleases.
        for copy in 0..self.generator.below(3) {
            let delay = self.generator.pick(&[0, 0, 2_000, 60_000]).unwrap_or(0);
            let delay = self.generator.millis(0, delay);
            let (life, result) = (self.clone(), result.clone());
            tokio::spawn(async move {
                sleep(delay).await;
                life.announce(&result);
            });
            if copy > 0 {
                world.counts.count("results announced again");
            }
        }
        reply
    }

    fn announce(&self, result: &AttemptResult) {
        if !self.world.redis_is_up.load(Ordering::Relaxed) {
            return;
        }
        let text = serde_json::to_string(result).unwrap_or_default();
        let accepted = self.world.now().timestamp().as_millisecond().to_string();
        let fields = [
            (result_entry::NAMESPACE, self.pod.namespace.as_str()),
            (result_entry::WORKFLOW, self.workflow.as_str()),
            (result_entry::RESULT, text.as_str()),
            (result_entry::ACCEPTED_AT, accepted.as_str()),
        ];
        self.world.redis.add(&name::results(), &fields);
    }

    fn result(&self, fate: Fate) -> AttemptResult {
        let outcome = if fate == Fate::Fail {
            let error = StructuredError::new(AGENT_ERROR, Category::Execution, "it broke");
            Outcome::Failed { error }
        } else {
            let quality = u32::try_from(self.generator.below(4)).unwrap_or(0);
            Outcome::Succeeded {
                summary: "done".to_owned(),
                outputs: Map::from_iter([("by".to_owned(), json!(self.pod_uid))]),
                workspace: None,
                artifacts: Vec::new(),
                metrics: BTreeMap::from([("quality".to_owned(), f64::from(quality))]),
            }
        };
        let now = self.world.now();
        AttemptResult {
            attempt: self.attempt.clone(),
            started_at: now,
            finished_at: now,
            usage: None,
            outcome,
        }
    }

    /// The container ends, then the Pod, then the Job.
    async fn end(&self, phase: &str, exit_code: i32, reason: &str) -> Result<(), Gone> {
        let state = json!({"terminated": {"exitCode": exit_code, "reason": reason}});
        self.set_pod(phase, json!({"containerStatuses": [container(&state)]}));
        sleep(self.generator.millis(5, 1_500)).await;
        self.close_job(phase == "Succeeded");
        Ok(())
    }

    async fn evicted(&self) -> Result<(), Gone> {
        self.set_pod(
            "Failed",
            json!({"reason": "Evicted", "message": "the node was low on memory"}),
        );
        sleep(self.generator.millis(5, 1_500)).await;
        self.close_job(false);
        Ok(())
    }

    /// Nothing is heard of the Pod any more, though it may work on. Its node comes back with it, or it goes with its node, after the storm
    /// at the latest.
    async fn node_lost(&self) -> Result<(), Gone> {
        let condition = json!({
            "type": "Ready", "status": "False", "reason": "NodeLost", "lastTransitionTime": seconds(self.world.now()),
        });
        let status =
            json!({"conditions": [condition], "containerStatuses": [container(&json!({"running": {}}))]});
        self.set_pod("Running", status);
        while self.world.is_storm() && self.found().is_some() {
            sleep(self.generator.millis(1_000, 10_000)).await;
        }
        if self.generator.percent(30) {
            self.last_word();
        }
        sleep(self.generator.millis(1_000, 60_000)).await;
        if self.generator.percent(30) && self.stays().is_ok() {
            self.world.counts.count("nodes that came back");
            self.last_word();
            return self.end("Failed", 1, "Error").await;
        }
        self.vanish();
        sleep(self.generator.millis(5, 1_500)).await;
        self.close_job(false);
        Ok(())
    }

    /// Ends within its grace, in which it may still report.
    async fn leave(&self) {
        // One that was deleted by force may work on for a moment, too.
        sleep(self.generator.millis(5, 2_000)).await;
        if self.world.is_storm() && self.generator.percent(50) {
            self.last_word();
        }
        if self.found().is_some() {
            sleep(self.generator.millis(10, 20_000)).await;
            self.vanish();
        }
        sleep(self.generator.millis(5, 1_500)).await;
        self.close_job(false);
    }

    /// What the runner reports when its time is over: what it has, or that it was told to end.
    fn last_word(&self) {
        if !self.world.gateway_is_up.load(Ordering::Relaxed) {
            return;
        }
        let mut result = self.result(Fate::Succeed);
        if self.generator.percent(50) {
            let error = StructuredError::new(POD_TERMINATED, Category::Network, "the runner was told to end");
            result.outcome = Outcome::Failed { error };
        }
        self.world.counts.count("results of Pods on their way out");
        self.report(&result);
    }
}
