//! The course of a deployment, from the survey to a release that is well or one that was rolled back.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use stagecraft_api::StructuredError;
use tokio::time::Instant;

use super::cluster::{Cluster, ClusterError};
use super::diagnosis;
use super::failure::{self, Outcome, Trouble};
use super::fence::{self, Denial};
use super::health;
use super::places::Runner;
use super::release::{Release, Rollback, Writer};
use super::wait::{self, WaitError};

/// Annotation of the controller: how many releases there were.
const REVISION: &str = "deployment.kubernetes.io/revision";
/// The application is asked at least this long, also when the rollout has taken all of its time.
const HEALTH_LEAST: Duration = Duration::from_secs(10);
/// Longest time that is kept for a rollback.
const RESERVE: Duration = Duration::from_mins(1);
/// What is left at the end to hand in the result.
const LAST: Duration = Duration::from_secs(5);

/// One deployment with everything that it needs.
pub struct Course<'course> {
    pub cluster: &'course Cluster,
    pub runner: &'course Runner,
    pub http: &'course reqwest::Client,
    /// Port of the Service.
    pub port: u16,
    pub writer: Writer,
    pub release: Release,
    /// When the attempt is over.
    pub deadline: Instant,
}

/// A release that is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// How long the application took to answer.
    pub answered_in: Duration,
    pub revision: Option<String>,
    /// The image that was well before.
    pub previous: Option<String>,
}

/// Why a release is not taken for well.
enum Unwell {
    Trouble(Trouble),
    Superseded(Denial),
}

impl Course<'_> {
    /// Deploys; rolls back when the application is not well.
    pub async fn run(&self) -> Result<Done, StructuredError> {
        let before = settle(self.cluster.survey(&self.writer).await)?;
        let service = settle(self.cluster.write_service(&self.writer).await)?;
        let written = self.cluster.write_deployment(&self.writer, &self.release, None);
        let written = settle(written.await)?;
        let previous = before
            .and_then(|before| fence::last_good(&before.metadata))
            .map(|good| good.image);
        let wanted = Duration::from_secs(self.release.rollout_timeout_seconds.into());
        let now = Instant::now();
        let until = now + rollout_time(self.deadline.saturating_duration_since(now), wanted);
        match self.become_well(&service, until).await {
            Ok((deployment, answered_in)) => {
                let good = Some(&self.release);
                let kept = self.cluster.rewrite_deployment(&self.writer, &self.release, good);
                settle(kept.await)?;
                Ok(Done {
                    answered_in,
                    revision: revision(&deployment.metadata),
                    previous,
                })
            }
            Err(Unwell::Superseded(denial)) => Err(denial.structured()),
            Err(Unwell::Trouble(trouble)) => Err(self.give_up(&written, &trouble).await),
        }
    }

    async fn become_well(&self, service: &Service, until: Instant) -> Result<(Deployment, Duration), Unwell> {
        let rollout = wait::rollout(self.cluster, &self.writer, &self.release, until, self.runner);
        let deployment = rollout.await.map_err(|error| match error {
            WaitError::Failed(cause) => Unwell::Trouble(Trouble::Rollout(cause)),
            WaitError::Superseded(denial) => Unwell::Superseded(denial),
        })?;
        let last = self.deadline.checked_sub(LAST).unwrap_or(self.deadline);
        let until = until.max(Instant::now() + HEALTH_LEAST).min(last);
        let path = &self.release.health_path;
        let answered_in = health::check(self.http, service, self.port, path, until)
            .await
            .map_err(|error| Unwell::Trouble(Trouble::Health(error)))?;
        Ok((deployment, answered_in))
    }

    /// Finds out why, before the Pods are gone, and rolls back.
    async fn give_up(&self, written: &Deployment, trouble: &Trouble) -> StructuredError {
        self.runner.tell(&format!("not well: {}", trouble.reason())).await;
        let diagnosis = diagnosis::collect(self.cluster, &self.release).await;
        for line in diagnosis.events.iter().chain(&diagnosis.log) {
            println!("deployment: {line}");
        }
        let last_good = fence::last_good(&written.metadata);
        let outcome = self.roll_back(Rollback::from(&self.release, last_good)).await;
        failure::structured(&self.cluster.place, &self.release, trouble, &outcome, &diagnosis)
    }

    async fn roll_back(&self, rollback: Rollback) -> Outcome {
        let left = |error: ClusterError| Outcome::Left(stagecraft_api::error::chain(&error));
        match rollback {
            Rollback::Keep => Outcome::Kept,
            Rollback::Remove => match self.cluster.remove(&self.writer).await {
                Ok(service) => Outcome::Removed { service },
                Err(error) => left(error),
            },
            Rollback::To(good) => {
                self.runner
                    .tell(&format!("rolling back to {}", good.shown()))
                    .await;
                if let Err(error) = self.cluster.rewrite_deployment(&self.writer, &good, None).await {
                    return left(error);
                }
                let until = self.deadline.checked_sub(LAST).unwrap_or(self.deadline);
                let until = until.min(Instant::now() + 2 * RESERVE);
                let rollout = wait::rollout(self.cluster, &self.writer, &good, until, self.runner);
                let trouble = rollout.await.err().map(|error| error.to_string());
                Outcome::RolledBack { to: good, trouble }
            }
        }
    }
}

fn settle<T>(outcome: Result<T, ClusterError>) -> Result<T, StructuredError> {
    outcome.map_err(|error| error.structured())
}

/// A number, as the controller writes it.
pub fn revision(deployment: &ObjectMeta) -> Option<String> {
    let text = deployment.annotations.as_ref()?.get(REVISION)?;
    text.parse::<u64>()
        .is_ok()
        .then(|| text.clone())
        .filter(|text| text.len() <= 20)
}

/// How long a rollout may take: what the payload allows, but never so long that no time is left to roll back.
fn rollout_time(left: Duration, wanted: Duration) -> Duration {
    let reserve = (left / 4).min(RESERVE);
    wanted.min(left.saturating_sub(reserve))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_leaves_time_to_roll_back() {
        for (left, wanted, expected) in [(600, 120, 120), (600, 3600, 540), (100, 120, 75), (0, 120, 0)] {
            let time = rollout_time(Duration::from_secs(left), Duration::from_secs(wanted));
            assert_eq!(time, Duration::from_secs(expected), "{left} {wanted}");
        }
    }
}
