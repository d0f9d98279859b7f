//! Jobs and Pods, their controllers, and what befalls them.

use std::collections::BTreeMap;

use stagecraft_api::attempt::AttemptKey;
use stagecraft_api::moment::Moment;
use stagecraft_core::observation::{ContainerEnd, JobEvidence, OpenJob, PodEvidence, PodPhase};

use crate::generator::Generator;
use crate::world::{Reply, Weather, World};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    pub jobs: BTreeMap<String, Job>,
    /// By the name of their Job: there is never more than one.
    pub pods: BTreeMap<String, Pod>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub key: AttemptKey,
    pod_made: bool,
    end: Option<JobEnd>,
    deleting: bool,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobEnd {
    Complete,
    Failed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    pub key: AttemptKey,
    phase: PodPhase,
    deleting_since: Option<Moment>,
    node_lost_since: Option<Moment>,
    evicted: bool,
    agent_end: Option<(i32, &'static str)>,
    /// Its Job was deleted without it.
    orphan: bool,
    reported: bool,
    fate: Fate,
}

/// What becomes of a Job and its Pod if nothing befalls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// A quota or the like keeps it from having a Pod.
    StayWithoutPod,
    Succeed,
    Fail,
    Crash,
    RunOutOfMemory,
    /// Neither agent nor runner ever end.
    Hang,
    /// The agent ends, the runner never does.
    Linger,
}

impl Cluster {
    pub fn create(&mut self, name: &str, key: &AttemptKey, generator: &mut Generator, weather: Weather) {
        let fates: &[Fate] = match weather {
            Weather::Calm => &[Fate::Succeed, Fate::Succeed, Fate::Succeed, Fate::Fail],
            Weather::Storm => &[
                Fate::StayWithoutPod,
                Fate::Succeed,
                Fate::Succeed,
                Fate::Succeed,
                Fate::Succeed,
                Fate::Succeed,
                Fate::Fail,
                Fate::Crash,
                Fate::RunOutOfMemory,
                Fate::Hang,
                Fate::Linger,
            ],
        };
        self.jobs.insert(
            name.to_owned(),
            Job {
                key: key.clone(),
                pod_made: false,
                end: None,
                deleting: false,
                fate: generator.pick(fates).unwrap_or(Fate::Succeed),
            },
        );
    }

    /// What `Action::Close` promises: the Job goes, and so do its Pods.
    pub fn close(&mut self, name: &str, now: Moment) {
        self.jobs.remove(name);
        if let Some(pod) = self.pods.get_mut(name) {
            pod.deleting_since = pod.deleting_since.or(Some(now));
        }
    }

    pub fn job(&self, name: &str, seen: bool) -> JobEvidence {
        let Some(job) = self.jobs.get(name) else {
            return JobEvidence::Missing { seen_before: seen };
        };
        let quota = job.fate == Fate::StayWithoutPod;
        JobEvidence::Present {
            failure: (job.end == Some(JobEnd::Failed)).then(|| "BackoffLimitExceeded".to_owned()),
            complete: job.end == Some(JobEnd::Complete),
            deleting: job.deleting,
            trouble: quota.then(|| "exceeded quota".to_owned()),
        }
    }

    pub fn pod(&self, name: &str) -> Option<PodEvidence> {
        self.pods.get(name).map(|pod| PodEvidence {
            name: name.to_owned(),
            phase: pod.phase,
            deleting_since: pod.deleting_since,
            node_lost_since: pod.node_lost_since,
            reason: pod
                .evicted
                .then(|| "Evicted: The node was low on resource: memory.".to_owned()),
            trouble: None,
            agent_end: pod.agent_end.map(|(exit_code, reason)| ContainerEnd {
                exit_code,
                reason: reason.to_owned(),
                message: String::new(),
            }),
        })
    }

    pub fn open_jobs(&self) -> Vec<OpenJob> {
        let jobs = self.jobs.iter().filter(|(_, job)| job.end.is_none());
        let jobs = jobs.map(|(name, job)| (name, &job.key, job.deleting));
        let left = |name: &String, pod: &Pod| !pod.ended() && !self.jobs.contains_key(name);
        let pods = self.pods.iter().filter(|(name, pod)| left(name, pod));
        let pods = pods.map(|(name, pod)| (name, &pod.key, pod.deleting_since.is_some()));
        jobs.chain(pods)
            .map(|(name, key, deleting)| OpenJob {
                name: name.clone(),
                stage: key.stage.clone(),
                attempt: key.attempt,
                deleting,
            })
            .collect()
    }

    pub fn bring_nodes_back(&mut self) {
        for pod in self.pods.values_mut() {
            pod.node_lost_since = None;
        }
    }

    /// Whether something still works.
    pub fn is_busy(&self) -> bool {
        !self.open_jobs().is_empty()
    }
}

impl Pod {
    fn ended(&self) -> bool {
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
    }
}

impl World {
    /// One step of the Job's controller, the garbage collector and the kubelet for each Job and Pod, or for some.
    pub fn run_cluster(&mut self, all: bool) {
        let jobs: Vec<String> = self.cluster.jobs.keys().cloned().collect();
        for name in jobs {
            if all || self.generator.one_in(2) {
                self.step_job(&name);
            }
        }
        let pods: Vec<String> = self.cluster.pods.keys().cloned().collect();
        for name in pods {
            if all || self.generator.one_in(2) {
                self.step_pod(&name);
            }
        }
    }

    fn step_job(&mut self, name: &str) {
        let Cluster { jobs, pods } = &mut self.cluster;
        let Some(job) = jobs.get_mut(name) else { return };
        let pod = pods.get_mut(name);
        match pod {
            None if job.deleting => {
                jobs.remove(name);
            }
            None if job.pod_made => job.end = job.end.or(Some(JobEnd::Failed)),
            None if job.fate != Fate::StayWithoutPod => {
                job.pod_made = true;
                let pod = Pod {
                    key: job.key.clone(),
                    phase: PodPhase::Pending,
                    deleting_since: None,
                    node_lost_since: None,
                    evicted: false,
                    agent_end: None,
                    orphan: false,
                    reported: false,
                    fate: job.fate,
                };
                pods.insert(name.to_owned(), pod);
            }
            Some(pod) if job.deleting => pod.deleting_since = pod.deleting_since.or(Some(self.now)),
            Some(pod) if pod.phase == PodPhase::Failed => job.end = Some(JobEnd::Failed),
            Some(pod) if pod.phase == PodPhase::Succeeded => job.end = Some(JobEnd::Complete),
            Some(_) | None => {}
        }
    }

    fn step_pod(&mut self, name: &str) {
        let now = self.now;
        let has_job = self.cluster.jobs.contains_key(name);
        let Some(mut pod) = self.cluster.pods.remove(name) else {
            return;
        };
        if !has_job && !pod.orphan {
            pod.deleting_since = pod.deleting_since.or(Some(now));
        }
        if pod.node_lost_since.is_some() {
            // Nobody hears of it until the node comes back, or somebody deletes it by force.
            if self.generator.one_in(200) {
                pod.node_lost_since = None;
            }
            self.cluster.pods.insert(name.to_owned(), pod);
            return;
        }
        let leaves_at = pod.deleting_since.map(|since| since.plus_seconds(120));
        if pod.ended() {
            let gone = pod.deleting_since.is_some();
            if !gone {
                self.cluster.pods.insert(name.to_owned(), pod);
            }
            return;
        }
        match pod.phase {
            PodPhase::Pending if pod.deleting_since.is_none() => pod.phase = PodPhase::Running,
            PodPhase::Pending => pod.phase = PodPhase::Failed,
            // Work takes a while, in which things may befall it.
            _ if self.generator.one_in(3) => self.work(&mut pod, has_job),
            _ => {}
        }
        if leaves_at.is_some_and(|at| at <= now) {
            pod.phase = PodPhase::Failed;
        }
        self.cluster.pods.insert(name.to_owned(), pod);
    }

    /// A result is handed in before the Pod ends.
    fn work(&mut self, pod: &mut Pod, has_job: bool) {
        let terminated = pod.deleting_since.is_some();
        match pod.fate {
            Fate::Succeed | Fate::Fail if pod.reported => {
                pod.phase = PodPhase::Succeeded;
                pod.agent_end = Some((0, "Completed"));
            }
            Fate::Succeed | Fate::Fail if has_job => {
                let good = pod.fate == Fate::Succeed;
                let reply = self.report(&pod.key, good);
                let key = pod.key.clone();
                self.note(|| format!("{key} reports {good}: {reply:?}"));
                match reply {
                    Reply::Stored => pod.reported = true,
                    Reply::Unavailable => {}
                    Reply::Refused => pod.phase = PodPhase::Failed,
                }
            }
            Fate::Succeed | Fate::Fail => pod.phase = PodPhase::Failed,
            Fate::Crash => {
                pod.phase = PodPhase::Failed;
                pod.agent_end = Some((3, "Error"));
            }
            Fate::RunOutOfMemory => {
                pod.phase = PodPhase::Failed;
                pod.agent_end = Some((137, "OOMKilled"));
            }
            Fate::Linger if !terminated => pod.agent_end = Some((1, "Error")),
            // SIGTERM is ignored; SIGKILL comes when the grace is over.
            Fate::Linger | Fate::Hang | Fate::StayWithoutPod => {}
        }
    }

    /// Something befalls a Job or a Pod.
    pub fn strike(&mut self) {
        let jobs: Vec<String> = self.cluster.jobs.keys().cloned().collect();
        let pods: Vec<String> = self.cluster.pods.keys().cloned().collect();
        let now = self.now;
        let (job, pod) = (self.generator.pick(&jobs), self.generator.pick(&pods));
        let what = self.generator.below(9);
        let (job, pod) = (job.unwrap_or_default(), pod.unwrap_or_default());
        self.note(|| format!("strike {what} at Job {job:?}, Pod {pod:?}"));
        let Cluster { jobs, pods } = &mut self.cluster;
        match what {
            // kubectl delete job
            0 => {
                jobs.remove(&job);
            }
            // --cascade=orphan
            1 => {
                jobs.remove(&job);
                if let Some(pod) = pods.get_mut(&job) {
                    pod.orphan = true;
                }
            }
            // --cascade=foreground
            2 => {
                if let Some(job) = jobs.get_mut(&job) {
                    job.deleting = true;
                }
            }
            3 => {
                if let Some(pod) = pods.get_mut(&pod) {
                    pod.deleting_since = pod.deleting_since.or(Some(now));
                }
            }
            // --force, or the garbage collector of Pods whose node is gone.
            4 => {
                pods.remove(&pod);
            }
            5 => {
                if let Some(pod) = pods.get_mut(&pod).filter(|pod| !pod.ended()) {
                    pod.phase = PodPhase::Failed;
                    pod.evicted = true;
                }
            }
            _ => {
                if let Some(pod) = pods.get_mut(&pod).filter(|pod| !pod.ended()) {
                    pod.node_lost_since = pod.node_lost_since.or(Some(now));
                }
            }
        }
    }
}
