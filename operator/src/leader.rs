//! Leader election by a Lease. Correctness never depends on it: status patches are fenced by resourceVersion. It spares
//! work, and keeps two operators from burning each other's attempts.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use stagecraft_api::Moment;

/// Name of the Lease.
pub const LEASE: &str = "stagecraft-operator";
/// How long a lease holds without renewal.
const HOLD: Duration = Duration::from_secs(15);
/// How often it is renewed, and asked for.
const RENEW: Duration = Duration::from_secs(3);
/// Without a renewal for this long the leader stops: before another can begin.
const GIVE_UP: Duration = Duration::from_secs(10);

pub struct Election {
    api: Api<Lease>,
    name: &'static str,
    identity: String,
}

impl Election {
    pub fn new(client: Client, namespace: &str, identity: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: LEASE,
            identity: identity.to_owned(),
        }
    }

    /// Waits until this process leads.
    pub async fn win(&self) {
        let mut told = String::new();
        loop {
            match self.try_hold().await {
                Ok(Held::Mine) => return,
                Ok(Held::Other(holder)) if holder != told => {
                    tracing::info!(holder, "another operator leads; waiting");
                    told = holder;
                }
                Ok(Held::Other(_)) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be asked for; trying again"),
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    /// Renews until that fails for too long or somebody else leads: then this process must stop.
    pub async fn keep(&self) {
        let mut renewed = tokio::time::Instant::now();
        while renewed.elapsed() < GIVE_UP {
            tokio::time::sleep(RENEW).await;
            match tokio::time::timeout(RENEW, self.try_hold()).await {
                Ok(Ok(Held::Mine)) => renewed = tokio::time::Instant::now(),
                Ok(Ok(Held::Other(holder))) => {
                    tracing::warn!(holder, "another operator took the lease");
                    return;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the lease could not be renewed"),
                Err(_) => tracing::warn!("renewing the lease took too long"),
            }
        }
        tracing::error!("the lease could not be renewed for {} s", GIVE_UP.as_secs());
    }

    /// Lets the next leader begin at once.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.api.get_opt(self.name).await else {
            return;
        };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() == Some(&self.identity) {
            spec.holder_identity = None;
            if let Err(error) = self.api.replace(self.name, &PostParams::default(), &lease).await {
                tracing::debug!(%error, "the lease was not released; it expires by itself");
            }
        }
    }

    async fn try_hold(&self) -> Result<Held, kube::Error> {
        let now = Moment::now();
        let Some(lease) = self.api.get_opt(self.name).await? else {
            let lease = self.lease(None, now);
            return settle(self.api.create(&PostParams::default(), &lease).await);
        };
        match decide(&lease, &self.identity, now) {
            Held::Other(holder) => Ok(Held::Other(holder)),
            Held::Mine => {
                let mine = self.lease(Some(&lease), now);
                settle(self.api.replace(self.name, &PostParams::default(), &mine).await)
            }
        }
    }

    fn lease(&self, before: Option<&Lease>, now: Moment) -> Lease {
        let spec = before.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let mine = spec.holder_identity.as_deref() == Some(&self.identity);
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                resource_version: before.and_then(kube::ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(HOLD.as_secs()).ok(),
                acquire_time: if mine {
                    spec.acquire_time
                } else {
                    Some(MicroTime(now.timestamp()))
                },
                renew_time: Some(MicroTime(now.timestamp())),
                lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!mine)),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// Whose the lease is, or may become.
#[derive(Debug, PartialEq, Eq)]
enum Held {
    Mine,
    Other(String),
}

/// A lost race means that somebody else holds it.
fn settle(answer: Result<Lease, kube::Error>) -> Result<Held, kube::Error> {
    match answer {
        Ok(_) => Ok(Held::Mine),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(Held::Other("a quicker one".to_owned()))
        }
        Err(error) => Err(error),
    }
}

/// A lease is mine when I hold it, or when nobody does in time.
fn decide(lease: &Lease, me: &str, now: Moment) -> Held {
    let spec = lease.spec.clone().unwrap_or_default();
    let Some(holder) = spec.holder_identity.filter(|holder| !holder.is_empty()) else {
        return Held::Mine;
    };
    let hold = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let expired = spec
        .renew_time
        .is_none_or(|renewed| Moment::new(renewed.0).plus_seconds(hold) < now);
    if holder == me || expired {
        Held::Mine
    } else {
        Held::Other(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed_seconds_ago: i64) -> (Lease, Moment) {
        let now = Moment::now();
        let renewed = now.timestamp() - jiff::SignedDuration::from_secs(renewed_seconds_ago);
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        };
        (
            Lease {
                metadata: ObjectMeta::default(),
                spec: Some(spec),
            },
            now,
        )
    }

    #[test]
    fn a_lease_is_taken_only_when_free_or_expired() {
        for (holder, ago, mine) in [
            ("me", 1, true),
            ("other", 1, false),
            ("other", 16, true),
            ("", 1, true),
        ] {
            let (lease, now) = lease(holder, ago);
            assert_eq!(decide(&lease, "me", now) == Held::Mine, mine, "{holder} {ago}");
        }
    }
}
